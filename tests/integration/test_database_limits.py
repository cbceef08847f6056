"""What a process is told when the database has no room for it."""

from __future__ import annotations

import threading

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
