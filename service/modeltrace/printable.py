"""Make untrusted text (from bundles, data and servers) safe to print on a terminal."""

import re
from typing import Final

# C0, DEL and C1; unpaired surrogates, which cannot be encoded; line separators.
_CONTROLS: Final = "\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029"
# Bidirectional marks, embeddings, overrides and isolates, which change the order in which text is displayed.
_BIDI: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_FORBIDDEN: Final = re.compile(f"[{_CONTROLS}]")
_ESCAPED: Final = re.compile(f"[{_CONTROLS}{_BIDI}]")
_ESCAPED_IN_TEXT: Final = re.compile(f"[{_CONTROLS}{_BIDI}]".replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def has_control_characters(name: str) -> bool:
    """Return whether a name contains a control character, a line separator or invalid Unicode."""
    return _FORBIDDEN.search(name) is not None


def truncate(text: str, limit: int) -> str:
    """Return the first `limit` characters of a text, and the number of omitted characters."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, at most 300 characters. Messages may contain many values."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"


def validation_message(message: str) -> str:
    """Return a pydantic error message without the prefix that pydantic adds to the message of a validator."""
    return message.removeprefix("Value error, ")


def escape_control_characters(text: str, *, keep_newlines: bool = True) -> str:
    r"""Escape control and bidirectional characters as `\u001b`, so that the terminal shows them.

    The escape sequence is that of JSON, so JSON text keeps its meaning.

    Args:
        text: the text to print.
        keep_newlines: whether to keep newlines and tabs, as in a text of several lines; a name has none.
    """
    pattern = _ESCAPED_IN_TEXT if keep_newlines else _ESCAPED
    return pattern.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
