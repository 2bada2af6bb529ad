"""The filter that says which traces are not stored."""

import time

from hypothesis import given
from hypothesis import strategies as st

from modeltrace_hub.store import Store
from modeltrace_hub.trace_id_filter import TraceIdFilter
from modeltrace_hub.writer import append_batches
from tests.helpers.decoding import decode
from tests.helpers.otlp_messages import span, trace_request

TRACE_IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)


def loaded(store: Store) -> TraceIdFilter:
    """Return a filter of the stored traces."""
    known = TraceIdFilter()
    with store.write() as connection:
        known.load(connection)
    return known


def test_stored_traces_are_found(store: Store) -> None:
    """A filter that reads the table has its traces. Before that, any trace may be stored."""
    early, other = span(), span()
    assert TraceIdFilter().may_contain(early.trace_id.hex())
    with store.write() as connection:
        append_batches(connection, [decode(trace_request(early), time.time_ns())])

    known = loaded(store)

    assert known.may_contain(early.trace_id.hex())
    assert known.may_contain(other.trace_id.hex()) == (other.trace_id[-3:] == early.trace_id[-3:])


@given(stored=st.sets(TRACE_IDS, max_size=5), other=TRACE_IDS)
def test_an_added_trace_is_never_missed(stored: set[str], other: str) -> None:
    """Each added trace may be stored; another one only if its last six digits are those of an added trace."""
    store = Store(None)
    known = loaded(store)
    store.close()
    for trace_id in stored:
        known.add(trace_id)

    assert all(map(known.may_contain, stored))
    assert known.may_contain(other) == any(trace_id[-6:] == other[-6:] for trace_id in stored)
