"""What columns hold beside peewee's own kinds, and to whom rows belong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from peewee import Field, TextField


class UtcField(Field):
    """An instant in UTC, to the millisecond; sorts as text in SQLite as it does as TIMESTAMP(3) elsewhere."""

    field_type = "TIMESTAMP(3)"

    def db_value(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        return value

    def python_value(self, value: Any) -> Any:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


class LongTextField(TextField):
    """Text of up to 4 GiB: TEXT ends at 64 KiB on MariaDB/MySQL."""

    field_type = "LONGTEXT"


class JsonField(Field):
    """A JSON value, stored as its text so that both databases give back what was put in."""

    field_type = "LONGTEXT"

    def db_value(self, value: Any) -> Any:
        return None if value is None else json.dumps(value, ensure_ascii=True, separators=(",", ":"))

    def python_value(self, value: Any) -> Any:
        return None if value is None else json.loads(value)


class Owned(Enum):
    """How the rows of a table name their owner: what `app.owners` exports and erases."""

    #: By `owner`.
    BY_OWNER = auto()
    #: By `session_id`, of a session that has an owner.
    BY_SESSION = auto()
    #: By `owner`, and they outlive it: erasing puts a keyed hash in its place.
    HASHED = auto()
    #: They belong to nobody.
    NOT = auto()
