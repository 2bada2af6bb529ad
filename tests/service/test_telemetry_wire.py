"""Records cross the pipe between worker and sidecar unchanged."""

from hypothesis import given
from hypothesis import strategies as st

from modeltrace.telemetry.records.prediction import BatchRecord, Origin, RequestRecord
from modeltrace.telemetry.records.wire import RecordChunk, RecordDecoder, encode
from tests.helpers.strategies import batches, traffic


@given(traffic(), st.lists(batches(), max_size=2))
def test_records_are_decoded_as_they_were_encoded(
    requests: tuple[Origin, list[RequestRecord]], shared_calls: list[BatchRecord]
) -> None:
    """All fields and nested records are equal, and equal models become one object."""
    chunk = RecordChunk(requests[1], shared_calls)
    decoder = RecordDecoder()
    decoded, again = decoder.decode(encode(chunk)), decoder.decode(encode(chunk))

    # By their text, as NaN does not equal itself.
    assert repr(decoded.requests) == repr(chunk.requests)
    assert repr(decoded.batches) == repr(chunk.batches)
    assert all(one.model is other.model for one, other in zip(decoded.requests, again.requests, strict=True))
