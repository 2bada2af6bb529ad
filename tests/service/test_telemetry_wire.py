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

    assert repr(decoded) == repr(chunk)
    assert [type(row) for record in decoded.requests for row in record.predictions] == [
        type(row) for record in chunk.requests for row in record.predictions
    ]
    assert [record.model for record in decoded.requests] == [record.model for record in again.requests]
    assert all(one.model is other.model for one, other in zip(decoded.requests, again.requests, strict=True))
