"""Every error that the hub raises on purpose.

HubError
├── SettingsError            a setting does not make sense
├── PortInUseError           another program listens where the hub was told to
├── StoreError               the database cannot be used
│   ├── StoreLockedError         another process holds the file
│   ├── StoreFormatError         not a hub's file, or one written by another version
│   ├── QueryTimeoutError        a question took longer than it may
│   └── ReadersBusyError         too many questions at a time
├── PermanentError           a request that will fail again however often it is sent
│   ├── MalformedError           not the bytes of an OTLP request
│   ├── TooLargeError            more bytes, records or messages than one request may have
│   ├── UnstorableError          rows that the database cannot hold
│   ├── UnsupportedError         a content type that OTLP does not have
│   │   └── UnsupportedCodingError  a content coding that the hub does not uncompress
│   ├── UnauthorizedError        no key, or another one
│   └── ForeignRequestError      a Host or Origin that is not the hub's
└── RetryableError           a request that may well succeed later
    ├── BusyError                as many bytes are being read as may
    ├── SlowRequestError         its bytes did not arrive in time
    ├── QueueFullError           the writer has as much waiting as it may
    ├── WriteFailedError         the database did not take it; nothing of it was kept
    └── ClosingError             the hub is about to stop

The message of each says what is wrong, where, and what to do. Senders are told which of the two last families an error
belongs to: `modeltrace_hub.receive.status` holds the one table from error to status.
"""


class HubError(Exception):
    """What all of them are."""


class SettingsError(HubError):
    """A setting does not make sense."""


class PortInUseError(HubError):
    """Another program listens where the hub was told to."""


class StoreError(HubError):
    """The database cannot be used."""


class StoreLockedError(StoreError):
    """Another process holds the file."""


class StoreFormatError(StoreError):
    """Not a hub's file, or one written by another version."""


class QueryTimeoutError(StoreError):
    """A question took longer than it may."""


class ReadersBusyError(StoreError):
    """Too many questions at a time."""


class PermanentError(HubError):
    """A request that will fail again however often it is sent."""


class MalformedError(PermanentError):
    """Not the bytes of an OTLP request."""


class TooLargeError(PermanentError):
    """More bytes, records or messages than one request may have."""


class UnstorableError(PermanentError):
    """Rows that the database cannot hold."""


class UnsupportedError(PermanentError):
    """A content type that OTLP does not have."""


class UnsupportedCodingError(UnsupportedError):
    """A content coding that the hub does not uncompress."""


class UnauthorizedError(PermanentError):
    """No key, or another one."""


class ForeignRequestError(PermanentError):
    """A Host or Origin that is not the hub's."""


class RetryableError(HubError):
    """A request that may well succeed later."""


class BusyError(RetryableError):
    """As many bytes are being read as may."""


class SlowRequestError(RetryableError):
    """Its bytes did not arrive in time."""


class QueueFullError(RetryableError):
    """The writer has as much waiting as it may."""


class WriteFailedError(RetryableError):
    """The database did not take it; nothing of it was kept."""


class ClosingError(RetryableError):
    """The hub is about to stop."""
