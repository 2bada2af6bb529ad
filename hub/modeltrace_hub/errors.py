"""The exceptions of the hub.

HubError
├── SettingsError            a setting is invalid
├── ArgumentError            an argument of a command is wrong
├── PortInUseError           another program listens on a port of the hub
├── ApiError                 a command got no answer from the API, or an error
├── StoreError               the database cannot be used
│   ├── StoreLockedError         another process has opened the file
│   ├── StoreFormatError         the file is not a hub's database, or has another schema version
│   ├── QueryTimeoutError        a query took too long
│   └── ReadersBusyError         too many queries run at the same time
├── PermanentError           a request that fails again if it is sent again
│   ├── MalformedError           the body is not an OTLP request
│   ├── TooLargeError            the request has more bytes, records or messages than allowed
│   ├── UnstorableError          the database cannot store the rows
│   ├── UnsupportedMediaTypeError  OTLP does not have this content type
│   │   └── UnsupportedEncodingError   the hub does not support this content coding
│   ├── InvalidQueryError        a SQL query is invalid or needs too much memory
│   ├── UnauthorizedError        the key is missing or wrong
│   └── ForbiddenOriginError     the Host or Origin is not the hub's
└── RetryableError           a request that may succeed if it is sent again
    ├── BusyError                too many bytes are being received
    ├── RequestTimeoutError      the body did not arrive in time
    ├── QueueFullError           the write queue is full
    ├── WriteFailedError         the database failed to write; nothing was stored
    └── ShuttingDownError        the hub is shutting down

Each message says what is wrong and what to do. `modeltrace_hub.error_status` maps the classes to HTTP and gRPC status.
"""


class HubError(Exception):
    """Base class of all exceptions of the hub."""


class SettingsError(HubError):
    """A setting is invalid."""


class ArgumentError(HubError):
    """An argument of a command is wrong."""


class PortInUseError(HubError):
    """Another program listens on a port of the hub."""


class ApiError(HubError):
    """A command got no answer from the JSON API of a hub, or an error."""


class StoreError(HubError):
    """The database cannot be used."""


class StoreLockedError(StoreError):
    """Another process has opened the file."""


class StoreFormatError(StoreError):
    """The file is not a hub's database, or has another schema version."""


class QueryTimeoutError(StoreError):
    """A query took too long."""


class ReadersBusyError(StoreError):
    """Too many queries run at the same time."""


class PermanentError(HubError):
    """A request that fails again if it is sent again."""


class MalformedError(PermanentError):
    """The body is not an OTLP request."""


class TooLargeError(PermanentError):
    """The request has more bytes, records or messages than allowed."""


class UnstorableError(PermanentError):
    """The database cannot store the rows."""


class UnsupportedMediaTypeError(PermanentError):
    """OTLP does not have this content type."""


class UnsupportedEncodingError(UnsupportedMediaTypeError):
    """The hub does not support this content coding."""


class InvalidQueryError(PermanentError):
    """A SQL query of a user is not one valid SELECT statement, or it needs too much memory."""


class UnauthorizedError(PermanentError):
    """The key is missing or wrong."""


class ForbiddenOriginError(PermanentError):
    """The Host or Origin is not the hub's."""


class RetryableError(HubError):
    """A request that may succeed if it is sent again."""


class BusyError(RetryableError):
    """Too many bytes are being received."""


class RequestTimeoutError(RetryableError):
    """The body did not arrive in time."""


class QueueFullError(RetryableError):
    """The write queue is full."""


class WriteFailedError(RetryableError):
    """The database failed to write; nothing was stored."""


class ShuttingDownError(RetryableError):
    """The hub is shutting down."""
