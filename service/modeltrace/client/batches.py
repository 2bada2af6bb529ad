"""Bodies of `POST /predict/batch`: a batch is sent in several requests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from modeltrace.client.messages import Rows, encode_rows, to_records
from modeltrace.errors import MalformedRequestError, ModeltraceError

# Rows and labels of one request.
BATCH_ROWS: Final = 1000
JSON_TYPE: Final = "application/json"
ARROW_TYPE: Final = "application/vnd.apache.arrow.stream"
ExternalIds: TypeAlias = Sequence[str | None] | None
# The tags of all rows, or of each row.
BatchTags: TypeAlias = Mapping[str, str] | Sequence[Mapping[str, str] | None] | None


class Body(NamedTuple):
    """A request body and its content type."""

    content: bytes
    content_type: str


def batch_bodies(rows: Rows, external_ids: ExternalIds, tags: BatchTags, *, arrow: bool) -> Iterator[Body]:
    """Return the bodies of the requests for rows.

    `arrow`: send a data frame (pandas, polars) or an Arrow table in Arrow's IPC stream format.

    Raises:
        MalformedRequestError: the numbers of rows, external IDs and tags differ, or a value cannot be sent.
    """
    items: Any = _to_table(rows) if arrow else to_records(rows)
    row_tags = tags if isinstance(tags, Sequence) else None
    for values, name in ((external_ids, "external IDs"), (row_tags, "tags")):
        if values is not None and len(values) != len(items):
            raise MalformedRequestError(f"there are {len(items)} rows and {len(values)} {name}")
    return _encode_bodies(items, external_ids, tags, arrow=arrow)


def _encode_bodies(items: Any, external_ids: ExternalIds, tags: BatchTags, *, arrow: bool) -> Iterator[Body]:  # noqa: ANN401  a list or a table
    for start in range(0, len(items), BATCH_ROWS):
        end = start + BATCH_ROWS
        ids = None if external_ids is None else external_ids[start:end]
        chunk_tags = tags[start:end] if isinstance(tags, Sequence) else tags
        if arrow:
            yield Body(_encode_table(items.slice(start, BATCH_ROWS), ids, chunk_tags), ARROW_TYPE)
        else:
            yield Body(encode_rows(items[start:end], ids, chunk_tags), JSON_TYPE)


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Split items into chunks of `BATCH_ROWS`."""
    return (items[start : start + BATCH_ROWS] for start in range(0, len(items), BATCH_ROWS))


def _to_table(rows: Rows) -> Any:  # noqa: ANN401  a table of pyarrow, which is imported only here
    try:
        import pyarrow as pa  # noqa: PLC0415  see above
    except ModuleNotFoundError:
        raise ModeltraceError("arrow=True needs pyarrow: pip install 'modeltrace[arrow]'") from None

    try:
        if isinstance(rows, pa.Table):
            return rows
        if hasattr(rows, "to_arrow"):  # polars
            return rows.to_arrow()
        return pa.Table.from_pandas(rows, preserve_index=False)
    except (pa.ArrowException, AttributeError, TypeError) as error:
        raise MalformedRequestError(f"the rows cannot be sent as Arrow: {error}") from None


def _encode_table(table: Any, ids: ExternalIds, tags: BatchTags) -> bytes:  # noqa: ANN401  see `_to_table`
    import pyarrow as pa  # noqa: PLC0415  see `_to_table`
    import pyarrow.ipc  # noqa: PLC0415  see `_to_table`

    members = {name: values for name, values in (("ids", ids), ("tags", tags)) if values is not None}
    table = table.replace_schema_metadata({"modeltrace": orjson.dumps(members)} if members else None)
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
