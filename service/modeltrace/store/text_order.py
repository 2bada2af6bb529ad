"""Sort texts in the same order in each database."""

from typing import Any

from sqlalchemy import Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class ByteOrder(FunctionElement[str]):
    """SQL expression: a text that is sorted by its bytes. PostgreSQL otherwise sorts as in the database's language."""

    type = Text()
    inherit_cache = True


@compiles(ByteOrder)
def _compile(element: ByteOrder, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  of SQLAlchemy
    (text,) = element.clauses
    collation = ' COLLATE "C"' if compiler.dialect.name == "postgresql" else ""
    return compiler.process(text, **options) + collation
