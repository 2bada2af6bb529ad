"""Search the spans of one trace."""

from typing import Final

from modeltrace_hub.decode.values import dump_json
from modeltrace_hub.queries.reader import Reader, Record

MAX_MATCHES: Final = 100_000


def search_spans(reader: Reader, trace: Record, text: str | None) -> list[str]:
    """Return the IDs of the spans that contain a text in their name, service, status message, attributes or events.

    Case is ignored. A span is also found by its whole ID. An empty text matches no span.

    Args:
        reader: runs the query.
        trace: the result of `locate_trace`.
        text: the text to search.
    """
    if not text or not (lower := text.strip().lower()):
        return []
    json_text = dump_json(lower)[1:-1]
    rows = reader.fetch_all("search_trace_spans", **trace, text=lower, json_text=json_text, limit=MAX_MATCHES)
    return [row["span_id"] for row in rows]
