"""Text of others (bundles, data, servers) made safe to print: a terminal obeys control characters."""

import re
from typing import Final

# C0, DEL and C1; half a surrogate pair, which no encoding has; line separators.
_CONTROLS: Final = "\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029"
# Marks, embeddings, overrides and isolates: what follows them is shown in another order than it is written.
_BIDI: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_FORBIDDEN: Final = re.compile(f"[{_CONTROLS}]")
_ESCAPED: Final = re.compile(f"[{_CONTROLS}{_BIDI}]")
_ESCAPED_IN_TEXT: Final = re.compile(f"[{_CONTROLS}{_BIDI}]".replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def has_control_characters(name: str) -> bool:
    """Whether a name holds a control character, a line separator, or what is no valid Unicode."""
    return _FORBIDDEN.search(name) is not None


def truncate(text: str, limit: int) -> str:
    """The first `limit` characters of a text, and a mark that says how many more there were."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def validation_message(words: str) -> str:
    """What pydantic says of a value, without the prefix that it puts before the words of a validator."""
    return words.removeprefix("Value error, ")


def escape_control_characters(text: str, *, keep_newlines: bool = True) -> str:
    r"""Write control and bidirectional characters as `\u001b`, so that they are seen and not obeyed.

    The escape is that of JSON, so JSON that is escaped says the same.

    Args:
        text: what is to be printed.
        keep_newlines: whether newlines and tabs stay, which a text of several lines needs and a name does not.
    """
    pattern = _ESCAPED_IN_TEXT if keep_newlines else _ESCAPED
    return pattern.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
