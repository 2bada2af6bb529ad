"""Names of tags, which the service declares and commands select."""

import re
from typing import Final

MAX_TAGS: Final = 16
TAG_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


def check_tag_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names.

    Raises:
        ValueError: there are too many names, or one is invalid or occurs twice.
    """
    if len(names) > MAX_TAGS or len(set(names)) < len(names) or not all(map(TAG_NAME.fullmatch, names)):
        raise ValueError(
            f"must be at most {MAX_TAGS} different names such as country,channel: a lower-case letter, then up to 31 "
            "lower-case letters, digits and underscores"
        )
    return names
