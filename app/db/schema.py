"""The schema's version: migrate it, or refuse to serve on an old one."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playhouse.migrations import Runner

from app import db
from app.errors import DatabaseUnavailable, SchemaOutdated

MIGRATIONS = Path(__file__).resolve().parent.parent.parent / "migrations"
MIGRATE_COMMAND = "python -m app.cli migrate"

_LOCK_PREFIX = "backchat:"
_LOCK_TIMEOUT_S = 300


def _runner() -> Runner:
    return Runner(db.database.obj, str(MIGRATIONS), table_name="chatMigrations")


def migrate() -> list[str]:
    """Apply what is pending and return the names; of any number of processes at once, one does it and the others wait.

    Raises:
        DatabaseUnavailable: no connection, or another process holds the lock for too long.
    """
    with _one_at_a_time():
        return list(_runner().up())


def require_current() -> None:
    """Check that every migration of this code has been applied.

    Raises:
        SchemaOutdated: some are pending; the message names the command to run.
        DatabaseUnavailable: no connection.
    """
    pending = db.reading(lambda: [m.name for m in _runner().status() if not m.applied])
    if pending:
        raise SchemaOutdated(f"the database lacks {', '.join(pending)}; run: {MIGRATE_COMMAND}")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    if db.is_sqlite():
        # A file lock, taken before the first connection: switching to WAL fails while another process connects.
        try:
            lock = open(f"{db.database.database}.migrate-lock", "w")  # noqa: SIM115 - the `with` below closes it
        except OSError as error:
            raise DatabaseUnavailable("the database can't be written") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with db.connected():
                yield
        return
    with db.connected():
        db.without_idle_limit()
        # Bound to the connection, so that a killed process frees it; named after the database: a server holds many.
        lock_name = f"{_LOCK_PREFIX}{db.database.database}"[:64]
        if db.database.execute_sql("SELECT GET_LOCK(%s, %s)", (lock_name, _LOCK_TIMEOUT_S)).fetchone()[0] != 1:
            raise DatabaseUnavailable("another process is migrating; it took too long")
        try:
            yield
        finally:
            db.database.execute_sql("SELECT RELEASE_LOCK(%s)", (lock_name,))
            # Not back into the pool: without its limits it would wait for a locked table for minutes.
            db.database.manual_close()
