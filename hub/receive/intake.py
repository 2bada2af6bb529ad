"""From the bytes of a request to committed rows: what HTTP and gRPC have in common.

Requests are decoded one at a time in a thread of their own, so that a large one neither stalls the event loop nor adds
its memory to that of another. Bytes read and not yet handed to the writer are bounded, as are those that wait there.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Literal

from google.protobuf.message import DecodeError, Message

from hub.decode import otlp_json
from hub.decode.batch import Batch
from hub.errors import (
    BusyError,
    ForeignRequestError,
    HubError,
    MalformedError,
    PermanentError,
    TooLargeError,
    UnauthorizedError,
    UnsupportedError,
)
from hub.receive.signals import Signal
from hub.receive.unpack import gunzip
from hub.writer import Writer

Form = Literal["protobuf", "json"]
Packing = Literal["identity", "gzip"]

# How a request that could not be read is counted.
_REASONS: Final[Mapping[type[HubError], str]] = {
    MalformedError: "malformed",
    TooLargeError: "too_large",
    UnsupportedError: "unsupported",
    UnauthorizedError: "unauthorized",
    ForeignRequestError: "foreign",
    BusyError: "busy",
}


class Intake:
    """Decodes requests and hands them to the writer."""

    def __init__(self, writer: Writer, *, max_request_bytes: int, max_waiting_bytes: int) -> None:
        self.max_request_bytes = max_request_bytes
        self._writer = writer
        self._room = max_waiting_bytes
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="hub-decoder")

    @contextmanager
    def request(self, signal: Signal) -> Iterator["Reservation"]:
        """Account for one request, from its head to its answer: its bytes, and why it could not be read, if so."""
        reservation = Reservation(self)
        try:
            yield reservation
        except (PermanentError, BusyError) as error:
            self._writer.counts.failed(signal.name, _REASONS[type(error)])
            raise
        finally:
            self._room += reservation.size

    def take_room(self, size: int) -> None:
        """Raise `BusyError` when there is no room for so many bytes more."""
        if size > self._room:
            raise BusyError("The hub reads as much at the moment as it may. Send it again in a moment.")
        self._room -= size

    async def take(self, signal: Signal, body: bytes, form: Form, packing: Packing) -> Message:
        """Decode and write one request; the answer once it is committed.

        Raises:
            PermanentError: it cannot be read.
            RetryableError: it was not taken and may be sent again.
        """
        loop = asyncio.get_running_loop()
        batch = await loop.run_in_executor(self._decoder, self._decode, signal, body, form, packing)
        if batch.rows:
            await asyncio.wrap_future(self._writer.submit(batch))
        else:
            self._writer.counts.received(batch)
        return signal.answer(batch)

    def close(self) -> None:
        """Wait for what is being decoded."""
        self._decoder.shutdown()

    def _decode(self, signal: Signal, body: bytes, form: Form, packing: Packing) -> Batch:
        raw = gunzip(body, self.max_request_bytes) if packing == "gzip" else body
        if form == "json":
            request = otlp_json.parse(raw, signal.request)
        else:
            try:
                request = signal.request.FromString(raw)
            except DecodeError as error:
                raise MalformedError(f"The body is not an OTLP request in protobuf: {error}") from None
        if (rows := signal.count(request)) > self._writer.max_rows:
            raise TooLargeError(
                f"{rows} rows are more than one request may have ({self._writer.max_rows}). Send smaller batches."
            )
        return signal.decode(request, time.time_ns(), len(raw))


class Reservation:
    """The bytes of one request that are accounted for."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.size = 0

    def add(self, size: int) -> None:
        """Account for bytes that have arrived.

        Raises:
            TooLargeError: the request has more than one may have.
            BusyError: all requests together have more than they may.
        """
        if self.size + size > self._intake.max_request_bytes:
            raise TooLargeError(
                f"The request has more than {self._intake.max_request_bytes} bytes. Send smaller batches."
            )
        self._intake.take_room(size)
        self.size += size
