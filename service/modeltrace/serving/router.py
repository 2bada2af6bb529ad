"""What is served now. One object, read by every request; what it holds changes in one step."""

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Any, Final, Literal

from modeltrace.serving.version import CHALLENGER, Version, VersionFactory
from modeltrace.telemetry.records.prediction import ModelInfo
from modeltrace.telemetry.records.trace import INVALID_TRACE_ID, RequestTrace

Mode = Literal["shadow", "split"]
_WHOLE: Final = 2**64


class ModelRouter:
    """The version that answers, and the challenger beside it, if any. Changed by one thread, read by any."""

    def __init__(
        self,
        versions: VersionFactory,
        primary: Version,
        challenger: Version | None = None,
        *,
        mode: Mode = "shadow",
        share: float = 1.0,
        key: str | None = None,
        remote: str | None = None,
    ) -> None:
        """The challenger may be the service at the address `remote`.

        Of the requests a `share` is its own, to answer or to see; `key` is the header that decides which.
        """
        self._versions = versions
        self._primary = primary
        self._challenger = challenger
        self._mode: Mode = mode
        self._share = share
        self._remote = remote
        self._key = key.lower().encode() if key else None
        self._ever = {version.info for version in (primary, challenger) if version is not None}

    @property
    def primary(self) -> Version:
        """What answers unless something else is said."""
        return self._primary

    @property
    def challenger(self) -> Version | None:
        """What stands beside it."""
        return self._challenger

    def served_models(self) -> Collection[ModelInfo]:
        """What telemetry says of each model that is served, or was since the process started."""
        return self._ever

    @property
    def private(self) -> bool:
        """Whether any of them has features that may not be told as they are."""
        challenger = self._challenger
        return self._primary.model.schema.has_private_features or (
            challenger is not None and challenger.model.schema.has_private_features
        )

    def select(self, trace: RequestTrace) -> Version:
        """The version that answers this request: always the same one for the same key."""
        challenger = self._challenger
        return challenger if challenger and self._mode == "split" and self._is_sampled(trace) else self._primary

    def should_shadow(self, trace: RequestTrace) -> bool:
        """Whether the challenger is to see this request, too. A version is never its own shadow."""
        if self._mode != "shadow":
            return False
        challenger = self._challenger
        other = self._remote if challenger is None else challenger.identity != self._primary.identity
        return bool(other) and self._is_sampled(trace)

    def _is_sampled(self, trace: RequestTrace) -> bool:
        """By a hash of its own: samplers look at the trace ID, too, and must not decide what is compared."""
        if self._share >= 1:
            return True
        key = trace.trace_id if trace.trace_id != INVALID_TRACE_ID else trace.span_id
        if self._key:
            key = next((value for name, value in trace.scope["headers"] if name == self._key), key)
        return int.from_bytes(blake2b(key, digest_size=8).digest()) < self._share * _WHOLE

    def version_in_role_of(self, version: Version) -> Version:
        """The version that this one would replace."""
        if version.info.role == CHALLENGER and self._challenger:
            return self._challenger
        return self._primary

    def replace(self, version: Version) -> None:
        """From the next request on this version has its role; requests that have begun end with theirs."""
        before = self.version_in_role_of(version)
        self._ever.add(version.info)
        if version.info.role == CHALLENGER:
            self._challenger = version
        else:
            self._primary = version
        self._versions.retire(before)

    def describe(self) -> Mapping[str, Any]:
        """What `GET /model` says."""
        primary = self._primary.model.describe()
        beside = {"mode": self._mode, "share": self._share}
        if self._remote:
            return {**primary, "challenger": {**beside, "url": self._remote}}
        if self._challenger is None:
            return primary
        return {**primary, "challenger": {**beside, **self._challenger.identity, "hash": self._challenger.model.hash}}
