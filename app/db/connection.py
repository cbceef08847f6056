"""The connection to the database: open it by URL, use one, read."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import peewee
import pymysql.cursors
import pymysql.err
from playhouse.pool import PooledMySQLDatabase
from pymysql.constants import CLIENT, FIELD_TYPE, SERVER_STATUS
from pymysql.converters import conversions

from app.errors import DatabaseBusy, DatabaseUnavailable
from app.observability import metrics

from . import errors as database_errors
from . import sqlite_file, times
from .dialect import database, is_sqlite
from .url import mysql_options, sqlite_path

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: A process that is frozen inside a transaction keeps its locks for so long; then the server rolls back.
_IDLE_TRANSACTION_S = 8
_CONNECT_S = 10.0
# The server's own may clip numbers in silence, or understand other SQL.
_SQL_MODE = "PIPES_AS_CONCAT,STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
# Times stay the text that SQLite gives as well: the driver takes longer to make them times than for the rest of a row.
_TIMES = (FIELD_TYPE.TIMESTAMP, FIELD_TYPE.DATETIME)
_CONVERSIONS = {kind: convert for kind, convert in conversions.items() if kind not in _TIMES}
_ANSWER_S = 30
_PING_S = 1.0
#: Bytes that a row may hold beside its text: mostly the tool calls of a message (`app.events.steps`).
_BESIDE_CONTENT = 1024 * 1024
#: Statements up to this many characters fit any server's `max_allowed_packet`.
_LARGE_STATEMENT = 128 * 1024

#: Waits for one of the connections of this process.
_slot: Callable[[], AbstractContextManager[None]] = nullcontext


class _Pool(PooledMySQLDatabase):  # type: ignore[misc]
    """A pool that looks whether a connection still stands once a second, not at every use.

    The pool does so under its lock: a round trip each time, in which nobody else gets or gives back a connection.
    """

    def _is_closed(self, conn: Any) -> bool:
        now = time.monotonic()
        if now - getattr(conn, "pinged_at", 0.0) < _PING_S:
            return False
        conn.pinged_at = now
        return bool(super()._is_closed(conn))

    def _connect(self) -> Any:
        conn = super()._connect()
        if not hasattr(conn, "told_time") or times.has_jumped():
            conn.told_time = True
            # One that breaks here is told by the next statement.
            with contextlib.suppress(pymysql.err.Error, OSError), pymysql.cursors.Cursor(conn) as cursor:
                asked_at = time.monotonic()
                cursor.execute("SELECT UNIX_TIMESTAMP(NOW(3)) * 1000")
                ((now_ms,),) = cursor.fetchall()
                times.follow(float(now_ms), asked_at, time.monotonic())
        return conn

    def _can_reuse(self, conn: Any) -> bool:
        # The pool would send a ROLLBACK at every give-back; the server has said whether a transaction is open.
        if not conn.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
            return True
        return bool(super()._can_reuse(conn))


class _Cursor(pymysql.cursors.Cursor):
    """Refuses a statement that is larger than the server takes.

    The server hangs up on one, which looks like an outage: the statement would be tried again for ever.
    """

    def _query(self, statement: str | bytes) -> Any:
        if len(statement) > _LARGE_STATEMENT and len(statement) * 4 > self._packet_bytes():
            raw = statement if isinstance(statement, bytes) else statement.encode("utf-8", "surrogateescape")
            if len(raw) + 1 > self._packet_bytes():
                raise pymysql.err.DataError(1153, "the statement is larger than max_allowed_packet")
        return super()._query(statement)  # type: ignore[misc]

    def _packet_bytes(self) -> int:
        connection: Any = self.connection
        if not hasattr(connection, "packet_bytes"):
            with pymysql.cursors.Cursor(connection) as cursor:
                cursor.execute("SELECT @@max_allowed_packet")
                ((connection.packet_bytes,),) = cursor.fetchall()
        return int(connection.packet_bytes)


def open_database(url: str, *, connections: int = 20, answer_s: int | None = None) -> peewee.Database:
    """Open *url* and bind the models to it. No connection is made yet.

    Args:
        url: `sqlite:///relative.db`, `sqlite:////absolute.db`, `mysql://user:password@host:port/name?ssl_mode=…` or
            `mariadb://…`.
        connections: Largest number of connections of this process; MariaDB/MySQL only.
        answer_s: Longest wait for the answer to one statement, whatever the URL says; MariaDB/MySQL only.

    Raises:
        Invalid: the URL names no database that can be used, or has an unknown parameter.
    """
    global _slot
    path = sqlite_path(url)
    if path is not None:
        opened = _open_sqlite(path)
        _slot = nullcontext
    else:
        opened = _open_mysql(url, connections, answer_s)
        _slot = _slots(connections)
    database.initialize(opened)
    return opened


def _open_sqlite(path: str) -> peewee.Database:
    sqlite_file.prepare(path)
    return sqlite_file.Database(
        path,
        timeout=15,
        # With "normal" a power cut undoes the last commits, although clients have seen their seqs.
        pragmas={"journal_mode": "wal", "synchronous": "full", "foreign_keys": 1, "cache_size": -16_000},
    )


def _open_mysql(url: str, connections: int, answer_s: int | None) -> peewee.Database:
    options = mysql_options(url)
    name = options.pop("database")
    if answer_s is not None:
        options |= {"read_timeout": answer_s, "write_timeout": answer_s}
    defaults = {
        "host": "127.0.0.1",
        "charset": "utf8mb4",
        "connect_timeout": 3,
        "read_timeout": _ANSWER_S,
        "write_timeout": _ANSWER_S,
        # Without it the row count is of *changed* rows: setting what stands there already looks like losing the row.
        "client_flag": CLIENT.FOUND_ROWS,
        # READ COMMITTED takes no gap locks; lock_wait_timeout is of tables; each server reads its own kind of comment.
        "init_command": "SET time_zone = '+00:00', innodb_lock_wait_timeout = 3, lock_wait_timeout = 3"
        f" /*M!100300 , tx_isolation = 'READ-COMMITTED', idle_transaction_timeout = {_IDLE_TRANSACTION_S} */"
        f" /*!80000 , transaction_isolation = 'READ-COMMITTED', wait_timeout = {_IDLE_TRANSACTION_S} */",
        "sql_mode": _SQL_MODE,
        "cursorclass": _Cursor,
        "conv": _CONVERSIONS,
    }
    return _Pool(
        name, mariadb=True, max_connections=connections, stale_timeout=300, timeout=_CONNECT_S, **(defaults | options)
    )


def _slots(connections: int) -> Callable[[], AbstractContextManager[None]]:
    """Callers wait in line for a connection: the pool's own waiters all try again at each that comes back."""
    free = threading.Semaphore(connections)

    @contextmanager
    def slot() -> Iterator[None]:
        if not free.acquire(blocking=False):
            _wait_for(free)
        metrics.DATABASE_CONNECTIONS.inc()
        try:
            yield
        finally:
            metrics.DATABASE_CONNECTIONS.dec()
            free.release()

    return slot


