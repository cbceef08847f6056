"""Migrations: once, for any number of processes, on an empty database and on one with the first deployment's data."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import peewee
import pytest
from playhouse.migrations import Runner

from app import db
from app.api import create_app
from app.conversations import queries as conversation_queries
from app.db import schema
from app.db.cursors import Cursor
from app.db.models import MODELS, Event, Message, Session
from app.db.times import utc_now
from app.errors import SchemaOutdated
from app.history import queries as history
from app.history.entries import HISTORY_TYPES
from app.history.queries import Wanted
from app.sessions import queries as session_queries
from app.settings import Settings
from migrations import steps
from tests import original_database
from tests.conftest import close_all, opened
from tests.factories import OWNER, make_claim, make_session, statements
from tests.original_database import LARGE, SESSIONS, STRAY
from tests.servers import MariaDB, Process, free_port

# models and tables


def test_the_models_and_the_migrated_tables_have_the_same_columns(store: str) -> None:
    with db.connected():
        for model in MODELS:
            stored = {column.name: column for column in db.database.get_columns(model._meta.table_name)}
            declared = {field.column_name: field for field in model._meta.sorted_fields}
            keys = {field.column_name for field in model._meta.get_primary_keys()}

            assert stored.keys() == declared.keys(), model
            for name, field in declared.items():
                assert stored[name].primary_key is (name in keys), (model, name)
                if name not in keys and stored[name].data_type.upper() != "TIMESTAMP":
                    assert stored[name].null is field.null, (model, name)


def test_text_is_wide_enough_for_what_is_stored_in_it(mariadb: MariaDB, store: str) -> None:
    if store.startswith("sqlite"):
        pytest.skip("SQLite's columns have no width")
    models = (Session, Event, Message)
    with db.connected():
        columns = {
            f"{model._meta.table_name}.{column.name}": column.data_type.lower()
            for model in models
            for column in db.database.get_columns(model._meta.table_name)
        }

    for model in models:
        for field in model._meta.sorted_fields:
            kind = columns[f"{model._meta.table_name}.{field.column_name}"]
            if field.field_type == "LONGTEXT":
                assert kind == "longtext", field
            if field.field_type in ("BIGINT", "BIGAUTO"):
                assert kind == "bigint", field


#: The lists of the API and the work of the sweeper: (table, equal columns, order).
LISTS = (
    ("chatSessions", ("owner",), "id"),
    ("chatSessions", ("owner", "status"), "id"),
    ("chatSessions", ("owner", "agentId"), "id"),
    ("chatSessions", ("owner", "conversationId"), "id"),
    ("chatSessions", ("conversationId", "owner", "status"), "id"),
    ("chatEvents", ("sessionId",), "seq"),
    ("chatMessages", ("conversationId", "owner"), "id"),
    ("chatConversations", ("owner",), "updatedAt"),
    ("chatAgentEvents", ("owner", "agentId"), "createdAt"),
    ("chatAgentEvents", ("owner", "agentId", "eventType"), "createdAt"),
    ("chatAgentEvents", ("owner", "agentId", "sessionId"), "createdAt"),
    ("chatAgentEvents", ("conversationId", "owner"), "createdAt"),
    ("chatAgentEvents", ("agentId",), "rowId"),
    ("chatSessions", ("eventsPrunedAt",), "endedAt"),
)


@pytest.mark.parametrize(("table", "equal", "order"), LISTS)
def test_every_list_is_served_by_an_index_in_its_order(
    store: str, table: str, equal: tuple[str, ...], order: str
) -> None:
    with db.connected():
        indexes = [tuple(index.columns) for index in db.database.get_indexes(table)]

    assert any(columns[: len(equal) + 1] == (*equal, order) for columns in indexes), indexes


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("chatSessions", ("sessionId",)),
        ("chatSessions", ("owner", "idempotencyKey")),
        ("chatEvents", ("sessionId", "seq")),
        ("chatConversations", ("conversationId", "owner")),
        ("chatMessages", ("sessionId", "role")),
        ("chatAgentEvents", ("conversationId", "owner", "seq")),
        ("chatAgentEvents", ("id",)),
    ],
)
def test_what_must_be_unique_is_so_in_the_database(store: str, table: str, columns: tuple[str, ...]) -> None:
    with db.connected():
        unique = [tuple(index.columns) for index in db.database.get_indexes(table) if index.unique]

    assert columns in unique


def test_sqlite_lists_without_sorting_or_scanning(store: str) -> None:
    if not store.startswith("sqlite"):
        pytest.skip("MariaDB scans small tables whatever their indexes")
    with statements() as asked:
        for filters in ({}, {"status": "done"}, {"agent_id": 1}, {"conversation_id": "c"}, {"cursor": "czU"}):
            session_queries.list_recent(OWNER, **filters)
        session_queries.next_waiting("local", "c")
        conversation_queries.list_recent(OWNER)
        conversation_queries.list_recent(OWNER, cursor=Cursor("c", 2).encode(1, 1))
        for wanted in (
            Wanted(OWNER, 1),
            Wanted(OWNER, 1, types=frozenset(HISTORY_TYPES)),
            Wanted(OWNER, 1, session="s"),
            Wanted(OWNER, 1, conversation_id="c"),
            Wanted(OWNER, 1, since=utc_now()),
        ):
            history.page(wanted, order="desc")
            history.page(wanted, after=history.after_time(utc_now()))
        history.summary(OWNER, 1)

    with db.connected():
        plans = [
            detail
            for statement in asked
            if statement.startswith("SELECT")
            for *_, detail in db.database.execute_sql(
                f"EXPLAIN QUERY PLAN {statement}", (1,) * statement.count("?")
            ).fetchall()
        ]
    assert plans
    # Of a count the rows that a limit has left are scanned; numbers of contexts are few.
    costly = [plan for plan in plans if plan.startswith("SCAN") or "TEMP B-TREE" in plan]
    assert set(costly) <= {"SCAN _wrapped", "USE TEMP B-TREE FOR count(DISTINCT)"}


# migrate once


def test_ten_processes_at_once_migrate_an_empty_database_once(
    database_url: str, make_process: Callable[..., Process]
) -> None:
    processes = [make_process("-m", "app.cli", "migrate", DATABASE_URL=database_url) for _ in range(10)]

    statuses = [process.wait(90) for process in processes]

    assert statuses == [0] * 10, [process.output for process in processes]
    applied = [line for process in processes for line in process.output.splitlines() if line.startswith("applied")]
    names = sorted(path.stem for path in schema.MIGRATIONS.glob("0*.py"))
    assert applied == [f"applied {name}" for name in names]
    with opened(database_url):
        schema.require_current()
        make_claim()


def test_migrating_again_does_nothing(database_url: str) -> None:
    with opened(database_url):
        session_id = make_session()

        assert schema.migrate() == []

        assert session_queries.get(OWNER, session_id)["status"] == "running"


@pytest.mark.parametrize("applied", [0, 1, 2])
def test_the_web_process_refuses_an_old_schema_and_names_the_command(database_url: str, applied: int) -> None:
    made = db.open_database(database_url)
    names = sorted(path.stem for path in schema.MIGRATIONS.glob("0*.py"))
    if applied:
        with db.connected():
            Runner(made, str(schema.MIGRATIONS), table_name="chatMigrations").up(names[applied - 1])
    close_all(made)

    with pytest.raises(SchemaOutdated, match=re.escape("python -m app.cli migrate")) as refused:
        create_app(Settings(database_url=database_url, redis_url=f"redis://127.0.0.1:{free_port()}"))

    assert names[applied] in refused.value.detail
    close_all(db.database.obj)


# beside older processes


def test_a_message_of_an_older_process_gets_the_owner_of_its_session(store: str) -> None:
    session_id = make_session(owner="anna")

    def store_it() -> None:
        Message.delete().execute()
        older = "INSERT INTO chatMessages (conversationId, sessionId, role, content, metadata) VALUES (?, ?, ?, ?, ?)"
        db.sql(older, ["c", session_id, "user", "hello", "{}"])

    db.transaction(store_it)

    assert db.reading(lambda: [message.owner for message in Message.select()]) == ["anna"]


def test_a_migration_that_waits_for_an_open_read_lets_others_go_first(
    mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = db.database.obj
    made = db.open_database(mariadb.create_database("waiting"))
    with db.connected():
        Runner(made, str(schema.MIGRATIONS), table_name="chatMigrations").up("0006_finish_reason")
    gave_up, went_on = threading.Event(), threading.Event()
    monkeypatch.setattr(steps.time, "sleep", lambda _: (gave_up.set(), went_on.wait(60)))
    with mariadb.connect("waiting") as reader, reader.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("SELECT COUNT(*) FROM chatMessages")
        migration = threading.Thread(target=schema.migrate)
        migration.start()
        assert gave_up.wait(60)

        with mariadb.connect("waiting") as other, other.cursor() as another:
            another.execute("SET max_statement_time = 5")
            another.execute("SELECT COUNT(*) FROM chatMessages")
            assert another.fetchall() == ((0,),)

        cursor.execute("ROLLBACK")
        went_on.set()
        migration.join(60)
    schema.require_current()
    close_all(made)
    mariadb.drop_database("waiting")
    db.database.initialize(bound)


# adoption


def test_adopted_sessions_keep_the_promises_of_new_ones(original: str) -> None:
    schema.migrate()

    for session_id in SESSIONS:
        session = session_queries.get(OWNER, session_id)
        events = _poll(session_id)
        assert [event["seq"] for event in events] == list(range(1, session["lastSeq"] + 1)), session_id
        terminal = [event["seq"] for event in events if event["eventType"] in ("done", "error")]
        assert terminal == [session["lastSeq"]], session_id
        assert events[-1]["eventType"] == session["status"], session_id
        assert events[-1]["content"] == (session["finalResponse"] or ""), session_id
        assert session["errorCode"] == events[-1].get("errorCode")
        assert (session["createdAt"], session["endedAt"]) == ("2024-02-03T04:05:06.000Z", "2024-02-03T04:06:07.000Z")


def _poll(session_id: str) -> list[dict[str, Any]]:
    from app.events import log

    events: list[dict[str, Any]] = []
    status = "running"
    while status == "running":
        page = log.read(OWNER, session_id, events[-1]["seq"] if events else 0, 3)
        events += page.events
        status = page.status
    return events


ENDS = {
    "whole": ("done", None, "Hello world"),
    "orphan": ("error", "worker_lost", "abcd"),
    "orphan without events": ("error", "worker_lost", ""),
    "orphan with a long answer": ("error", "worker_lost", LARGE * 40),
    "answered, and died before its row was": ("done", None, "all"),
    "failed, and died before its row was": ("error", "error", ""),
    "failed": ("error", "error", "part"),
    "done without events": ("done", None, "silent"),
    "from zero, with duplicates": ("done", None, "abc"),
    "text after its end": ("done", None, "ab"),
}


def test_adopted_sessions_end_as_they_did_and_orphans_as_lost(original: str) -> None:
    schema.migrate()

    for session_id, (status, code, answer) in ENDS.items():
        session = session_queries.get(OWNER, session_id)
        assert (session["status"], session["errorCode"], session["finalResponse"] or "") == (status, code, answer)


def test_adopted_events_keep_their_order_and_text(original: str) -> None:
    schema.migrate()

    def text(session_id: str) -> str:
        return "".join(event["content"] for event in _poll(session_id) if event["eventType"] == "delta")

    assert text("from zero, with duplicates") == "abc"
    assert text("gaps, written out of order") == "ab"
    assert text("orphan") == "abcd"
    assert text("text after its end") == "ab"
    call, result = (event for event in _poll("whole") if event["eventType"] == "tool_call")
    assert (call["toolArgs"], call["toolSuccess"]) == ({"a": [1, "ж"]}, None)
    assert (result["toolResult"], result["toolSuccess"], result["durationMs"]) == ("3", True, 4)


def test_adopted_sessions_are_listed_and_read_through_the_api_beside_new_ones(original: str) -> None:
    schema.migrate()
    new = make_session()
    app = create_app(Settings(database_url=original, redis_url=f"redis://127.0.0.1:{free_port()}"))
    client = app.test_client()

    listed: list[str] = []
    cursor = ""
    while cursor is not None:
        page = client.get(f"/api/chat/sessions?limit=5&cursor={cursor}" if cursor else "/api/chat/sessions?limit=5")
        assert page.status_code == 200
        listed += [each["sessionId"] for each in page.json["sessions"]]
        cursor = page.json["nextCursor"]

    assert listed == [new, "stray", *reversed(SESSIONS)]
    for session_id in SESSIONS:
        assert client.get(f"/api/chat/session/{session_id}").json["sessionId"] == session_id
        page = client.get(f"/api/chat/session/{session_id}/events?limit=1000")
        assert (page.status_code, page.json["status"]) == (
            200,
            SESSIONS[session_id][0]["status"].replace("running", page.json["status"]),
        )
        assert client.post(f"/api/chat/session/{session_id}/cancel").status_code == 200
    assert client.delete("/api/chat/session/orphan").status_code == 204
    assert client.get("/api/chat/session/orphan/events").status_code == 404
    close_all(db.database.obj)


def test_events_whose_session_is_gone_get_one(original: str) -> None:
    schema.migrate()

    assert [(event["seq"], event["eventType"]) for event in _poll("stray")] == [
        (number, kind) for number, (_, kind, _) in enumerate(STRAY, start=1)
    ]
    session = session_queries.get(OWNER, "stray")
    assert (session["status"], session["finalResponse"], session["userMessage"]) == ("done", "ab", "")


def test_a_change_of_an_adopted_row_is_not_taken_for_one_that_a_user_sees(original: str) -> None:
    schema.migrate()

    with db.connected():
        Session.update(lease_until_ms=1).where(Session.session_id == "whole").execute()

    assert session_queries.get(OWNER, "whole")["updatedAt"] == "2024-02-03T04:06:07.000Z"


def test_an_adopted_database_takes_what_did_not_fit_before(original: str) -> None:
    schema.migrate()

    claim = make_claim(make_session(message="x" * 100_000))

    assert claim.message == "x" * 100_000
    assert claim.remaining_s > 0
    assert utc_now() > session_list_created(claim.session_id)


def session_list_created(session_id: str) -> Any:
    return db.reading(lambda: Session.get(Session.session_id == session_id)).created_at


# killed half-way


class Killed(Exception):
    """The process died before this statement."""


_CHANGES = ("CREATE", "ALTER", "UPDATE", "INSERT", "DELETE")


def _migrate_and_die_before(made: Any, number: int) -> bool:
    """Migrate, but die before the change *number*; False: it had fewer."""
    execute, left = made.execute_sql, number

    def count(statement: str, *arguments: Any, **named: Any) -> Any:
        nonlocal left
        if statement.strip().startswith(_CHANGES):
            if left == 0:
                raise Killed
            left -= 1
        return execute(statement, *arguments, **named)

    made.execute_sql = count
    try:
        schema.migrate()
        return False
    except Killed:
        return True
    finally:
        del made.execute_sql
        close_all(made)


def _snapshot(made: peewee.Database) -> dict[str, object]:
    tables = ("chatSessions", "chatEvents", "chatConversations", "chatMessages", "chatLeases")
    with db.connected():
        return {
            table: (
                [(column.name, column.data_type, column.null) for column in made.get_columns(table)],
                sorted((index.name, tuple(index.columns), index.unique) for index in made.get_indexes(table)),
                original_database.rows(made, table) if table in ("chatSessions", "chatEvents") else (),
            )
            for table in tables
        }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_migration_that_was_killed_anywhere_can_be_run_again(mariadb: MariaDB) -> None:
    def adopt(number: int) -> tuple[bool, dict[str, object]]:
        name = f"killed{number}"
        made = db.open_database(mariadb.create_database(name))
        with db.connected():
            original_database.create_tables(made)
            original_database.fill(made, large=False)
        died = _migrate_and_die_before(made, number)
        schema.migrate()
        snapshot = _snapshot(made)
        close_all(made)
        mariadb.drop_database(name)
        return died, snapshot

    _, straight = adopt(10_000)
    number, died = 0, True

    while died:
        died, snapshot = adopt(number)
        assert snapshot == straight, f"killed before change {number}"
        number += 3  # not each one: they take long

    assert number > 15
