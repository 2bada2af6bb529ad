"""The header by which clients send a key."""


def bearer_headers(key: str | None, where: str) -> dict[str, str]:
    """Return the `Authorization` header for a key; an empty dictionary if there is none.

    White space around the key, such as the newline of a file, is removed.

    Args:
        key: the key.
        where: the setting that has the key, for the message.

    Raises:
        ValueError: a header cannot carry the key. The message does not contain the key, unlike those of HTTP clients.
    """
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"{where} has a key with characters other than printable ASCII, which no HTTP header can carry"
        )
    return {"authorization": f"Bearer {key}"} if key else {}
