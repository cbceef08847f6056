"""What a process is told when the database has no room for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app import database
from app.errors import DatabaseUnavailable
from tests.servers import MariaDB


@pytest.mark.slow
def test_a_pool_without_a_free_connection_is_an_unavailable_database(mariadb: MariaDB) -> None:
    url = mariadb.create_database("pool")
    database.open_database(url, connections=1)
    taken, give_back = threading.Event(), threading.Event()

    def hold() -> None:
        with database.connection():
            taken.set()
            give_back.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    try:
        with pytest.raises(DatabaseUnavailable):
            database.transaction(lambda: None)
    finally:
        give_back.set()
        holder.join()

    assert database.transaction(lambda: "again") == "again"
    database.db.close_all()
    mariadb.drop_database("pool")


def test_a_read_does_not_notice_that_the_database_was_restarted(make_mariadb: Callable[[], MariaDB]) -> None:
    server = make_mariadb()
    database.open_database(server.create_database("restarted"))

    def read() -> object:
        return database.db.execute_sql("SELECT 1").fetchone()

    def read_on_connections_of_their_own() -> list[object]:
        meet = threading.Barrier(3)

        def together() -> object:
            meet.wait()
            return read()

        with ThreadPoolExecutor(3) as threads:
            return list(threads.map(lambda _: database.reading(together), range(3)))

    first = read_on_connections_of_their_own()
    server.kill9()
    server.start()
    second = [database.reading(read) for _ in range(3)]
    database.db.close_all()

    assert first == second == [(1,)] * 3
