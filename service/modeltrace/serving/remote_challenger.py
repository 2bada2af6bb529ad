"""The challenger as another Modeltrace service: the same rows over HTTP, in the same trace.

    shadow (CLIENT, here) ─ traceparent ─► POST /predict (SERVER, there) ─► its stages

That service counts and tells what it answers by itself, so nothing of it is counted here, too. Its answer becomes a row
of the prediction store here, which says of what it is a shadow: a label of that prediction counts for it as well.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx
import orjson

from modeltrace.errors import SettingsError
from modeltrace.serving.shadow_queue import OnOutcome, StartShadow, predicted_rows
from modeltrace.serving.version import CHALLENGER
from modeltrace.telemetry.records.prediction import ModelInfo, PredictedRow, RemoteCall
from modeltrace.telemetry.records.trace import RequestTrace, propagation_headers

logger = logging.getLogger("modeltrace.serving")

# Seconds until a service that does not answer counts as away; rows that wait meanwhile may be dropped.
TIMEOUT: Final = 2.0


# The rows of a model as its privacy rules have them.
Redact = Callable[[ModelInfo, Sequence[PredictedRow]], Sequence[PredictedRow]]


class RemoteChallenger:
    """Asks another service; for one thread."""

    max_batch = 1  # it may take long, and what waits meanwhile is bounded by what has not been taken
    interval = 0.00005  # the interpreter's lock is free for as long, for those who are waited for

    def __init__(
        self,
        url: str,
        start_shadow: StartShadow,
        redact: Redact,
        *,
        timeout: float = TIMEOUT,
        api_key: str | None = None,
    ) -> None:
        """`url` is that of the service, without a path; `redact` makes of answered rows what may be told of them.

        `api_key` is shown to it, if it asks for one.

        Raises:
            SettingsError: it is no such URL.
        """
        self._url = parse_url(url)
        self._telling = start_shadow
        self._as_told = redact
        self._client = httpx.Client(
            base_url=self._url,
            timeout=timeout,
            limits=httpx.Limits(max_connections=1),
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
        )
        self._hashes: dict[tuple[str, str], str] = {}
        self._said = ""

    def __call__(self, requests: Sequence[RequestTrace], on_outcome: OnOutcome) -> None:
        """Ask it for all rows of a request in one call, and keep what it says."""
        for request in requests:
            self._ask(request, on_outcome)

    def _ask(self, asked: RequestTrace, tell: OnOutcome) -> None:
        if asked.model is None:
            return
        rows = predicted_rows(asked)
        path, body = ("/predict/batch", {"rows": rows}) if asked.is_batch else ("/predict", {"features": rows[0]})
        with self._telling(asked) as trace:
            trace.is_batch, trace.rows = asked.is_batch, len(rows)
            status, error_type, said = self._post(path, body, trace)
            where = f"{self._url}{path}"
            trace.remote_call = RemoteCall(
                where, self._url.host, self._url.port or _port(self._url), status, error_type
            )
            if error_type:
                self._say(f"{where}: {error_type}")
                tell("refused" if status == httpx.codes.UNPROCESSABLE_ENTITY else "failed", len(rows), error_type)
                return
            self._say("")
            answers = said["predictions"] if asked.is_batch else [said]
            trace.model = self._model(said["model"], asked.model)
            trace.predictions = _kept(answers, self._as_told(asked.model, asked.predictions), trace.now())
            trace.rejected_rows = len(rows) - len(trace.predictions)
        if trace.predictions:
            tell("answered", len(trace.predictions), "")
        if trace.rejected_rows:
            tell("refused", trace.rejected_rows, "invalid_features")

    def close(self) -> None:
        """Give back the connection."""
        self._client.close()

    def _post(self, path: str, body: Mapping[str, Any], trace: RequestTrace) -> tuple[int, str, Any]:
        """Status, 0 for none; `error.type`, "" for none; what was said."""
        headers = {"content-type": "application/json", **propagation_headers(trace)}
        try:
            answer = self._client.post(path, content=orjson.dumps(body), headers=headers)
            if not answer.is_success:
                return answer.status_code, str(answer.status_code), None
            return answer.status_code, "", answer.json()
        except (httpx.HTTPError, orjson.JSONEncodeError, ValueError) as error:
            return 0, type(error).__qualname__, None

    def _model(self, said: Mapping[str, str], asked: ModelInfo) -> ModelInfo:
        """What is known of the model that answered; its inputs are kept as those of the answer are."""
        name, version = said["name"], said["version"]
        if (name, version) not in self._hashes:
            found = self._client.get("/model").json()
            # A version that took over in between has another hash, and is not kept under this one.
            fits = (found["name"], found["version"]) == (name, version)
            self._hashes = {(name, version): found["hash"]} if fits else self._hashes
        return ModelInfo(name, version, self._hashes.get((name, version), ""), asked.features, role=CHALLENGER)

    def _say(self, text: str) -> None:
        """Log what the state has become; what stays as it is, is not repeated."""
        if text and text != self._said:
            logger.warning("the challenger does not answer for now: %s", text)
        elif self._said and not text:
            logger.warning("the challenger answers again")
        self._said = text


def _kept(answers: Sequence[Mapping[str, Any]], asked: Sequence[PredictedRow], time: int) -> list[PredictedRow]:
    return [
        one._replace(
            prediction_id=said["prediction_id"],
            label=said.get("label"),
            confidence=said.get("confidence"),
            value=said.get("value"),
            time=time,
        )
        for said, one in zip(answers, asked, strict=True)
        if "error" not in said
    ]


def parse_url(said: str) -> httpx.URL:
    """The URL of a service.

    Raises:
        SettingsError: it is none, or has more than a host and a port.
    """
    try:
        url = httpx.URL(said.rstrip("/"))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.path not in ("", "/") or url.userinfo:
        raise SettingsError("MODELTRACE_CHALLENGER is no address of a service, like http://10.0.0.7:8000")
    return url.copy_with(path="")


def _port(url: httpx.URL) -> int:
    return 443 if url.scheme == "https" else 80
