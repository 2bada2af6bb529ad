"""From the bytes of a request to committed rows: what HTTP and gRPC have in common.

Requests are decoded in two threads, one for small ones and one for large ones, so that a large one stalls neither the
event loop nor the small ones, and two large ones are never decoded at the same time. Bytes that are read and not yet
handed to the writer are bounded, as are those that wait there.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Literal

from google.protobuf.message import DecodeError, Message

from modeltrace_hub.decode import otlp_json, wire
from modeltrace_hub.decode.batch import Batch, Problems
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.errors import (
    BusyError,
    ForeignRequestError,
    HubError,
    MalformedError,
    SlowRequestError,
    TooLargeError,
    UnauthorizedError,
    UnsupportedError,
)
from modeltrace_hub.receive.decompress import unpack
from modeltrace_hub.receive.signals import Signal
from modeltrace_hub.writer import Writer

Form = Literal["protobuf", "json"]

# A request of up to this many bytes, uncompressed, is decoded by the thread for small ones.
SMALL_BYTES: Final = 512 * 2**10

# How a request that could not be read is counted.
_REASONS: Final[Mapping[type[HubError], str]] = {
    MalformedError: "malformed",
    TooLargeError: "too_large",
    UnsupportedError: "unsupported",
    UnauthorizedError: "unauthorized",
    ForeignRequestError: "foreign",
    BusyError: "busy",
    SlowRequestError: "slow",
}


class Intake:
    """Decodes requests and hands them to the writer."""

    def __init__(self, writer: Writer, *, max_request_bytes: int, max_waiting_bytes: int) -> None:
        self.max_request_bytes = max_request_bytes
        self._writer = writer
        self._room = max_waiting_bytes
        self._small = ThreadPoolExecutor(1, thread_name_prefix="hub-decoder-small")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="hub-decoder-large")

    @contextmanager
    def request(self, signal: Signal) -> Iterator["Reservation"]:
        """Account for one request, from its head to its answer: its bytes, and why it could not be read, if so."""
        reservation = Reservation(self)
        try:
            yield reservation
        except HubError as error:
            reason = next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), None)
            if reason is not None:
                self._writer.counts.failed(signal.name, reason)
            raise
        finally:
            self._room += reservation.size

    def take_room(self, size: int) -> None:
        """Raise `BusyError` when there is no room for so many bytes more."""
        if size > self._room:
            raise BusyError("The hub reads as much at the moment as it may. Send it again in a moment.")
        self._room -= size

    async def take(self, signal: Signal, body: bytes, form: Form, coding: str, reservation: "Reservation") -> Message:
        """Decode and write one request; return the answer once it is committed.

        Raises:
            PermanentError: it cannot be read, or cannot be stored.
            RetryableError: it is not stored now and may be sent again.
        """
        loop = asyncio.get_running_loop()
        if coding not in {"", "identity"}:
            body = await loop.run_in_executor(self._small, unpack, body, coding, self.max_request_bytes)
            reservation.resize(len(body))
        decoder = self._small if len(body) <= SMALL_BYTES else self._large
        batch = await loop.run_in_executor(decoder, self._decode, signal, body, form)
        if batch.rows:
            await asyncio.wrap_future(self._writer.submit(batch))
        else:
            self._writer.counts.received(batch)
        return signal.answer(batch)

    def close(self) -> None:
        """Wait for what is being decoded."""
        self._small.shutdown()
        self._large.shutdown()

    def _decode(self, signal: Signal, body: bytes, form: Form) -> Batch:
        problems = Problems()
        if form == "json":
            request = otlp_json.parse(body, signal.request, signal.shape, self._budget(), problems)
        else:
            request = self._parse_protobuf(signal, body, problems)
        return signal.decode(request, time.time_ns(), len(body), self._budget(), problems)

    def _parse_protobuf(self, signal: Signal, body: bytes, problems: Problems) -> Message:
        if len(body) > SMALL_BYTES:
            # The parser builds all messages before they can be counted.
            wire.count_records(body, signal.shape, self._budget())
        try:
            request = signal.request.FromString(body)
        except DecodeError:
            repaired = wire.repair(body, signal.shape, self._budget(), problems)
            try:
                request = signal.request.FromString(repaired)
            except DecodeError as error:
                raise MalformedError(f"The body is not an OTLP request in protobuf: {error}") from None
        if body and not request.ListFields():
            raise MalformedError("The body is protobuf, but nothing in it is of an OTLP request")
        return request

    def _budget(self) -> Budget:
        return Budget.of(self.max_request_bytes, self._writer.max_rows)


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

    def resize(self, size: int) -> None:
        """Account for the bytes of the request after it is uncompressed, instead of those that arrived.

        Raises:
            BusyError: all requests together have more than they may.
        """
        self._intake.take_room(size - self.size)
        self.size = size
