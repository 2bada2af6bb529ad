"""Records cross the pipe between worker and sidecar unchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.telemetry.records.prediction import BatchRecord, Origin, RequestRecord
from modeltrace.telemetry.records.sidecar_codec import RecordChunk, RecordDecoder, encode
from tests.helpers.factories import request_record
from tests.helpers.strategies import batches, traffic


@pytest.mark.slow
@given(traffic(), st.lists(batches(), max_size=2))
def test_records_are_decoded_as_they_were_encoded(
    requests: tuple[Origin, list[RequestRecord]], shared_calls: list[BatchRecord]
) -> None:
    """All fields and nested records have the same types and values; as text, because NaN does not equal itself."""
    chunk = RecordChunk(requests[1], shared_calls)
    decoded = RecordDecoder().decode(encode(chunk))

    for sent, received in zip((*chunk.requests, *chunk.batches), (*decoded.requests, *decoded.batches), strict=True):
        assert repr(received._replace(model=None)) == repr(sent._replace(model=None))
        assert (received.model and received.model.hash) == (sent.model and sent.model.hash)


def test_equal_models_become_one_object() -> None:
    """Caches find what they derived from a model by the identity of the object."""
    _, request = request_record()
    decoder = RecordDecoder()
    first, second = (decoder.decode(encode(RecordChunk([request]))).requests[0] for _ in range(2))

    assert first.model is second.model
    assert first == second == request
