"""What a process is told when the database has no room for it, and what a commit withstands."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peewee
import pytest

from app import db, sessions
from app.conversations import threads
from app.errors import DatabaseUnavailable
from tests.conftest import opened
from tests.factories import OWNER, at_once, change, failures, make_new, make_session, messages_of, row
from tests.servers import MariaDB


def test_sqlite_keeps_every_commit_through_a_power_cut(tmp_path: Path) -> None:
    made = db.open_database(f"sqlite:///{tmp_path / 'chat.db'}")
    full = 2

    with db.connected():
        assert db.sql("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.sql("PRAGMA synchronous").fetchone() == (full,)

    made.close()


def test_a_pool_without_a_free_connection_is_an_unavailable_database(
    mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.connection._CONNECT_S", 0.5)
    url = mariadb.create_database("pool")
    db.open_database(url, connections=1)
    taken, give_back = threading.Event(), threading.Event()

    def hold() -> None:
        with db.connected():
            taken.set()
            give_back.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    try:
        with pytest.raises(DatabaseUnavailable):
            db.transaction(lambda: None)
    finally:
        give_back.set()
        holder.join()

    assert db.transaction(lambda: "again") == "again"
    db.database.close_all()
    mariadb.drop_database("pool")


def test_a_server_without_a_connection_for_this_user_is_an_unavailable_database(
    make_mariadb: Callable[[], MariaDB],
) -> None:
    server = make_mariadb()
    db.open_database(server.create_database("limited"))

    with server.connect() as earlier, earlier.cursor() as cursor:
        cursor.execute("ALTER USER CURRENT_USER() WITH MAX_USER_CONNECTIONS 1")
        with server.connect(), pytest.raises(DatabaseUnavailable):
            db.transaction(lambda: None)
        cursor.execute("ALTER USER CURRENT_USER() WITH MAX_USER_CONNECTIONS 0")

    assert db.transaction(lambda: "again") == "again"
    db.database.close_all()


def test_a_full_disk_is_an_unavailable_database(tmp_path: Path) -> None:
    made = db.open_database(f"sqlite:///{tmp_path / 'chat.db'}")
    db.transaction(lambda: db.sql("CREATE TABLE texts (text TEXT)"))

    def write() -> None:
        db.sql("INSERT INTO texts VALUES (?)", ["x" * 100_000])

    def limit(pages: int) -> None:
        made.pragma("max_page_count", pages, permanent=True)
        made.close()

    limit(4)
    with pytest.raises(DatabaseUnavailable):
        db.transaction(write)
    limit(1_000_000)

    db.transaction(write)


def test_a_deadlock_within_a_savepoint_runs_the_transaction_again(store: str) -> None:
    for name in "ab":
        make_session(conversation_id=name)
    met = threading.Barrier(2)
    tries: list[str] = []

    def lock(first: str, second: str) -> None:
        tries.append(first)
        threads.lock(OWNER, first)
        if not db.is_sqlite() and len(tries) <= 2:
            met.wait()
        with db.database.atomic():
            threads.lock(OWNER, second)

    outcomes = at_once([lambda: db.transaction(lambda: lock("a", "b")), lambda: db.transaction(lambda: lock("b", "a"))])

    assert failures(outcomes) == []


def test_a_read_does_not_notice_that_the_database_was_restarted(make_mariadb: Callable[[], MariaDB]) -> None:
    server = make_mariadb()
    db.open_database(server.create_database("restarted"))

    def read() -> object:
        return db.database.execute_sql("SELECT 1").fetchone()

    def read_on_connections_of_their_own() -> list[object]:
        meet = threading.Barrier(3)

        def together() -> object:
            meet.wait()
            return read()

        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(lambda _: db.reading(together), range(3)))

    first = read_on_connections_of_their_own()
    server.kill9()
    server.start()
    second = [db.reading(read) for _ in range(3)]
    db.database.close_all()

    assert first == second == [(1,)] * 3


def test_the_sql_mode_of_the_server_changes_nothing(make_mariadb: Callable[[], MariaDB]) -> None:
    server = make_mariadb()
    bound = db.database.obj
    for number, mode in enumerate(["ORACLE", "", "ANSI", "PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES"]):
        server.execute(f"SET GLOBAL sql_mode = '{mode}'")
        with opened(server.create_database(f"chat{number}")):
            created = sessions.create(make_new(message="a\\'b"))

            assert messages_of(created.session_id) == [("user", "a\\'b")]
            with pytest.raises(peewee.DataError):
                change(created.session_id, last_seq=2**40)
    db.database.initialize(bound)


@pytest.mark.parametrize(("before", "after"), [(None, 0o600), (0o644, 0o640), (0o666, 0o660), (0o600, 0o600)])
def test_the_file_of_a_database_is_kept_from_others(tmp_path: Path, before: int | None, after: int) -> None:
    path = tmp_path / "folder" / "backchat.db"
    if before is not None:
        path.parent.mkdir()
        path.touch()
        path.chmod(before)

    with opened(f"sqlite:///{path}"):
        files = [each for each in path.parent.glob("backchat.db*") if "lock" not in each.name]
        modes = {stat.S_IMODE(each.stat().st_mode) for each in files}

    assert modes == {after}


def test_a_database_file_that_was_deleted_is_away_and_no_empty_one_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with opened(f"sqlite:///{path}"):
        session_id = make_session()
        path.rename(tmp_path / "elsewhere.db")

        for work in (lambda: db.reading(lambda: row(session_id)), make_session):
            with pytest.raises(DatabaseUnavailable):
                work()

        assert not path.exists()
        (tmp_path / "elsewhere.db").rename(path)
        assert row(session_id).status == "running"
