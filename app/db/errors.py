"""What errors of MariaDB/MySQL and SQLite mean: unavailable, try again, or the statement is at fault."""

from __future__ import annotations

import re

import peewee
from playhouse.pool import MaxConnectionsExceeded

from app.errors import BackchatError, DatabaseUnavailable

# Lock wait timeout, deadlock, record or table changed since it was read first: the transaction may simply run again.
_RETRYABLE = frozenset({1205, 1213, 1020, 1412})
_LOCKED_FILE = "database is locked"
# These say nothing about the statement. Any other error means that the content can't be stored, and ends its session.
_UNAVAILABLE = frozenset(
    {
        # gone, shutting down, hung up, network trouble
        *(1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2006, 2013, 2026, 2055, 4031),
        # no login, none without encryption, no such database: that is settled on the server
        *(1044, 1045, 1049, 1698, 3159),
        # read-only, locked for a backup, a node that is not ready
        *(1047, 1223, 1290, 1792, 1836),
        # as many connections as there may be, of all or of this user; as many locks or transactions
        *(1040, 1203, 1226, 1206, 1637),
        # disk full, or failing
        *(3, 1021, 1026, 1030, 1114, 1180),
        # out of memory
        *(5, 1037, 1038, 1041),
        # stopped by its operator or by a limit of time
        *(1317, 1969, 3024),
    }
)
#: SQLite has no error numbers, only these texts.
_UNAVAILABLE_FILE = re.compile("unable to open database file|disk is full|disk I/O error|readonly database")
_HUNG_UP = frozenset({1927, 2006, 2013, 2055, 4031})
_ROLLED_BACK = re.compile(r"no transaction is active|SAVEPOINT \S+ does not exist")


def is_unavailable(error: BaseException) -> bool:
    """The database can't be reached, or can't work now; nothing is wrong with what was asked."""
    error = _first(error)
    if isinstance(error, peewee.InterfaceError):
        # PyMySQL's (0, "") on a connection that was closed under it.
        return True
    if isinstance(error, MaxConnectionsExceeded):
        return True
    if not isinstance(error, peewee.OperationalError | peewee.InternalError):
        return isinstance(error, ConnectionError | TimeoutError)
    codes = _codes(error)
    # An error with a number may quote what somebody wrote.
    return bool(codes & _UNAVAILABLE) if codes else _UNAVAILABLE_FILE.search(str(error)) is not None


def is_retryable(error: BaseException) -> bool:
    """Other transactions were in the way: the same one may succeed now."""
    error = _first(error)
    if not isinstance(error, peewee.OperationalError | peewee.InternalError):
        return False
    codes = _codes(error)
    return bool(codes & _RETRYABLE) if codes else _LOCKED_FILE in str(error)


def was_hung_up(error: BaseException | None) -> bool:
    """The server closed the connection, now or long ago; a timeout is not that."""
    if isinstance(error, peewee.InterfaceError):
        return True
    return isinstance(error, peewee.OperationalError) and bool(_codes(error) & _HUNG_UP) and "timed" not in str(error)


def in_full(error: BackchatError) -> str:
    """*error* with its cause, for the operator: clients don't learn where the database is and why it is away."""
    cause = error.__cause__
    if not isinstance(error, DatabaseUnavailable) or cause is None:
        return error.detail
    why = cause.args[-1] if isinstance(cause, peewee.PeeweeException) and cause.args else cause
    return f"{error.detail}: {why} (DATABASE_URL)"


def _first(error: BaseException) -> BaseException:
    """What went wrong: a database that has rolled back by itself refuses the rollback that follows."""
    while error.__context__ is not None and _ROLLED_BACK.search(str(error)):
        error = error.__context__
    return error


def _codes(error: BaseException) -> set[int]:
    """The numbers that a server gave it; peewee keeps the driver's error among the arguments of its own."""
    inner = (argument for each in error.args if isinstance(each, Exception) for argument in each.args[:1])
    return {argument for argument in (*error.args, *inner) if isinstance(argument, int)}
