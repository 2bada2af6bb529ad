"""Bound the size of an answer to an assistant."""

from typing import Any, Final

import orjson

MAX_BYTES: Final = 24_000
# The message around an answer: `jsonrpc`, `id`, `result`, `content`, `isError`.
_ENVELOPE_BYTES: Final = 500
# Limits of the items of a list and the characters of a text, from the widest to the narrowest.
_LIMITS: Final = ((200, 4000), (100, 1000), (50, 500), (20, 300), (10, 200), (5, 100), (2, 60), (1, 30))
_OMITTED: Final = "Lists or texts were cut. Narrow the call (filters, since, limit, fewer columns), or open the link."


def bound_answer(answer: dict[str, Any], link: str | None) -> str:
    """Return an answer as JSON: with a link to the page, and a note if something was cut.

    The message that has the answer is at most `MAX_BYTES` long. The answer is a text in it, so its quotes are escaped.

    Args:
        answer: the answer of the API.
        link: the address of the page that shows the same; None if no hub runs.
    """
    head: dict[str, Any] = {} if link is None else {"link": link}
    for max_items, max_text in _LIMITS:
        cut, is_cut = _cut(answer, max_items, max_text)
        bounded = {**head, **({"omitted": _OMITTED} if is_cut else {}), **cut}
        text = orjson.dumps(bounded).decode()
        if len(orjson.dumps(text)) + _ENVELOPE_BYTES <= MAX_BYTES:
            return text
    return orjson.dumps({**head, "omitted": _OMITTED, "keys": [key[:30] for key in answer][:100]}).decode()


def _cut(value: Any, max_items: int, max_text: int) -> tuple[Any, bool]:  # noqa: ANN401  any JSON
    """Return a value with shorter lists and texts, and whether something was cut."""
    match value:
        case str():
            return (value, False) if len(value) <= max_text else (f"{value[:max_text]}…", True)
        case list():
            items = [_cut(item, max_items, max_text) for item in value[:max_items]]
            return [item for item, _ in items], len(value) > max_items or any(is_cut for _, is_cut in items)
        case dict():
            pairs = {key: _cut(item, max_items, max_text) for key, item in value.items()}
            return {key: item for key, (item, _) in pairs.items()}, any(is_cut for _, is_cut in pairs.values())
        case _:
            return value, False
