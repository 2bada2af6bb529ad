"""The errors that Modeltrace raises on purpose.

ModeltraceError
├── SettingsError            a setting has an invalid value
├── BundleError              a bundle cannot be used
│   ├── BundleNotFoundError      there is no bundle at this path
│   ├── BundleIntegrityError     a hash differs from the expected one
│   ├── VersionConflictError     another model has the same name and version
│   ├── UntrustedModelError      the artifact contains types that are not trusted
│   ├── IncompatibleBundleError  other versions of the libraries wrote the bundle
│   └── RegistryUnavailableError a model registry cannot be reached (temporary)
├── PackError                an estimator and its data cannot be packed into a bundle
├── RequestError             the client sent an invalid request
│   ├── MalformedRequestError    the body is not JSON, or has the wrong shape
│   ├── InvalidFeaturesError     values violate the feature schema
│   │   └── InvalidRowError          one of several rows does, so none is predicted
│   ├── RequestTooLargeError     more bytes or rows than the limits allow
│   ├── UnsupportedContentEncodingError  the Content-Encoding is not supported
│   ├── UnsupportedContentTypeError  the Content-Type is not supported
│   ├── ForbiddenError           the Host, the Origin or the use of the API key is not allowed
│   ├── UnauthorizedError        the API key is missing or wrong
│   ├── RateLimitedError         the client sends too many requests per second
│   ├── UnknownModelError        the service has no such model or version
│   ├── UnknownPredictionError   the prediction ID is not one of this service
│   ├── InvalidLabelError        the model cannot predict this label
│   ├── AmbiguousIdError         several predictions have this external ID
│   ├── LabelConflictError       the prediction already has another label
│   └── ClientDisconnectedError  the client disconnected before the request was complete
├── BusyError                the queue of requests for the model, or with labels, is full
├── LabelStoreUnavailableError  labels cannot be stored now; the client sends them again (temporary)
├── InferenceError           the model failed on valid input
└── StoreError               the prediction store cannot be used, or rejects an operation
    └── StoreUnavailableError    the store is locked, full or unreachable (temporary)

Errors that only one module raises are defined there. Each message says what is wrong, where, and what to do.
`modeltrace.api.errors` maps errors to HTTP status codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ModeltraceError(Exception):
    """Base class of all errors that Modeltrace raises on purpose."""


class SettingsError(ModeltraceError):
    """A setting has an invalid value."""


class BundleError(ModeltraceError):
    """A bundle cannot be used."""


class BundleNotFoundError(BundleError):
    """There is no bundle at this path."""


class BundleIntegrityError(BundleError):
    """A hash differs from the recorded or expected one."""


class VersionConflictError(BundleError):
    """Another model is served under the same name and version."""


class UntrustedModelError(BundleError):
    """The artifact contains types, or has a format, that are not trusted."""


class IncompatibleBundleError(BundleError):
    """Other versions of the libraries wrote the bundle."""


class RegistryUnavailableError(BundleError):
    """A model registry, or its file storage, cannot be reached. The error may be temporary."""


class PackError(ModeltraceError):
    """An estimator and its data cannot be packed into a bundle."""


class RequestError(ModeltraceError):
    """The client sent an invalid request."""


class MalformedRequestError(RequestError):
    """The body is not JSON, or has the wrong shape."""


class RequestTooLargeError(RequestError):
    """The request has more bytes or rows than the limits allow."""


class UnsupportedContentEncodingError(RequestError):
    """The `Content-Encoding` is not supported."""


class UnsupportedContentTypeError(RequestError):
    """The `Content-Type` is not supported."""


class ForbiddenError(RequestError):
    """The Host, the Origin or the use of the API key is not allowed."""


class UnauthorizedError(RequestError):
    """The API key is missing or wrong."""


class RateLimitedError(RequestError):
    """The client sends too many requests per second. It may send the next one after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnknownModelError(RequestError):
    """The path of the request names a model, or a version, that this service does not have."""


class UnknownPredictionError(RequestError):
    """The prediction ID is not signed with this service's key, or belongs to another model."""


class InvalidLabelError(RequestError):
    """The model cannot predict this label."""


class AmbiguousIdError(RequestError):
    """Several predictions have the external ID of a label."""


class LabelConflictError(RequestError):
    """The prediction already has another label."""


class ClientDisconnectedError(RequestError):
    """The client disconnected before the request was complete."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which one value violates the feature schema.

    Attributes:
        feature: name of the feature.
        reason: one of ``missing``, ``type``, ``range``, ``category``, ``length`` and ``unknown``; used as a metric
            attribute.
        message: text for a person. It never contains the value, which may be private.
        allowed: whether the schema only counts this violation and the row is predicted.
    """

    feature: str
    reason: str
    message: str
    allowed: bool = False


# Maximum number of violations or feature names in an error message.
MAX_LISTED = 3


class InvalidFeaturesError(RequestError):
    """Values violate the feature schema."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        missing, unknown = (_join_names(violations, reason) for reason in ("missing", "unknown"))
        messages = [violation.message for violation in violations]
        if missing and unknown:  # probably rows of another model or version: list the names in one message
            others = [violation.message for violation in violations if violation.reason not in ("missing", "unknown")]
            messages = [
                f"the row does not have the features of this model: missing {missing}; unknown {unknown}",
                *others,
            ]
        more = len(messages) - MAX_LISTED
        super().__init__("; ".join(messages[:MAX_LISTED]) + (f"; and {more} more" if more > 0 else ""))
        self.violations = tuple(violations)

    def message_without_unknown_names(self) -> str:
        """Return the message without names of unknown features, which the client chooses."""
        known = [violation for violation in self.violations if violation.reason != "unknown"]
        others = ["features that the model does not have"] if len(known) < len(self.violations) else []
        more = len(known) - MAX_LISTED
        messages = [violation.message for violation in known[:MAX_LISTED]]
        return "; ".join([*messages, *([f"and {more} more"] if more > 0 else []), *others])


class InvalidRowError(InvalidFeaturesError):
    """A row of several violates the feature schema, in a request that is answered as a whole."""

    def __init__(self, index: int, error: InvalidFeaturesError, n_invalid: int) -> None:
        """`index` is the position of the first of `n_invalid` invalid rows, `error` is its error."""
        super().__init__(error.violations)
        others = n_invalid - 1
        more = f"; and {others} more invalid row{'s' if others > 1 else ''}" if others else ""
        self.args = (f"row {index}: {error}{more}",)


def _join_names(violations: Sequence[Violation], reason: str) -> str:
    """Return the names of the first features with this violation, "" if there are none."""
    names = [violation.feature for violation in violations if violation.reason == reason]
    first = ", ".join(names[:MAX_LISTED])
    return f"{first}, …" if len(names) > MAX_LISTED else first


class BusyError(ModeltraceError):
    """The queue of requests that wait for the model, or that send labels, is full."""


class LabelStoreUnavailableError(ModeltraceError):
    """Labels cannot be stored now. The client has to send them again."""


class InferenceError(ModeltraceError):
    """The model failed on valid input."""


class StoreError(ModeltraceError):
    """The prediction store cannot be used, or rejects an operation."""


class StoreUnavailableError(StoreError):
    """The prediction store is locked, full or unreachable. The error may be temporary."""
