"""Counts what this process asks of database, Redis and model, and harms it at one of these calls.

Orders come from outside, through the target of the symlink `order` in the folder that `CRASH_FOLDER` names: a link is
read with one system call and replaced in one. An order is `NUMBER ROLE KIND AT FAULT`; `- 0 -` at its end: only record.

    kinds           begin, statement (within a transaction), read (outside of one), commit, committed, redis,
                    request (to a model), chunk (of its answer)
    faults          kill, freeze; break: the connection breaks before the call; lose: after it, so that nobody hears
                    its answer; refuse: the database has rolled back for a deadlock or a lock

The target of the symlink `clock` there, in seconds, is how far ahead the database's clock is: a number that the
database's own functions for the time are moved by.

The process that makes the fault leaves its pid in `fired-NUMBER`, whose existence keeps others from making it again.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import peewee
import pymysql
import pymysql.connections
import redis
import redis.connection

_IN_TRANSACTION = pymysql.constants.SERVER_STATUS.SERVER_STATUS_IN_TRANS


class _Points:
    def __init__(self, folder: Path, role: str) -> None:
        self._folder = folder
        self._role = role
        self._link = str(folder / "order")
        self._clock = str(folder / "clock")
        self._order = ""
        self._wanted: tuple[str, int, str] | None = None
        # Counters need no lock, which a finalizer that calls Redis could want twice.
        self._counters: dict[str, Iterator[int]] = {}

    def clock_ahead_s(self) -> float:
        """How far the database's clock has to be ahead of the machine's."""
        try:
            return float(os.readlink(self._clock))
        except OSError:
            return 0.0

    def reach(self, kind: str, label: str) -> str:
        """The fault that the caller has to make now, mostly none; a kill or a freeze is made here."""
        try:
            order = os.readlink(self._link)
        except OSError:
            return ""
        if order != self._order:
            self._order = order
            self._counters = defaultdict(lambda: count(1))
            _, role, wanted, at, fault = order.split(" ")
            self._wanted = (wanted, int(at), fault) if role == self._role else None
        if self._wanted is None:
            return ""
        wanted, at, fault = self._wanted
        if wanted == "-":
            self._note("calls", f"{kind} {' '.join(label.split())[:100]}\n", os.O_APPEND)
            return ""
        if kind != wanted or next(self._counters[kind]) != at or not self._note("fired", f"{os.getpid()}\n", os.O_EXCL):
            return ""
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
            return ""
        return fault

    def _note(self, name: str, line: str, flag: int) -> bool:
        number = self._order.partition(" ")[0]
        try:
            file = os.open(self._folder / f"{name}-{number}", os.O_WRONLY | os.O_CREAT | flag)
        except FileExistsError:
            return False
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)
        return True


def install(role: str) -> None:
    """Look at every call from now on; without `CRASH_FOLDER` do nothing. Call it before the first connection."""
    if folder := os.environ.get("CRASH_FOLDER"):
        points = _Points(Path(folder), role)
        _watch_mariadb(points)
        _watch_sqlite(points)
        _watch_redis(points)
        if role == "worker":
            _watch_model(points)


def _kind(statement: str, within_transaction: bool) -> str:
    word = statement.lstrip()[:6].upper().rstrip()
    if word in ("BEGIN", "COMMIT"):
        return word.lower()
    return "statement" if within_transaction else "read"


def _watch_mariadb(points: _Points) -> None:
    query = pymysql.connections.Connection.query

    def watched(self: Any, sql: Any, unbuffered: bool = False) -> Any:
        text = sql if isinstance(sql, str) else bytes(sql[:200]).decode("utf-8", "replace")
        kind = _kind(text, bool(self.server_status & _IN_TRANSACTION))
        if (ahead_s := points.clock_ahead_s()) and kind in ("read", "statement"):
            # The server's own time, once for each statement: it would stand still.
            query(self, f"SET timestamp = {time.time() + ahead_s}")
        fault = points.reach(kind, text)
        if fault == "refuse":
            query(self, "ROLLBACK")
            raise pymysql.err.OperationalError(1213, "Deadlock found when trying to get lock")
        if fault:
            _hang_up(self)
        answer = query(self, sql, unbuffered)
        if kind == "commit" and points.reach("committed", text):
            _hang_up(self)
        return answer

    pymysql.connections.Connection.query = watched  # type: ignore[method-assign]


def _hang_up(connection: Any) -> None:
    connection._force_close()
    raise pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")


def _watch_sqlite(points: _Points) -> None:
    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, parameters: Any = ()) -> Any:
            kind = _kind(sql, self.connection.in_transaction)
            if fault := points.reach(kind, sql):
                raise sqlite3.OperationalError("database is locked" if fault == "refuse" else "disk I/O error")
            answer = super().execute(sql, parameters)
            if kind == "commit" and points.reach("committed", sql):
                raise sqlite3.OperationalError("disk I/O error")
            return answer

    class Connection(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            # One connection lasts for a transaction only.
            if ahead_s := points.clock_ahead_s():
                plain = sqlite3.connect(":memory:")
                for name in ("julianday", "strftime", "unixepoch", "datetime"):
                    self.create_function(name, -1, partial(_moved, plain, name, ahead_s))

        def cursor(self, factory: Any = None) -> Any:
            return super().cursor(factory or Cursor)

    connect = peewee.sqlite3.connect

    class Watched:
        """The module, but for its connections."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sqlite3, name)

        @staticmethod
        def connect(*arguments: Any, **options: Any) -> Any:
            return connect(*arguments, **{"factory": Connection} | options)

    peewee.sqlite3 = Watched()


def _moved(plain: sqlite3.Connection, name: str, ahead_s: float, *arguments: Any) -> Any:
    """SQLite's own function, with the same meaning but for `now`."""
    day = 2440587.5 + (time.time() + ahead_s) / 86400
    moved = [day if argument == "now" else argument for argument in arguments or ("now",)]
    return plain.execute(f"SELECT {name}({', '.join('?' * len(moved))})", moved).fetchone()[0]


def _watch_redis(points: _Points) -> None:
    send = redis.connection.AbstractConnection.send_packed_command

    def watched(self: Any, command: Any, check_health: bool = True) -> Any:
        packed = command if isinstance(command, bytes | str) else b"".join(command)
        text = packed if isinstance(packed, str) else bytes(packed[:200]).decode("utf-8", "replace")
        fault = points.reach("redis", text)
        if fault == "break":
            self.disconnect()
            raise redis.ConnectionError("broken by a test")
        send(self, command, check_health)
        if fault == "lose":
            self.disconnect()
            raise redis.ConnectionError("broken by a test")

    redis.connection.AbstractConnection.send_packed_command = watched  # type: ignore[method-assign]


def _watch_model(points: _Points) -> None:
    import aiohttp

    request: Callable[..., Any] = aiohttp.ClientSession._request
    readany: Callable[..., Any] = aiohttp.StreamReader.readany

    async def watched_request(self: Any, method: str, url: Any, **options: Any) -> Any:
        if points.reach("request", f"{method} {url}"):
            raise aiohttp.ClientConnectionError("broken by a test")
        return await request(self, method, url, **options)

    async def watched_readany(self: Any) -> bytes:
        data: bytes = await readany(self)
        if points.reach("chunk", data[:80].decode("utf-8", "replace")):
            raise aiohttp.ClientPayloadError("broken by a test")
        return data

    aiohttp.ClientSession._request = watched_request  # type: ignore[method-assign]
    aiohttp.StreamReader.readany = watched_readany  # type: ignore[method-assign]
