"""The file of an SQLite database."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import peewee

from app.errors import Invalid


class Database(peewee.SqliteDatabase):
    """Begins every transaction as one that writes.

    One that reads first and writes then, as a migration does, fails at once if somebody has written in between.
    """

    def _connect(self) -> Any:
        if not os.path.exists(self.database):
            # SQLite would make another one, without tables, and all would look as if nothing had ever been stored.
            raise sqlite3.OperationalError("unable to open database file")
        return super()._connect()  # type: ignore[misc]  # of peewee, which has no types for it

    def atomic(self, lock_type: str = "IMMEDIATE") -> Any:
        return super().atomic(lock_type)


def prepare(path: str) -> None:
    """Make it and its folder; nobody but its user and group may read it, nor what SQLite puts beside it.

    Raises:
        Invalid: the folder can't be made.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Invalid(f"the folder of DATABASE_URL can't be made: {error}") from error
    # What is wrong with the file itself is told when it is used.
    with suppress(OSError):
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        mode = os.stat(path).st_mode & 0o777
        if mode & 0o007:
            os.chmod(path, mode & 0o770)
