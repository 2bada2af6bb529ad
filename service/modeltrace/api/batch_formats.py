"""The formats of a batch: JSON, an Arrow IPC stream or Parquet in; JSON or an Arrow IPC stream out."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from modeltrace.api.body import get_required, parse_object
from modeltrace.api.responses import TypedBody
from modeltrace.errors import InvalidFeaturesError, MalformedRequestError, UnsupportedContentTypeError
from modeltrace.imports import has_pyarrow
from modeltrace.inference.pipeline import Prediction
from modeltrace.serving.version import Version
from modeltrace.telemetry.records.trace import RequestTrace

ARROW_TYPE: Final = "application/vnd.apache.arrow.stream"
PARQUET_TYPE: Final = "application/vnd.apache.parquet"
OPTIONAL: Final = ("ids", "tags")


class Batch(NamedTuple):
    """The rows of a batch, and the other members of its body."""

    rows: Sequence[object]
    members: Mapping[str, object]


def read_batch(body: bytes, version: Version, trace: RequestTrace, *, max_rows: int, max_bytes: int) -> Batch:
    """Parse the body of a batch, in the format of its `Content-Type`; any other type than Arrow and Parquet is JSON.

    Raises:
        MalformedRequestError: the body has another format or form.
        RequestTooLargeError: a body in Arrow or Parquet exceeds the limits of rows and of decoded bytes.
        UnsupportedContentTypeError: the body is in Arrow or Parquet, and pyarrow is not installed.
    """
    media_type = header_value(trace, b"content-type").partition(";")[0].strip().lower()
    if media_type not in (ARROW_TYPE, PARQUET_TYPE):
        parsed = parse_object(body)
        rows = get_required(parsed, "rows", *OPTIONAL)
        if not isinstance(rows, list):
            raise MalformedRequestError('"rows" must be an array of objects')
        return Batch(rows, parsed)
    try:
        from modeltrace.protocols.arrow_rows import (  # noqa: PLC0415  only such bodies need pyarrow, an extra
            Limits,
            rows_from_arrow,
            rows_from_parquet,
        )
    except ModuleNotFoundError:
        raise UnsupportedContentTypeError(
            f"{media_type} needs pyarrow, which this service does not have (pip install 'modeltrace[arrow]'); send JSON"
        ) from None

    parse = rows_from_arrow if media_type == ARROW_TYPE else rows_from_parquet
    batch = parse(body, version.model.schema, Limits(max_rows, max_bytes))
    members = parse_object(batch.metadata) if batch.metadata else {}
    if others := sorted(members.keys() - set(OPTIONAL)):
        raise MalformedRequestError(
            f'the metadata "modeltrace" must only contain "ids" and "tags", not "{others[0][:64]}"'
        )
    return Batch(batch.rows, members)


def encode_arrow(
    outcomes: Sequence[Prediction | InvalidFeaturesError], version: Version, trace: RequestTrace, *, details: bool
) -> TypedBody:
    """Return a response in Arrow's IPC stream format."""
    from modeltrace.protocols.arrow_rows import encode_results  # noqa: PLC0415  see `read_batch`

    metadata = {"model_name": version.model.name, "model_version": version.model.version}
    if trace.trace_id_hex is not None:
        metadata["trace_id"] = trace.trace_id_hex
    content = encode_results(outcomes, trace.external_ids, version.model, metadata, details=details)
    return TypedBody(content, ((b"content-type", ARROW_TYPE.encode()),))


def accepts_arrow(trace: RequestTrace) -> bool:
    """Return whether the header `Accept` names Arrow's IPC stream format, and the service can write it."""
    accepted = header_value(trace, b"accept").lower().split(",")
    wants_arrow = any(media_range.partition(";")[0].strip() == ARROW_TYPE for media_range in accepted)
    return wants_arrow and has_pyarrow()


def header_value(trace: RequestTrace, name: bytes) -> str:
    """Return the first value of a header; "" without it."""
    return next((value.decode("latin-1") for key, value in trace.http.headers if key == name), "")
