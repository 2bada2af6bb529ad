"""SQL expressions for a value in a column of JSON texts."""

from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Text, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class JsonValue(FunctionElement[Any]):
    """The value at a place of a JSON text; NULL if there is none.

    The arguments are the column and the place. A subclass defines the SQL of each database, in which `{column}` and
    `{place}` stand for them.
    """

    sqlite: ClassVar[str]
    postgresql: ClassVar[str]
    duckdb: ClassVar[str]


@compiles(JsonValue)
def _compile(element: JsonValue, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  of SQLAlchemy
    column, place = (compiler.process(clause, **options) for clause in element.clauses)
    template: str = getattr(element, compiler.dialect.name)
    return template.format(column=column, place=place)


class JsonMember(JsonValue):
    """The value of a member of a JSON object as JSON text; NULL if the object lacks it, and for null.

    The name must not contain a quotation mark or a backslash, which SQLite does not find.
    """

    type = Text()
    inherit_cache = True
    sqlite = "nullif({column} -> ('$.\"' || {place} || '\"'), 'null')"
    # PostgreSQL decodes all texts of the object, and cannot decode U+0000.
    postgresql = r"nullif(CAST(replace({column}, '\u0000', '\u0020')::json -> {place} AS TEXT), 'null')"
    # DuckDB does not decode an unpaired surrogate, which is an error there.
    duckdb = "nullif(CAST(TRY(json_extract({column}, '$.\"' || {place} || '\"')) AS TEXT), 'null')"

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        super().__init__(column, literal(name))


def has_json_path(name: str) -> bool:
    """Return whether `JsonMember` finds a member of this name in every database."""
    return not set(name) & {'"', "\\"}
