"""Every error that Modeltrace raises on purpose.

ModeltraceError
├── SettingsError            a setting does not make sense
├── BundleError              a bundle cannot be used
│   ├── BundleNotFoundError      no bundle at that path
│   ├── BundleAlteredError       a hash differs
│   ├── UntrustedModelError      the artifact holds types nobody has allowed
│   └── IncompatibleBundleError  written by other versions of the libraries
├── PackError                an estimator and its data do not make a bundle
├── RequestError             the caller sent something that cannot be answered
│   ├── MalformedRequestError    not JSON, or not the shape that the call takes
│   ├── InvalidFeaturesError     values that break the feature schema
│   ├── RequestTooLargeError     more bytes or rows than the limits allow
│   └── ClientGoneError          it went away before it had sent all of its request
├── BusyError                more requests wait for the model than the limit allows
├── InferenceError           the model failed on input that the schema accepts
├── StoreError               the prediction store cannot be used, or refuses something
│   └── StoreAwayError           it is locked, full or away: it may pass by itself
├── ExportError              predictions cannot be written to a file            (service.store.export)
├── UnreachableError         nothing that can be used answers at an address     (service.client.service)
├── RefusedError             a service does not answer what it was asked        (service.client.checkup)
├── NotTakenError            a service does not take rows or labels             (service.client.scored)
├── RowsError                there are no rows to send                          (service.client.rows)
├── LabelError               a file's label is none that the model could answer (service.evaluation.offline)
├── NothingToSayError        there is nothing to make figures of                (service.commands.evaluate)
├── UpError                  what `up` starts cannot be started, or has ended   (service.local.plan)
└── NotFoundError            the prediction store does not have it              (service.commands.audit)

The message of each says what is wrong, where, and what to do. No HTTP here: `service.api.errors` holds the one
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


class BundleAlteredError(BundleError):
    """A hash differs from the one that was recorded or asked for."""


class UntrustedModelError(BundleError):
    """The artifact holds types, or has a format, that nobody has allowed."""


class IncompatibleBundleError(BundleError):
    """The bundle was written by other versions of the libraries."""


class PackError(ModeltraceError):
    """An estimator and its data do not make a bundle."""


class RequestError(ModeltraceError):
    """The caller sent something that cannot be answered."""


class MalformedRequestError(RequestError):
    """Not JSON, or not the shape that the call takes."""


class RequestTooLargeError(RequestError):
    """More bytes or rows than the limits allow."""


class ClientGoneError(RequestError):
    """The client went away before it had sent all of its request."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which one value breaks the feature schema.

    `reason` is one of a few fixed words, fit for counting: ``missing``, ``type``, ``range``, ``category``,
    ``unknown``. `message` is for a person and never repeats the value, which may be private.
    """

    feature: str
    reason: str
    message: str


SPELLED_OUT = 3


class InvalidFeaturesError(RequestError):
    """Values that break the feature schema."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        first = "; ".join(v.message for v in violations[:SPELLED_OUT])
        more = len(violations) - SPELLED_OUT
        super().__init__(f"{first}; and {more} more" if more > 0 else first)
        self.violations = tuple(violations)


class BusyError(ModeltraceError):
    """More requests wait for the model than the limit allows."""


class InferenceError(ModeltraceError):
    """The model failed on input that the schema accepts."""


class StoreError(ModeltraceError):
    """The prediction store cannot be used, or refuses something."""


class StoreAwayError(StoreError):
    """The prediction store is locked, full or away: it may pass by itself."""
