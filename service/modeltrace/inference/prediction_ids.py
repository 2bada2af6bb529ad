"""Prediction IDs: signed, and saying by themselves what they are about.

    version 1 byte | trace ID 16 | span ID 8 | row 4 | time in ms 8 | length + model version | answer | MAC 16

The answer is a kind byte (`l` label, `v` value) and the label as text or the value as a double. All of it is base64url
without padding. The MAC is HMAC-SHA256 (RFC 2104) over everything before it, cut to 16 bytes (RFC 2104, section 5).
A model version or label of more than 64 bytes is replaced by the SHA-256 of it, so that the length stays bounded.
"""

import binascii
import hashlib
import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from modeltrace.errors import UnknownPredictionError

FORMAT_VERSION = 1
MAC_BYTES = 16
MAX_TEXT_BYTES = 64
MAX_ID_LENGTH = 400
_HEAD = struct.Struct(">B16s8sIQ")
_VALUE = struct.Struct(">d")
_UNKNOWN = "no prediction ID of this service: send `prediction_id` as POST /predict answered it"


@dataclass(frozen=True, slots=True)
class PredictionRef:
    """What a prediction ID says. Times have a resolution of 1 ms; `answer` is a label as text, or a value."""

    trace_id: int
    span_id: int
    row: int
    time_unix_ns: int
    model_version: str
    output: str | float


class PredictionIdSigner:
    """Signs and reads prediction IDs with one key, which all replicas share."""

    def __init__(self, key: bytes) -> None:
        # A copy of this is cheaper than `hmac.digest`, and, unlike that, keeps the interpreter's lock: whoever lets go
        # of it between two thoughts waits until another thread is done.
        self._keyed = hmac.new(key, digestmod="sha256")

    def sign(self, ref: PredictionRef) -> str:
        """The ID of a prediction."""
        version = hash_if_long(ref.model_version).encode()
        answer = (
            b"l" + hash_if_long(ref.output).encode() if isinstance(ref.output, str) else b"v" + _VALUE.pack(ref.output)
        )
        head = _HEAD.pack(
            FORMAT_VERSION,
            ref.trace_id.to_bytes(16),
            ref.span_id.to_bytes(8),
            ref.row,
            ref.time_unix_ns // 1_000_000,
        )
        said = b"".join((head, bytes((len(version),)), version, answer))
        return urlsafe_b64encode(said + self._mac(said)).rstrip(b"=").decode()

    def verify(self, text: str) -> PredictionRef:
        """What an ID says.

        Raises:
            UnknownPredictionError: it was not signed with this key, or is no prediction ID at all.
        """
        if len(text) > MAX_ID_LENGTH:
            raise UnknownPredictionError(_UNKNOWN)
        try:
            raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except (binascii.Error, UnicodeEncodeError):
            raise UnknownPredictionError(_UNKNOWN) from None
        said, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        # base64 has several spellings of one value: only the one that we wrote is an ID.
        spelled = urlsafe_b64encode(raw).rstrip(b"=").decode()
        if spelled != text or not hmac.compare_digest(mac, self._mac(said)) or said[:1] != bytes((FORMAT_VERSION,)):
            raise UnknownPredictionError(_UNKNOWN)
        _, trace_id, span_id, row, milliseconds = _HEAD.unpack_from(said)
        length = said[_HEAD.size]
        start = _HEAD.size + 1
        answer = said[start + length :]
        return PredictionRef(
            int.from_bytes(trace_id),
            int.from_bytes(span_id),
            row,
            milliseconds * 1_000_000,
            said[start : start + length].decode(),
            answer[1:].decode() if answer[:1] == b"l" else _VALUE.unpack(answer[1:])[0],
        )

    def _mac(self, said: bytes) -> bytes:
        mac = self._keyed.copy()
        mac.update(said)
        return mac.digest()[:MAC_BYTES]


def hash_if_long(text: str) -> str:
    """A model version or a label as an ID has it."""
    raw = text.encode()
    return text if len(raw) <= MAX_TEXT_BYTES else hashlib.sha256(raw).hexdigest()
