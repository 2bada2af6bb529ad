"""Protocol between a worker and its sidecar: frames on two pipes.

A frame is four bytes of length, then one tuple of plain values as `marshal` writes it. `marshal` is several times
faster than JSON or pickle. It is safe here because no other process can write to the pipes.

The worker writes:

| frame | content |
|---|---|
| first | `SCHEMA`, the `Origin`, the `SidecarConfig` |
| `(number, RECORDS, chunk)` | a chunk of records, as `modeltrace.telemetry.records.sidecar_codec` encodes it |
| `(number, RECORDS_WITHOUT_LINES, chunk)` | the same after a restart, if its log lines are already written |
| `(number, LINES_ONLY, chunk)` | the same after a restart, if only its log lines are missing |
| `(number, OTLP, signal, request, items)` | an OTLP export request that the SDK's encoders made |

The sidecar answers:

| frame | content |
|---|---|
| `(EVENT, …)` | the fields of a `DeliveryEvent`; the first events have the kind `adopted` and count spooled items |
| `(READY,)` | it accepts frames, and has opened the prediction store if there is one |
| `(LINES_WRITTEN, number)` | the log lines of all frames up to this number are written or dropped |
| `(LINES_DROPPED, count)` | log lines that were dropped, because standard output is too slow or has no reader |
| `(DONE, number)` | all items up to this frame are delivered, on disk, stored or lost: the worker may release them |
| `(END,)` | it has finished |
"""

import marshal
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from modeltrace.otel_env.table import OtlpProtocol, Signal
from modeltrace.telemetry.records import sidecar_codec
from modeltrace.telemetry.records.prediction import Origin

RECORDS: Final = "records"
RECORDS_WITHOUT_LINES: Final = "records_without_lines"
LINES_ONLY: Final = "lines_only"
OTLP: Final = "otlp"

EVENT: Final = "event"
READY: Final = "ready"
LINES_WRITTEN: Final = "lines_written"
LINES_DROPPED: Final = "lines_dropped"
DONE: Final = "done"
END: Final = "end"
# Kinds of `SidecarEvent` that the worker creates: the sidecar ended; items were dropped before they reached it.
GONE: Final = "gone"
DROPPED: Final = "dropped"

# Stands for the prediction store in place of a signal.
STORE: Final = "store"

Frame = tuple[Any, ...]
_LENGTH: Final = struct.Struct("<I")


class SidecarConfig(NamedTuple):
    """Configuration of the sidecar, as plain values."""

    signals: Mapping[Signal, tuple[OtlpProtocol, float]]  # the exported ones; seconds of one attempt
    schedule_delay: float  # seconds that records are batched
    flush_timeout: float  # seconds for the last requests, once the pipe has ended
    spool_dir: str  # "": no spool
    spool_max_bytes: int
    log_level: str
    log_file: str  # "": none
    log_file_max_bytes: int
    log_file_backup_count: int
    store: tuple[str, float, int, str] | None = None  # a `StoreConfig`; None: no prediction is stored
    queue_max_bytes: int = 64 * 2**20  # of each signal, in memory


class DeliveryEvent(NamedTuple):
    """An outcome of items of a signal, or of rows of the prediction store, as plain values."""

    kind: Literal["adopted", "exported", "failed", "lost", "spooled", "unspooled", "stored"]
    signal: Signal | Literal["store"]
    items: int
    seconds: float = 0.0  # of an attempt
    error_type: str = ""


EventListener = Callable[[DeliveryEvent], object]


class SidecarEvent(NamedTuple):
    """A frame of the sidecar: its kind and its other fields."""

    kind: str
    fields: tuple[Any, ...] = ()


class ProtocolMismatchError(RuntimeError):
    """Worker and sidecar run different versions of the code."""


SCHEMA: Final = f"{sidecar_codec.SCHEMA};SidecarConfig({','.join(SidecarConfig._fields)})"


def hello(origin: Origin, config: SidecarConfig) -> Frame:
    """Return the first frame that the worker writes."""
    return (SCHEMA, tuple(origin), tuple(config))


def read_hello(frame: Frame) -> tuple[Origin, SidecarConfig]:
    """Read the first frame.

    Raises:
        ProtocolMismatchError: the worker's records have other fields.
    """
    if frame[0] != SCHEMA:
        raise ProtocolMismatchError("the service runs another version of modeltrace than its sidecar: restart it")
    _, origin, config = frame
    return Origin._make(origin), SidecarConfig._make(config)


def write_frame(descriptor: int, frame: Frame) -> None:
    """Write a whole frame. Blocks while the pipe is full.

    Raises:
        OSError: the other end is closed.
        ValueError: `marshal` cannot write a value.
    """
    content = marshal.dumps(frame, sidecar_codec.MARSHAL_VERSION)
    rest = memoryview(_LENGTH.pack(len(content)) + content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class FrameReader:
    """Splits a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete with this chunk."""
        self._buffer += chunk
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            yield marshal.loads(memoryview(self._buffer)[start + _LENGTH.size : end])  # noqa: S302  see the module's docstring
            start = end
        del self._buffer[:start]


def read_frames(descriptor: int) -> Iterator[Frame]:
    """Yield every frame until the other end closes. An incomplete last frame is dropped."""
    reader = FrameReader()
    while chunk := os.read(descriptor, 2**20):
        yield from reader.feed(chunk)
