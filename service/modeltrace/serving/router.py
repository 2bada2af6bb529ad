"""Select the model version that answers a request."""

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Any, Final, Literal

from modeltrace.errors import UnknownModelError
from modeltrace.serving.version import CHALLENGER, Version, VersionFactory
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import INVALID_TRACE_ID
from modeltrace.telemetry.records.trace import RequestTrace

Mode = Literal["shadow", "split"]
_HASH_RANGE: Final = 2**64


class ModelRouter:
    """Holds the primary version and the challenger. One thread per role replaces its version atomically."""

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
        """`share` (0 to 1) of the requests is for the challenger, or for the service at the address `remote`.

        A hash of the request header `key` selects these requests, or of the trace ID if there is no such header.
        """
        self._versions = versions
        self._primary = primary
        self._challenger = challenger
        self._mode: Mode = mode
        self._share = share
        self._remote = remote
        self._key = key.lower().encode() if key else None
        self._served_models = {version.info for version in (primary, challenger) if version is not None}

    @property
    def primary(self) -> Version:
        """The version that answers by default."""
        return self._primary

    @property
    def challenger(self) -> Version | None:
        """The second version in this process."""
        return self._challenger

    def served_models(self) -> Collection[ModelInfo]:
        """Return the metadata of each model that this process serves or has served."""
        return self._served_models

    @property
    def private(self) -> bool:
        """Whether any version has private features."""
        challenger = self._challenger
        return self._primary.model.schema.has_private_features or (
            challenger is not None and challenger.model.schema.has_private_features
        )

    def select(self, trace: RequestTrace) -> Version:
        """Return the version that answers a request. The same key always selects the same version."""
        challenger = self._challenger
        return challenger if challenger and self._mode == "split" and self._is_sampled(trace) else self._primary

    def answering_versions(self) -> Collection[Version]:
        """Return the versions that answer requests. A challenger in shadow mode does not."""
        challenger = self._challenger
        return (self._primary, challenger) if challenger and self._mode == "split" else (self._primary,)

    def find(self, name: str, version: str | None = None) -> Version:
        """Return the version of a model that answers requests, by its name and optionally its version.

        Raises:
            UnknownModelError: no version has this name and version.
        """
        versions = self.answering_versions()
        named = [answering for answering in versions if answering.model.name == name]
        if not named:
            names = ", ".join(sorted({answering.model.name for answering in versions}))
            raise UnknownModelError(f"this service has no model {name[:128]!r}; it has {names}")
        for answering in named:
            if version is None or answering.model.version == version:
                return answering
        numbers = ", ".join(answering.model.version for answering in named)
        raise UnknownModelError(f"the model {name} has no version {str(version)[:128]!r} here; it has {numbers}")

    def select_named(self, trace: RequestTrace, name: str, version: str | None = None) -> Version:
        """Return the version that answers a request for a model; without a version, as `select` does.

        Raises:
            UnknownModelError: no version has this name and version.
        """
        found = self.find(name, version)
        selected = self.select(trace)
        return selected if version is None and selected.model.name == name else found

    def should_shadow(self, trace: RequestTrace) -> bool:
        """Return whether the challenger receives a shadow request. A version never shadows itself."""
        if self._mode != "shadow":
            return False
        challenger = self._challenger
        differs = self._remote if challenger is None else challenger.identity != self._primary.identity
        return bool(differs) and self._is_sampled(trace)

    def _is_sampled(self, trace: RequestTrace) -> bool:
        """Compare a hash of the key with the share.

        Trace samplers compare the trace ID itself. The hash makes both decisions independent.
        """
        if self._share >= 1:
            return True
        key = trace.trace_id if trace.trace_id != INVALID_TRACE_ID else trace.span_id
        if self._key:
            key = next((value for name, value in trace.http.headers if name == self._key), key)
        return int.from_bytes(blake2b(key, digest_size=8).digest()) < self._share * _HASH_RANGE

    def version_in_role(self, role: str) -> Version:
        """Return the current version in a role."""
        return self._challenger if role == CHALLENGER and self._challenger else self._primary

    def replace(self, version: Version) -> None:
        """Serve a version from the next request on. Running requests finish with the version that they started with."""
        replaced = self.version_in_role(version.info.role)
        self._served_models.add(version.info)
        if version.info.role == CHALLENGER:
            self._challenger = version
        else:
            self._primary = version
        self._versions.retire(replaced)

    def describe(self) -> Mapping[str, Any]:
        """Return the response body of `GET /model`."""
        primary = self._primary.model.describe()
        challenger: dict[str, Any] = {"mode": self._mode, "share": self._share}
        if self._remote:
            challenger["url"] = self._remote
        elif self._challenger is not None:
            challenger |= {**self._challenger.identity, "hash": self._challenger.model.hash}
        else:
            return primary
        return {**primary, "challenger": challenger}
