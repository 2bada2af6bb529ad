"""Signed, self-describing prediction IDs.

    version 1 byte | trace ID 16 | span ID 8 | row 4 | time in ms 8 | length + model version | output | MAC 16

The output is a kind byte (`l` label, `v` value), followed by the label as UTF-8 or the value as a double. The whole is
base64url without padding. The MAC is HMAC-SHA256 (RFC 2104) of everything before it, truncated to 16 bytes (RFC 2104,
section 5). A model version or label of more than 64 bytes is replaced by its SHA-256, so that the length is bounded.
"""

import binascii
import hashlib
import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from modeltrace.errors import UnknownPredictionError
from modeltrace.prediction_id_time import FORMAT_VERSION, HEADER

MAC_BYTES = 16
MAX_TEXT_BYTES = 64
MAX_ID_LENGTH = 400
_VALUE = struct.Struct(">d")
_UNKNOWN = "not a prediction ID of this service: send the `prediction_id` that POST /predict returned"


@dataclass(frozen=True, slots=True)
class PredictionRef:
    """The content of a prediction ID. Times have a resolution of 1 ms; `output` is a label as text, or a value."""

    trace_id: int
    span_id: int
    row: int
    time_unix_ns: int
    model_version: str
    output: str | float


class PredictionIdSigner:
    """Signs and verifies prediction IDs with a key that all replicas share."""

    def __init__(self, key: bytes) -> None:
        # Copying this object is faster than `hmac.digest`. It also does not release the global interpreter lock, so no
        # other thread runs in the middle of a request.
        self._keyed = hmac.new(key, digestmod="sha256")

    def sign(self, ref: PredictionRef) -> str:
        """Return the ID of a prediction."""
        version = hash_if_long(ref.model_version).encode()
        output = ref.output
        encoded = b"l" + hash_if_long(output).encode() if isinstance(output, str) else b"v" + _VALUE.pack(output)
        trace_id, span_id = ref.trace_id.to_bytes(16), ref.span_id.to_bytes(8)
        header = HEADER.pack(FORMAT_VERSION, trace_id, span_id, ref.row, ref.time_unix_ns // 1_000_000)
        payload = b"".join((header, bytes((len(version),)), version, encoded))
        return urlsafe_b64encode(payload + self._mac(payload)).rstrip(b"=").decode()

    def verify(self, text: str) -> PredictionRef:
        """Verify the signature of an ID and return its content.

        Raises:
            UnknownPredictionError: the text is not a prediction ID, or was signed with another key.
        """
        if len(text) > MAX_ID_LENGTH:
            raise UnknownPredictionError(_UNKNOWN)
        try:
            raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except (binascii.Error, UnicodeEncodeError):
            raise UnknownPredictionError(_UNKNOWN) from None
        payload, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        # Several base64 texts decode to the same bytes; only the canonical one is an ID.
        canonical = urlsafe_b64encode(raw).rstrip(b"=").decode()
        if canonical != text or not hmac.compare_digest(mac, self._mac(payload)) or payload[0] != FORMAT_VERSION:
            raise UnknownPredictionError(_UNKNOWN)
        _, trace_id, span_id, row, milliseconds = HEADER.unpack_from(payload)
        start = HEADER.size + 1
        end = start + payload[HEADER.size]
        output = payload[end:]
        return PredictionRef(
            int.from_bytes(trace_id),
            int.from_bytes(span_id),
            row,
            milliseconds * 1_000_000,
            payload[start:end].decode(),
            output[1:].decode() if output[:1] == b"l" else _VALUE.unpack(output[1:])[0],
        )

    def _mac(self, payload: bytes) -> bytes:
        mac = self._keyed.copy()
        mac.update(payload)
        return mac.digest()[:MAC_BYTES]


def hash_if_long(text: str) -> str:
    """Return a model version or label as an ID contains it: unchanged, or its SHA-256 if it is too long."""
    raw = text.encode()
    return text if len(raw) <= MAX_TEXT_BYTES else hashlib.sha256(raw).hexdigest()
