"""SQL expressions for a value in a column of JSON texts."""

from typing import Any, ClassVar

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
