"""Convert requests to OTLP/JSON."""

import base64
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

_IDS = {"traceId", "spanId", "parentSpanId"}


def to_otlp_json(request: Message) -> dict[str, Any]:
    """Return a request as a JSON object: IDs in hex, enums as numbers."""

    def hexed(node: Any, parent: str = "") -> Any:
        if isinstance(node, list):
            return [hexed(item, parent) for item in node]
        if isinstance(node, dict):
            # Inside attribute values the same words are ordinary text.
            return {key: hexed(value, key) for key, value in node.items()}
        return base64.b64decode(node).hex() if parent in _IDS else node

    document: dict[str, Any] = hexed(MessageToDict(request, use_integers_for_enums=True))
    return document
