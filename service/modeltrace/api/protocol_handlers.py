"""Handlers of inference protocols of other servers: Open Inference Protocol V2, MLflow, KServe V1.

Each request uses the same pipeline as `POST /predict`, so it leaves the same telemetry. The responses of these
protocols cannot contain an error of a single row, so a request with an invalid row is rejected as a whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import orjson

from modeltrace.api.batch_formats import header_value
from modeltrace.api.body import parse_lenient_object
from modeltrace.api.predict import MAX_INLINE_BODY_BYTES
from modeltrace.api.request_target import ProbabilityMode, reject_probabilities, wants_details
from modeltrace.api.responses import TypedBody, encode_body
from modeltrace.api.thread_pool import BoundedThreadPool
from modeltrace.errors import MalformedRequestError, RequestTooLargeError, UnsupportedContentTypeError
from modeltrace.inference.model import Model
from modeltrace.inference.pipeline import Prediction
from modeltrace.inference.privacy import redact_exception
from modeltrace.protocols.csv_rows import rows_from_csv
from modeltrace.protocols.mlflow_kserve import response_payload, rows_from_kserve, rows_from_mlflow
from modeltrace.protocols.open_inference import PROBABILITIES, encode_infer_response, parse_infer_request
from modeltrace.serving.router import ModelRouter
from modeltrace.serving.version import Version
from modeltrace.telemetry.records.trace import RequestTrace

# Triton's header with the length of the JSON object; the rest of the body is binary.
JSON_LENGTH_HEADER: Final = b"inference-header-content-length"
JSON_TYPE: Final = "application/json"
CSV_TYPE: Final = "text/csv"

Content = bytes | TypedBody
Encoder = Callable[[Sequence[Prediction], str | None], Content]


class Parsed(NamedTuple):
    """The rows of a request, and the function that encodes the response from the predictions and the trace ID.

    `details`: whether the response has the probability of each class, or prediction intervals.
    """

    rows: Sequence[object]
    encode: Encoder
    details: bool


Parser = Callable[[Model], Parsed]


@dataclass(frozen=True)
class ProtocolHandlers:
    """Handles requests of the protocols. A request uses one model version, even if it is replaced meanwhile."""

    model_router: ModelRouter
    threads: BoundedThreadPool
    max_rows: int
    probabilities: ProbabilityMode

    async def infer(self, body: bytes, trace: RequestTrace, *, name: str, version: str | None = None) -> Content:
        """Answer an inference request of the Open Inference Protocol."""
        served = self.model_router.select_named(trace, name, version)
        parse = partial(self._parse_infer, body, trace, details=self._wants_details(served, trace))
        return await self._answer(served, parse, trace, size=len(body))

    async def predict_v1(self, body: bytes, trace: RequestTrace, *, name: str) -> Content:
        """Answer `:predict` of KServe's protocol V1."""
        served = self.model_router.select_named(trace, name)
        parse = partial(_parse_kserve, body, served, details=self._wants_details(served, trace))
        return await self._answer(served, parse, trace, size=len(body))

    async def invocations(self, body: bytes, trace: RequestTrace) -> Content:
        """Answer `/invocations` of MLflow: JSON or CSV, as `Content-Type` says."""
        served = self.model_router.select(trace)
        wanted = self._wants_details(served, trace)
        media_type = _media_type(trace)
        if media_type == CSV_TYPE:
            return await self._answer(served, partial(self._parse_csv, body, served, details=wanted), trace, size=None)
        if media_type != JSON_TYPE:
            raise UnsupportedContentTypeError(
                f"Content-Type is {media_type[:64]!r}; /invocations accepts {JSON_TYPE} and {CSV_TYPE}"
            )
        parse = partial(_parse_mlflow, body, served, details=wanted)
        return await self._answer(served, parse, trace, size=len(body))

    def _wants_details(self, version: Version, trace: RequestTrace) -> bool:
        return wants_details(self.probabilities, version.model, trace)

    async def _answer(self, version: Version, parse: Parser, trace: RequestTrace, *, size: int | None) -> Content:
        """Parse, predict and encode.

        `size` is the size of the body; `None` if it must not be parsed on the event loop.
        """
        try:
            if size is None or size > MAX_INLINE_BODY_BYTES:
                return await self.threads.run(self._answer_in_thread, version, parse, trace)
            parsed = self._parse(version, parse, trace)
            if len(parsed.rows) == 1 and version.batcher is not None:
                values = version.pipeline.validate(parsed.rows[0], trace)
                output = await version.batcher.submit(values, trace, details=parsed.details)
                predictions = [version.pipeline.record_prediction(0, values, output, trace)]
                return parsed.encode(predictions, trace.trace_id_hex)
            if len(parsed.rows) == 1 and version.runs_inline:
                return _predict(version, parsed, trace)
            return await self.threads.run(_predict, version, parsed, trace)
        except Exception as error:
            if not version.model.schema.has_private_features:
                raise
            redacted = redact_exception(error)  # the message may contain private values
        raise redacted  # outside of the except block, so that the original error is not its `__context__`

    def _answer_in_thread(self, version: Version, parse: Parser, trace: RequestTrace) -> Content:
        return _predict(version, self._parse(version, parse, trace), trace)

    def _parse(self, version: Version, parse: Parser, trace: RequestTrace) -> Parsed:
        parsed = parse(version.model)
        if len(parsed.rows) > self.max_rows:
            limit = f"the limit is {self.max_rows} (MODELTRACE_MAX_BATCH_ROWS)"
            raise RequestTooLargeError(f"the request has {len(parsed.rows)} rows, {limit}")
        if self.model_router.should_shadow(trace):
            trace.shadow_rows = parsed.rows
        return parsed

    def _parse_infer(self, body: bytes, trace: RequestTrace, model: Model, *, details: bool) -> Parsed:
        length = _json_length(trace, len(body))
        document = parse_lenient_object(body[:length])
        request = parse_infer_request(document, body[length:], model, self.max_rows, details=details)
        if request.wants_output(PROBABILITIES):
            reject_probabilities(self.probabilities)

        def encode(predictions: Sequence[Prediction], trace_id: str | None) -> Content:
            response, binary = encode_infer_response(request, predictions, model, trace_id)
            encoded = orjson.dumps(response)
            if not any(output.binary for output in request.outputs):
                return encoded
            headers = ((b"content-type", b"application/octet-stream"), (JSON_LENGTH_HEADER, b"%d" % len(encoded)))
            return TypedBody(encoded + binary, headers)

        return Parsed(request.rows, encode, request.wants_details)

    def _parse_csv(self, body: bytes, version: Version, model: Model, *, details: bool) -> Parsed:
        return _scoring(rows_from_csv(body, model.schema, self.max_rows), version, details=details)


