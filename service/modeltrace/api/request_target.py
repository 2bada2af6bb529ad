"""The target of a request: its path, and the query parameters `probabilities` and `interval`.

With these parameters, a response has more than a label or a value.
"""

from typing import Final, Literal
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from modeltrace.errors import MalformedRequestError, RequestError
from modeltrace.inference.model import Model
from modeltrace.inference.tasks import TASK_NAMES
from modeltrace.serving.router import ModelRouter
from modeltrace.telemetry.records.trace import RequestTrace

PROBABILITIES: Final = "probabilities"
INTERVAL: Final = "interval"
PARAMETERS: Final = (PROBABILITIES, INTERVAL)
ProbabilityMode = Literal["on_request", "always", "never"]
_VALUES: Final = {"true": True, "false": False}
# The usual query strings. Looking them up takes 4 µs less than parsing them.
_QUERIES: Final = {f"{name}={text}".encode(): {name: value} for name in PARAMETERS for text, value in _VALUES.items()}


def route_path(scope: Scope) -> str:
    """Return the path of a request without the root path that a proxy adds."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root else path


def wants_details(mode: ProbabilityMode, model: Model, trace: RequestTrace) -> bool:
    """Return whether the response of a request has the probability of each class, or the interval of a regressor.

    Raises:
        MalformedRequestError: a query parameter has an invalid value.
        RequestError: the client asks for a detail that the service or the model does not return.
    """
    query = trace.http.query_string
    if not query:
        return mode == "always" and model.can_have_probabilities
    requested = _QUERIES.get(query)
    if requested is None:
        requested = {name: _parse(name, values) for name, values in _read_parameters(query).items()}
    if probabilities := requested.get(PROBABILITIES):
        reject_probabilities(mode)
        if not model.can_have_probabilities:
            raise RequestError(f"the model is {TASK_NAMES[model.task]}: it has no probabilities of classes")
    if interval := requested.get(INTERVAL):
        _verify_interval(model)
    if probabilities is None:
        probabilities = mode == "always" and model.can_have_probabilities
    return bool(probabilities or interval)


def reject_probabilities(mode: ProbabilityMode) -> None:
    """Reject a request for probabilities if the service does not return them.

    Raises:
        RequestError: the mode is `never`.
    """
    if mode == "never":
        raise RequestError("this service returns no probabilities (MODELTRACE_PROBABILITIES=never)")


class RedactQueryMiddleware:
    """ASGI middleware: redacts the query string of each request while a served model has private features.

    Spans and access log lines contain the query string, and a client may send anything in it. The server's own access
    log reads the same scope, so its lines are redacted too.
    """

    def __init__(self, app: ASGIApp, router: ModelRouter) -> None:
        self._app = app
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redact the query string, then call the application."""
        if scope["type"] == "http" and self._router.private:
            scope["query_string"] = _redact_query(scope["query_string"])
        await self._app(scope, receive, send)


def _redact_query(query: bytes) -> bytes:
    """Return a query string with the known parameters only. A fixed value replaces an invalid one."""
    parameters = _read_parameters(query) if query else {}
    pairs = ((name, values[0] if len(values) == 1 else "") for name, values in parameters.items())
    return "&".join(f"{name}={value if value in _VALUES else 'invalid'}" for name, value in pairs).encode()


def _verify_interval(model: Model) -> None:
    """Raise `RequestError` if the model has no prediction intervals."""
    if model.task != "regressor":
        raise RequestError(f"the model is {TASK_NAMES[model.task]}: it has no prediction intervals")
    if model.interval is None:
        raise RequestError(
            "the bundle has no prediction intervals: it was packed without labels of rows that the model was not "
            "fitted on, or its engine is ONNX Runtime and the intervals need scikit-learn"
        )


def _parse(name: str, values: list[str]) -> bool:
    if len(values) > 1 or values[0] not in _VALUES:
        raise MalformedRequestError(f"the query parameter {name} must be true or false, once")
    return _VALUES[values[0]]


def _read_parameters(query: bytes) -> dict[str, list[str]]:
    """Return the values of the parameters. Other parameters are ignored."""
    parsed = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    return {name: parsed[name] for name in PARAMETERS if name in parsed}
