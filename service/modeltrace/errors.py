"""Every error that Modeltrace raises on purpose.

ModeltraceError
├── SettingsError            a setting does not make sense
├── BundleError              a bundle cannot be used
│   ├── BundleNotFoundError      no bundle at that path
│   ├── BundleAlteredError       a hash differs
│   ├── VersionTakenError        another model has that name and version
│   ├── UntrustedModelError      the artifact holds types nobody has allowed
│   ├── IncompatibleBundleError  written by other versions of the libraries
│   └── RegistryAwayError        a model registry cannot be reached: it may pass by itself
├── PackError                an estimator and its data do not make a bundle
├── RequestError             the caller sent something that cannot be answered
│   ├── MalformedRequestError    not JSON, or not the shape that the call takes
│   ├── InvalidFeaturesError     values that break the feature schema
│   ├── RequestTooLargeError     more bytes or rows than the limits allow
│   ├── UnsupportedCodingRequestError  a Content-Encoding that cannot be uncompressed
│   ├── ForeignRequestError      a Host or Origin that is not the service's
│   ├── UnauthorizedError        no API key, or another one
│   ├── UnknownPredictionError   no prediction ID of this service
│   ├── InvalidLabelError        a label that the model cannot answer
│   ├── LabelConflictError       the prediction has another label already
│   └── ClientGoneError          it went away before it had sent all of its request
├── BusyError                more requests wait for the model, or with labels, than the limit allows
├── LabelsAwayError          labels cannot be stored now: whoever sent them has to send them again
├── InferenceError           the model failed on input that the schema accepts
├── StoreError               the prediction store cannot be used, or refuses something
│   └── StoreAwayError           it is locked, full or away: it may pass by itself
├── ExportError              predictions cannot be written to a file            (modeltrace.store.export)
├── UnreachableError         nothing that can be used answers at an address     (modeltrace.client.service)
├── RefusedError             a service does not answer what it was asked        (modeltrace.doctor.trace_check)
├── NotTakenError            a service does not take rows or labels             (modeltrace.client.scoring_client)
├── RowsError                there are no rows to send                          (modeltrace.traffic.rows)
├── LabelError               a file's label is none that the model could answer (modeltrace.evaluation.scored_rows)
├── NothingToSayError        there is nothing to make figures of                (modeltrace.cli.evaluate)
├── UpError                  what `up` starts cannot be started, or has ended   (modeltrace.local.plan)
├── ReportError              nothing to report on, or to compare it with        (modeltrace.report.sources)
├── EnvironmentMissingError  a library's environment cannot be made             (modeltrace.report.venvs)
├── ProgramError             a library failed on the data                       (modeltrace.report.run)
├── NotFoundError            the prediction store does not have it              (modeltrace.store.lookup)
└── ReplayError              recorded predictions cannot be answered again      (modeltrace.cli.replay)

The message of each says what is wrong, where, and what to do. No HTTP here: `modeltrace.api.errors` holds the one
table from error to status.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ModeltraceError(Exception):
    """What all of them are."""


class SettingsError(ModeltraceError):
    """A setting does not make sense."""


class BundleError(ModeltraceError):
    """A bundle cannot be used."""


class BundleNotFoundError(BundleError):
    """There is no bundle at that path."""


class BundleIntegrityError(BundleError):
    """A hash differs from the one that was recorded or asked for."""


class VersionConflictError(BundleError):
    """Another model is served under the same name and version."""


class UntrustedModelError(BundleError):
    """The artifact holds types, or has a format, that nobody has allowed."""


class IncompatibleBundleError(BundleError):
    """The bundle was written by other versions of the libraries."""


class RegistryUnavailableError(BundleError):
    """A model registry, or where it keeps files, cannot be reached: it may pass by itself."""


class PackError(ModeltraceError):
    """An estimator and its data do not make a bundle."""


class RequestError(ModeltraceError):
    """The caller sent something that cannot be answered."""


class MalformedRequestError(RequestError):
    """Not JSON, or not the shape that the call takes."""


class RequestTooLargeError(RequestError):
    """More bytes or rows than the limits allow."""


class UnsupportedContentEncodingError(RequestError):
    """A `Content-Encoding` that cannot be uncompressed."""


class ForbiddenError(RequestError):
    """A Host or Origin that is not the service's."""


class UnauthorizedError(RequestError):
    """No API key, or another one."""


class UnknownPredictionError(RequestError):
    """No prediction ID of this service: not signed with its key, or of another model."""


class InvalidLabelError(RequestError):
    """A label that the model cannot answer."""


class LabelConflictError(RequestError):
    """The prediction has another label already."""


class ClientDisconnectedError(RequestError):
    """The client went away before it had sent all of its request."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which one value breaks the feature schema.

    `reason` is one of a few fixed words, fit for counting: ``missing``, ``type``, ``range``, ``category``, ``length``,
    ``unknown``. `message` is for a person and never repeats the value, which may be private. `allowed` says that
    the schema has it counted, and nothing else.
    """

    feature: str
    reason: str
    message: str
    allowed: bool = False


MAX_LISTED = 3


class InvalidFeaturesError(RequestError):
    """Values that break the feature schema."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        missing, unknown = (_join_names(violations, reason) for reason in ("missing", "unknown"))
        said = [violation.message for violation in violations]
        if missing and unknown:  # rows of another model, or of another version of this one: that is one thing to say
            others = [violation.message for violation in violations if violation.reason not in ("missing", "unknown")]
            said = [f"the row has not the features of this model: missing {missing}; unknown {unknown}", *others]
        more = len(said) - MAX_LISTED
        super().__init__("; ".join(said[:MAX_LISTED]) + (f"; and {more} more" if more > 0 else ""))
        self.violations = tuple(violations)

    def message_without_unknown_names(self) -> str:
        """The same in words that are the schema's alone."""
        known = [violation for violation in self.violations if violation.reason != "unknown"]
        others = ["features that the model does not have"] if len(known) < len(self.violations) else []
        more = len(known) - MAX_LISTED
        first = [violation.message for violation in known[:MAX_LISTED]]
        return "; ".join([*first, *([f"and {more} more"] if more > 0 else []), *others])


def _join_names(violations: Sequence[Violation], reason: str) -> str:
    """The first features that it is, "" for none. How many are unknown is not even looked at."""
    names = [violation.feature for violation in violations if violation.reason == reason]
    first = ", ".join(names[:MAX_LISTED])
    return f"{first}, …" if len(names) > MAX_LISTED else first


class BusyError(ModeltraceError):
    """More requests wait for the model, or with labels, than the limit allows."""


class LabelStoreUnavailableError(ModeltraceError):
    """Labels cannot be stored now: whoever sent them has to send them again."""


class InferenceError(ModeltraceError):
    """The model failed on input that the schema accepts."""


class StoreError(ModeltraceError):
    """The prediction store cannot be used, or refuses something."""


class StoreUnavailableError(StoreError):
    """The prediction store is locked, full or away: it may pass by itself."""