def _parse_mlflow(body: bytes, version: Version, model: Model, *, details: bool) -> Parsed:
    return _scoring(rows_from_mlflow(parse_lenient_object(body), model.schema.names), version, details=details)


def _parse_kserve(body: bytes, version: Version, model: Model, *, details: bool) -> Parsed:
    return _scoring(rows_from_kserve(parse_lenient_object(body), model.schema.names), version, details=details)


def _scoring(rows: Sequence[object], version: Version, *, details: bool) -> Parsed:
    class_names = version.model.class_names if details else None

    def encode(predictions: Sequence[Prediction], trace_id: str | None) -> bytes:
        names = version.model.output_names
        return encode_body(response_payload(predictions, version.identity, class_names, names), trace_id)

    return Parsed(rows, encode, details)


def _predict(version: Version, parsed: Parsed, trace: RequestTrace) -> Content:
    return parsed.encode(version.pipeline.predict_all(parsed.rows, trace, details=parsed.details), trace.trace_id_hex)


def _media_type(trace: RequestTrace) -> str:
    """Return the content type of a request without its parameters; that of JSON if there is none.

    Raises:
        UnsupportedContentTypeError: it declares another charset than UTF-8.
    """
    media_type, _, parameters = header_value(trace, b"content-type").partition(";")
    charset = parameters.lower().partition("charset=")[2].strip(' "')
    if charset not in ("", "utf-8", "utf8"):
        raise UnsupportedContentTypeError(f"the charset is {charset[:64]!r}; /invocations accepts UTF-8")
    return media_type.strip().lower() or JSON_TYPE


def _json_length(trace: RequestTrace, size: int) -> int:
    """Return the length of the JSON object of an inference request: the whole body, or what the header says."""
    header = header_value(trace, JSON_LENGTH_HEADER)
    if not header:
        return size
    if not (header.isascii() and header.isdigit() and len(header) < 20 and int(header) <= size):
        raise MalformedRequestError(
            f"Inference-Header-Content-Length is {header[:64]!r}; it must be a number of bytes of the body, which has "
            f"{size}"
        )
    return int(header)