def _wait_for(free: threading.Semaphore) -> None:
    metrics.DATABASE_WAITS.inc()
    started = time.monotonic()
    is_free = free.acquire(timeout=_CONNECT_S)
    metrics.DATABASE_WAIT_SECONDS.inc(time.monotonic() - started)
    if not is_free:
        raise TimeoutError("all connections to the database are in use")


class _Outage:
    """Says once that the database is away, and once that it is back."""

    def __init__(self) -> None:
        self._is_on = False

    def begins(self, error: Exception) -> None:
        if not self._is_on:
            self._is_on = True
            logger.warning("database can't be reached", extra={"error": str(error)[:500]})

    def ends(self) -> None:
        if self._is_on:
            self._is_on = False
            logger.info("database is back")


_outage = _Outage()


@contextmanager
def connected() -> Iterator[None]:
    """A connection for this thread or greenlet, given back at the end; inside another one: that one.

    Raises:
        DatabaseUnavailable: the database can't be reached or went away.
    """
    if not database.is_closed():
        yield
        return
    with _translated(), _slot():
        database.connect()
        _outage.ends()
        try:
            yield
        finally:
            if not database.is_closed():
                database.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not database_errors.is_unavailable(error):
            raise
        metrics.DATABASE_ERRORS.inc()
        _outage.begins(error)
        _discard_connection()
        raise DatabaseUnavailable("the database can't be reached") from error


def _discard_connection() -> None:
    """Throw a broken connection away, and with it the idle ones: what broke it most likely broke them."""
    try:
        (database.manual_close if hasattr(database.obj, "manual_close") else database.close)()
        if hasattr(database.obj, "close_idle"):
            database.close_idle()
    except Exception:
        logger.debug("broken connection could not be closed", exc_info=True)


def without_idle_limit() -> None:
    """Let the current connection think for as long as it likes between two statements: migrations do."""
    if not is_sqlite():
        database.execute_sql(
            "SET innodb_lock_wait_timeout = 50, lock_wait_timeout = 1 /*M!100300 , idle_transaction_timeout = 0 */"
            " /*!80000 , wait_timeout = 28800 */"
        )


def reading(work: Callable[[], T]) -> T:
    """Run *work*, which only reads, on a connection of its own or the current one.

    Raises:
        DatabaseUnavailable: no connection, or somebody has locked a whole table.
    """
    within_transaction = database.in_transaction()
    try:
        try:
            with connected():
                return work()
        except DatabaseUnavailable as error:
            if not database_errors.was_hung_up(error.__cause__):
                raise
        # A pooled connection may have died with a server that is back by now: this one is new.
        with connected():
            return work()
    except (peewee.OperationalError, peewee.InternalError) as error:
        if within_transaction or not database_errors.is_retryable(error):
            raise
        raise DatabaseBusy("the database is busy") from error


def max_content_bytes(wanted: int) -> int:
    """The largest text that fits one statement here, at most *wanted* bytes (`max_allowed_packet` on MariaDB/MySQL)."""
    if is_sqlite():
        return wanted
    packet = int(reading(lambda: database.execute_sql("SELECT @@max_allowed_packet").fetchone()[0]))
    # Escaping can double the text, and also the rest of the row, which is in the same packet.
    return min(wanted, max((packet - 256 * 1024) // 2 - _BESIDE_CONTENT, 64 * 1024))
