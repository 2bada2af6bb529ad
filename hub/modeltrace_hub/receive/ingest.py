"""Decode requests and commit their rows. HTTP and gRPC share this module.

One thread decodes small requests, and another thread decodes large ones. Decoding a large request therefore blocks
neither the event loop nor small requests, and two large requests are never decoded at the same time. The thread for
small requests also decompresses all HTTP bodies.

The bytes of all requests in progress are limited. The write queue has a separate limit.
"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Literal

from google.protobuf.message import DecodeError, Message

from modeltrace_http import content_coding
from modeltrace_http.content_coding import SUPPORTED_ENCODINGS, DecompressedTooLargeError, DecompressionError
from modeltrace_hub.decode import otlp_json, wire
from modeltrace_hub.decode.batch import Batch, Problems
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.error_status import error_status
from modeltrace_hub.errors import (
    BusyError,
    HubError,
    MalformedError,
    QueueFullError,
    ShuttingDownError,
    TooLargeError,
    UnstorableError,
    UnsupportedEncodingError,
    WriteFailedError,
)
from modeltrace_hub.receive.signals import Signal
from modeltrace_hub.writer import Writer

Encoding = Literal["protobuf", "json"]

# Requests up to this size, decompressed, are decoded by the thread for small ones.
SMALL_REQUEST_BYTES: Final = 512 * 2**10

# The writer counts the records of requests that fail with these errors.
_WRITER_ERRORS: Final = (QueueFullError, ShuttingDownError, UnstorableError, WriteFailedError)


class Ingester:
    """Decode requests and submit them to the writer."""

    def __init__(self, writer: Writer, *, max_request_bytes: int, max_in_flight_bytes: int) -> None:
        self.max_request_bytes = max_request_bytes
        self._writer = writer
        self._available_bytes = max_in_flight_bytes
        self._small_decoder = ThreadPoolExecutor(1, thread_name_prefix="hub-decoder-small")
        self._large_decoder = ThreadPoolExecutor(1, thread_name_prefix="hub-decoder-large")

    @contextmanager
    def track_request(self, signal: Signal) -> Iterator["Reservation"]:
        """Reserve the bytes of a request until it is answered. Count it as failed if the writer did not count it."""
        reservation = Reservation(self)
        try:
            yield reservation
        except HubError as error:
            if not isinstance(error, _WRITER_ERRORS):
                self._writer.stats.record_failed_request(signal.name, error_status(error).type)
            raise
        finally:
            self._available_bytes += reservation.size

    def reserve(self, size: int) -> None:
        """Reserve bytes.

        Raises:
            BusyError: fewer bytes are available.
        """
        if size > self._available_bytes:
            raise BusyError("The hub is receiving too many bytes at the moment. Send the request again in a moment.")
        self._available_bytes -= size

    async def ingest(
        self, signal: Signal, body: bytes, encoding: Encoding, content_encoding: str, reservation: "Reservation"
    ) -> Message:
        """Decode and write a request. Return the response after the commit.

        Raises:
            PermanentError: the request cannot be decoded or stored.
            RetryableError: the request was not stored and may be sent again.
        """
        loop = asyncio.get_running_loop()
        if content_encoding not in {"", "identity"}:
            limit = self.max_request_bytes
            body = await loop.run_in_executor(self._small_decoder, _decompress, body, content_encoding, limit)
            reservation.resize(len(body))
        decoder = self._small_decoder if len(body) <= SMALL_REQUEST_BYTES else self._large_decoder
        batch = await loop.run_in_executor(decoder, self._decode, signal, body, encoding)
        if batch.row_count:
            await asyncio.wrap_future(self._writer.submit(batch))
        else:
            self._writer.stats.record_received(batch)
        return signal.build_response(batch.problems)

    def close(self) -> None:
        """Wait until the requests in the decoders are decoded."""
        self._small_decoder.shutdown()
        self._large_decoder.shutdown()

    def _decode(self, signal: Signal, body: bytes, encoding: Encoding) -> Batch:
        problems = Problems()
        if encoding == "json":
            request = otlp_json.parse(body, signal.request_type, signal.shape, self._new_budget(), problems)
        else:
            request = self._parse_protobuf(signal, body, problems)
        budget = self._new_budget()
        tables = signal.decode(request, time.time_ns(), budget, problems)
        return Batch(signal.name, tables, len(body), budget.bytes_used, problems)

    def _parse_protobuf(self, signal: Signal, body: bytes, problems: Problems) -> Message:
        if len(body) > SMALL_REQUEST_BYTES:
            # The parser creates all messages before they can be counted. Count the records in the raw bytes first.
            wire.count_records(body, signal.shape, self._new_budget())
        try:
            request = signal.request_type.FromString(body)
        except DecodeError:
            repaired = wire.repair(body, signal.shape, self._new_budget(), problems)
            try:
                request = signal.request_type.FromString(repaired)
            except DecodeError as error:
                raise MalformedError(f"The body is not an OTLP request in protobuf: {error}") from None
        if body and not request.ListFields():
            raise MalformedError("The body is protobuf, but it has no field of an OTLP request of this signal")
        return request

    def _new_budget(self) -> Budget:
        return Budget.from_limits(self.max_request_bytes, self._writer.max_rows)


class Reservation:
    """The bytes that one request has reserved."""

    def __init__(self, ingester: Ingester) -> None:
        self._ingester = ingester
        self.size = 0

    def add(self, size: int) -> None:
        """Reserve bytes that have arrived.

        Raises:
            TooLargeError: the request is larger than allowed.
            BusyError: all requests together are larger than allowed.
        """
        if self.size + size > self._ingester.max_request_bytes:
            raise TooLargeError(
                f"The request has more than {self._ingester.max_request_bytes} bytes. Send smaller batches."
            )
        self._ingester.reserve(size)
        self.size += size

    def resize(self, size: int) -> None:
        """Change the reservation to the size of the decompressed request.

        Raises:
            BusyError: all requests together are larger than allowed.
        """
        self._ingester.reserve(size - self.size)
        self.size = size


def _decompress(body: bytes, content_encoding: str, limit: int) -> bytes:
    """Decompress a body to at most `limit` bytes.

    Raises:
        UnsupportedEncodingError: the hub does not support this coding.
        TooLargeError: the result has more than `limit` bytes.
        MalformedError: the body is not in this coding, is truncated, or has trailing bytes.
    """
    try:
        return content_coding.decompress(body, content_encoding, limit)
    except content_coding.UnsupportedEncodingError:
        raise UnsupportedEncodingError(
            f"Content-Encoding is {content_encoding[:64]!r}; send one of {SUPPORTED_ENCODINGS}."
        ) from None
    except DecompressedTooLargeError:
        raise TooLargeError(f"The decompressed body has more than {limit} bytes. Send smaller batches.") from None
    except DecompressionError as error:
        raise MalformedError(f"The body is not valid {content_encoding} (Content-Encoding): {error}") from None
