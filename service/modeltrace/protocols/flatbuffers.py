"""Read one field of the metadata of an Arrow IPC message, which pyarrow does not show: the compression of its buffers.

Source: https://flatbuffers.dev/internals/, and format/Message.fbs of Apache Arrow. A table begins with the (signed)
distance to its vtable. The vtable has its own size, the size of the table, and the offset of each field in the table;
0 stands for a field that is absent.
"""

import struct
from typing import Final

# Numbers of fields and types in Message.fbs.
_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_DICTIONARY_DATA: Final = 1
_COMPRESSION: Final = 3


def has_compressed_buffers(metadata: bytes) -> bool:
    """Return whether the metadata of an IPC message declare a compression of its buffers.

    Raises:
        ValueError: the metadata are invalid.
    """
    try:
        message = struct.unpack_from("<I", metadata, 0)[0]
        kind = _field(metadata, message, _HEADER_TYPE)
        if kind is None or metadata[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
            return False
        batch = _table(metadata, message, _HEADER)
        if metadata[kind] == _DICTIONARY_BATCH:
            batch = _table(metadata, batch, _DICTIONARY_DATA)
        return _field(metadata, batch, _COMPRESSION) is not None
    except (struct.error, IndexError):
        raise ValueError("the metadata of a message are incomplete") from None


def _field(metadata: bytes, table: int, number: int) -> int | None:
    """Return the position of a field; `None` if the table does not have it."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    if vtable < 0:
        raise ValueError("the metadata of a message are invalid")
    (size,) = struct.unpack_from("<H", metadata, vtable)
    entry = 4 + 2 * number
    offset = struct.unpack_from("<H", metadata, vtable + entry)[0] if entry < size else 0
    return table + offset if offset else None


def _table(metadata: bytes, table: int, number: int) -> int:
    """Return the position of a table that is a field of another one."""
    position = _field(metadata, table, number)
    if position is None:
        raise ValueError("the metadata of a message are incomplete")
    return position + int(struct.unpack_from("<I", metadata, position)[0])
