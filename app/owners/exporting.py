"""Export all that an owner has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from app import db
from app.db.base import Base
from app.db.fields import Owned
from app.db.times import iso

from . import rows


def export(owner: str) -> Iterator[dict[str, Any]]:
    """Every row of *owner* as `{"table": …, "row": {column: value}}`, table by table; last `{"rows": how many}`.

    What is written meanwhile may be missing.

    Raises:
        DatabaseUnavailable: no connection; without the last line it is not complete.
    """
    count = 0
    for model, some in _rows(owner):
        for row in db.reading(lambda model=model, some=some: _read(model, some)):  # type: ignore[misc]
            count += 1
            yield {"table": model._meta.table_name, "row": row}
    yield {"rows": count}


def _rows(owner: str) -> Iterator[tuple[type[Base], Sequence[Any]]]:
    for model in rows.tables(Owned.BY_OWNER, Owned.HASHED):
        for some in rows.keys(owner, model):
            if some:
                yield model, some
    for model in rows.tables(Owned.BY_SESSION):
        for session_ids in rows.sessions(owner):
            for some in rows.keys_of_sessions(session_ids, model):
                yield model, some


def _read(model: type[Base], some: Sequence[Any]) -> list[dict[str, Any]]:
    fields = model._meta.sorted_fields
    query = model.select().where(rows.having(model, some)).order_by(*rows.key_fields(model))
    return [{field.column_name: _plain(getattr(row, field.name)) for field in fields} for row in query]


def _plain(value: Any) -> Any:
    return iso(value) if isinstance(value, datetime) else value
