"""Statements over many rows whose columns and values come from the models."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .base import Base
from .dialect import id_step, is_sqlite, marks, sql
from .fields import JsonField, LongTextField

#: Values of one row, in the order of the fields.
Row = tuple[Any, ...]

#: Rows and characters of one INSERT, so that a batch of large rows still fits `max_allowed_packet`.
# SQLite takes 32,766 parameters.
INSERT_ROWS = 1000
INSERT_CHARACTERS = 2 * 1024 * 1024


class Insert:
    """Inserts rows of these fields of one table, many in a statement.

    Values are as the fields' `db_value` gives them: building that for each one costs more than running the statement.
    """

    def __init__(self, *fields: Any) -> None:
        table = fields[0].model._meta.table_name
        columns = ", ".join(field.column_name for field in fields)
        self._into = f"INSERT INTO {table} ({columns}) VALUES "
        self._marks = f"({marks(len(fields))})"
        self._large = [n for n, field in enumerate(fields) if isinstance(field, LongTextField | JsonField)]

    def __call__(self, rows: Iterable[Row]) -> None:
        """Store *rows* in the current transaction."""
        for chunk in self._chunks(rows):
            self._insert(chunk)

    def with_ids(self, rows: Iterable[Row]) -> list[int]:
        """Store *rows*; returns the ids that they got, in order."""
        ids: list[int] = []
        for chunk in self._chunks(rows):
            last = self._insert(chunk).lastrowid
            # Rows of one INSERT have consecutive ids. MariaDB and MySQL return the first one, SQLite the last.
            first = last - len(chunk) + 1 if is_sqlite() else last
            step = id_step() if len(chunk) > 1 else 1
            ids += range(first, first + len(chunk) * step, step)
        return ids

    def _insert(self, chunk: Sequence[Row]) -> Any:
        return sql(self._into + ",".join((self._marks,) * len(chunk)), [value for row in chunk for value in row])

    def _chunks(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        chunk: list[Row] = []
        size = 0
        for row in rows:
            length = sum(len(row[n] or "") for n in self._large)
            if chunk and (len(chunk) >= INSERT_ROWS or size + length > INSERT_CHARACTERS):
                yield chunk
                chunk, size = [], 0
            chunk.append(row)
            size += length
        if chunk:
            yield chunk


def insert_one(model: type[Base], /, **values: Any) -> int:
    """Store one row with these values and the defaults of its other fields; returns its id."""
    fields = model._meta.fields
    row = {name: default() if callable(default) else default for name, default in _defaults(model).items()} | values
    columns = ", ".join(fields[name].column_name for name in row)
    into = f"INSERT INTO {model._meta.table_name} ({columns}) VALUES ({marks(len(row))})"
    return int(sql(into, [fields[name].db_value(value) for name, value in row.items()]).lastrowid)


@functools.cache
def _defaults(model: type[Base]) -> dict[str, Any]:
    fields: dict[str, Any] = model._meta.fields
    return {name: field.default for name, field in fields.items() if field.default is not None}


class Select:
    """Reads rows of these fields of one table by a condition written by hand."""

    def __init__(self, *fields: Any) -> None:
        self._model: type[Base] = fields[0].model
        self._fields = fields
        #: `SELECT … FROM table`
        self.text = f"SELECT {', '.join(field.column_name for field in fields)} FROM {self._model._meta.table_name}"

    def __call__(self, rest: str, parameters: Sequence[Any]) -> list[Any]:
        """The rows as instances of the model; *rest* is what follows the name of the table."""
        return [self._instance(values) for values in sql(f"{self.text}{rest}", parameters).fetchall()]

    def _instance(self, values: Row) -> Base:
        pairs = zip(self._fields, values, strict=True)
        return self._model(**{field.name: field.python_value(value) for field, value in pairs})
