"""What the errors of the databases mean: those of the servers have numbers, SQLite's have words."""

from __future__ import annotations

import sqlite3

import peewee
import pymysql
import pytest

from app.db.errors import is_retryable, is_unavailable


def wrapped(inner: Exception) -> peewee.OperationalError:
    """As peewee raises it."""
    return peewee.OperationalError(inner, *inner.args)


@pytest.mark.parametrize(
    ("error", "unavailable", "retryable"),
    [
        (pymysql.OperationalError(2013, "Lost connection to MySQL server during query"), True, False),
        (pymysql.OperationalError(1213, "Deadlock found when trying to get lock"), False, True),
        (pymysql.OperationalError(1412, "Table definition has changed, please retry transaction"), False, True),
        (pymysql.OperationalError(4025, "CONSTRAINT `c` failed"), False, False),
        (sqlite3.OperationalError("database or disk is full"), True, False),
        (sqlite3.OperationalError("attempt to write a readonly database"), True, False),
        (sqlite3.OperationalError("database is locked"), False, True),
        (sqlite3.OperationalError("no such table: x"), False, False),
    ],
)
def test_an_error_says_whether_to_wait_or_to_try_again(error: Exception, unavailable: bool, retryable: bool) -> None:
    assert (is_unavailable(wrapped(error)), is_retryable(wrapped(error))) == (unavailable, retryable)


def test_what_an_error_quotes_means_nothing() -> None:
    error = wrapped(pymysql.OperationalError(3140, "Invalid JSON text: 'the disk is full, the database is locked'"))

    assert not is_unavailable(error)
    assert not is_retryable(error)
