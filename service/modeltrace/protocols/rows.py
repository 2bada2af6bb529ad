"""Rows of a request that contains columns, arrays without names, or a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from modeltrace.errors import MalformedRequestError

Row = object
# Maximum number of characters of a client's name in a message.
MAX_NAME = 64


class ColumnRows(Sequence[dict[str, Any]]):
    """Shows columns as rows. Each row is built when it is read, so that a wide request does not exist twice.

    `columns` contains lists of the same length, `n_rows`, by feature name.
    """

    def __init__(self, columns: Mapping[str, Sequence[object]], n_rows: int) -> None:
        self._columns = columns
        self._n_rows = n_rows

    def __len__(self) -> int:
        return self._n_rows

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self._n_rows))]
        if not -self._n_rows <= index < self._n_rows:
            raise IndexError(index)
        return {name: values[index] for name, values in self._columns.items()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(self._n_rows))


def rows_from_instances(instances: object, names: Sequence[str], key: str) -> list[Row]:
    """Return the rows of a list: objects by feature name, arrays in the order of `names`, or values of one feature.

    `key` is the member of the body that contains the list.

    Raises:
        MalformedRequestError: it is not a list, or an array has another number of values than the model has features.
    """
    if not isinstance(instances, list):
        raise MalformedRequestError(f'"{key}" must be an array of rows')
    return [_row(instance, names, f"{key}[{index}]") for index, instance in enumerate(instances)]


def _row(instance: object, names: Sequence[str], place: str) -> Row:
    if isinstance(instance, dict):
        return instance
    values = instance if isinstance(instance, list) else [instance]
    if len(values) != len(names):
        has = f"{len(values)} value{'s' if len(values) != 1 else ''}"
        raise MalformedRequestError(
            f"{place} has {has}, the model has {len(names)} features (GET /model lists them in order)"
        )
    return dict(zip(names, values, strict=True))


def rows_from_columns(columns: Mapping[str, object], key: str) -> Sequence[Row]:
    """Return the rows of an object with one array per feature; single values are one row.

    Raises:
        MalformedRequestError: the arrays differ in length, or arrays and single values are mixed.
    """
    if not any(isinstance(values, list) for values in columns.values()):
        return [dict(columns)]
    arrays: dict[str, list[object]] = {}
    for name, values in columns.items():
        if not isinstance(values, list):
            raise MalformedRequestError(f'"{key}.{name[:MAX_NAME]}" must be an array, as the other columns are')
        # A column of shape (n, 1)
        arrays[name] = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
    n_rows = len(next(iter(arrays.values())))
    for name, values in arrays.items():
        if len(values) != n_rows:
            raise MalformedRequestError(
                f'"{key}.{name[:MAX_NAME]}" has {len(values)} values, the first column has {n_rows}'
            )
    return ColumnRows(arrays, n_rows)


def rows_from_table(columns: object, data: object, names: Sequence[str], key: str) -> list[Row]:
    """Return the rows of a table: an array of column names, and an array of rows.

    Without column names, or with the numbers 0, 1, … that pandas gives to columns without names, the columns are in
    the order of `names`.

    Raises:
        MalformedRequestError: the names are not distinct texts, or a row has another length.
    """
    if columns is None or (columns == list(range(len(names))) and "0" not in names):
        return rows_from_instances(data, names, f"{key}.data")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise MalformedRequestError(f'"{key}.columns" must be an array of feature names')
    if len(set(columns)) != len(columns):
        raise MalformedRequestError(f'"{key}.columns" contains a name twice')
    if not isinstance(data, list):
        raise MalformedRequestError(f'"{key}.data" must be an array of rows')
    rows: list[Row] = []
    for index, values in enumerate(data):
        if not isinstance(values, list) or len(values) != len(columns):
            raise MalformedRequestError(f'"{key}.data[{index}]" must be an array of {len(columns)} values')
        rows.append(dict(zip(columns, values, strict=True)))
    return rows
