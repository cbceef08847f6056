"""All that an owner has is exported, and erased to the last byte while others go on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from app import access, cli, db, owners, sessions
from app.access import erasures
from app.accounts import ledger
from app.broker.heads import Heads
from app.broker.queue import TurnQueue
from app.conversations import search, search_purge
from app.db.fields import Owned
from app.db.models import MODELS, AgentEvent, Conversation, Event, Message, Session, SessionOptions
from app.errors import DatabaseBusy
from app.owners import erasure as erasing
from app.sessions import creation
from app.sessions.doorbell import Doorbell
from tests.conftest import close_all
from tests.factories import make_created, make_new
from tests.servers import MariaDB, RedisServer
from tests.stage import Held, Stage, saying, working

SECRET = "0123456789abcdef0123456789abcdef"
#: In everything that the erased owner is, says and is told.
CANARY = "zanzibar"
ANNA, BERT = f"{CANARY} anna", "bert"


@pytest.fixture
def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "SETTLE_S", 0.0)


@pytest.fixture
def queue(redis_server: RedisServer) -> TurnQueue:
    return TurnQueue(redis_server.url)


def erase(owner: str, queue: TurnQueue, secret: str = SECRET) -> owners.Erased:
    return owners.erase(owner, secret, queue, Doorbell(Heads(queue.redis), queue))


def talked(stage: Stage, owner: str, word: str) -> list[str]:
    """A session that is done, one that failed, one that waits; in two conversations."""
    stage.become(owner)
    with working(stage.settings, saying(f"{word} answer", ValueError(f"{word} error"))) as worker:
        failed = stage.ask(worker, f"{word} title\n{word}", metadata={"note": word}, instructions=word)
    with working(stage.settings, saying(f"{word}answered")) as worker:
        thread = stage.ask(worker, f"{word} again")["conversationId"]
    waiting = stage.post(f"{word} waits", conversationId=thread)
    ledger.add(owner, "credit", 100, unit="tokens", reference=word, note=word)
    return [failed["sessionId"], waiting["sessionId"]]


def database_text(url: str) -> str:
    """Every value of every table, and all words of the full text index."""
    execute = db.database.execute_sql
    with db.connected():
        if db.is_sqlite():
            tables = [name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
            # Names of columns of virtual tables are none of their own.
            rows = [execute(f'SELECT * FROM "{name}"').fetchall() for name in tables if name != "chatSearchWords"]
            file = Path(url.removeprefix("sqlite:///"))
            raw = [each.read_bytes() for each in file.parent.glob(f"{file.name}*")]
            return str(rows) + str(raw)
        tables = [name for (name,) in execute("SHOW TABLES").fetchall()]
        rows = [execute(f"SELECT * FROM `{name}`").fetchall() for name in tables]
        execute("SET GLOBAL innodb_ft_aux_table = %s", (f"{db.database.database}/chatSearch",))
        index = [
            execute(f"SELECT word FROM information_schema.INNODB_FT_INDEX_{kind}").fetchall()
            for kind in ("TABLE", "CACHE")
        ]
        return str(rows) + str(index)


def redis_text(server: RedisServer) -> str:
    with redis.Redis.from_url(server.url) as client:
        keys = list(client.scan_iter())
        return str([(key, client.dump(key)) for key in keys])


def everything_of(owner: str) -> list[Any]:
    return list(owners.export(owner))


# the tables


def test_every_table_says_whose_its_rows_are() -> None:
    for model in MODELS:
        fields = set(model._meta.fields)
        assert {
            Owned.BY_OWNER: "owner" in fields,
            Owned.HASHED: "owner" in fields,
            Owned.BY_SESSION: "session_id" in fields and "owner" not in fields,
            Owned.NOT: not fields & {"owner", "session_id", "conversation_id"},
        }[model.owned], model


def test_no_table_is_without_a_model(store: str) -> None:
    with db.connected():
        tables = {name for name in db.database.get_tables() if not name.startswith("chatSearchWords")}

    assert tables == {model._meta.table_name for model in MODELS} | {"chatMigrations"} | ({"sqlite_sequence"} & tables)


# erase


@pytest.mark.usefixtures("settle")
def test_after_an_erasure_no_byte_of_the_owner_is_left_and_the_others_have_all_of_theirs(
    make_stage: Any, store: str, redis_server: RedisServer, queue: TurnQueue
) -> None:
    stage, token = make_stage(chat_secret=SECRET), access.issue(SECRET, ANNA)
    talked(stage, BERT, "common")
    mine = talked(stage, ANNA, CANARY)
    registered(redis_server, mine)
    before = everything_of(BERT)
    answer = Held(f"{CANARY} part")
    with working(stage.settings, answer) as worker:
        running = stage.post(f"{CANARY} runs")["sessionId"]
        ran = worker.start(running)
        assert answer.said.wait(60)
        shown = database_text(store) + redis_text(redis_server)
        assert {CANARY, *mine} <= {each for each in (CANARY, *mine) if each in shown}

        erased = erase(ANNA, queue)

        ran.result(60)
    assert erased.words_purged
    assert erased.rows["chatSessions"] == 4
    left = database_text(store) + redis_text(redis_server)
    assert [each for each in (CANARY, *mine, running) if each in left] == []
    assert everything_of(BERT) == before
    assert [each["title"] for each in search.search(BERT, "common").rows] == ["common again", "common title"]
    revocations = access.Revocations(SECRET)
    revocations.read()
    assert revocations.covers(access.verify(SECRET, token))


def registered(server: RedisServer, session_ids: list[str]) -> None:
    """Let Redis remember jobs of these sessions in each of RQ's ways."""
    with redis.Redis.from_url(server.url) as client:
        for session_id in session_ids:
            job = f"{session_id}-0"
            client.zadd("rq:failed:sessions", {job: 1})
            client.zadd("rq:wip:sessions", {f"{job}:abc": 1})
            client.hset(f"rq:execution:{job}:abc", "id", "abc")
            client.zadd(f"rq:executions:{job}", {"abc": 1})
            client.xadd(f"rq:results:{job}", {"exc_string": "x"})
            client.rpush("rq:queue:sessions:intermediate", job)


@pytest.mark.usefixtures("settle")
def test_nothing_is_stored_for_an_owner_that_is_being_erased(make_stage: Any, queue: TurnQueue) -> None:
    stage = make_stage(chat_secret=SECRET)
    stage.become(ANNA)
    assert erasures.begin(ANNA, "somebody")

    assert stage.post("x", 409)["code"] == "owner_erased"
    with pytest.raises(DatabaseBusy):
        erase(ANNA, queue)
    stage.become(BERT)
    stage.post("x")
    assert db.reading(lambda: [each.owner for each in Session.select()]) == [BERT]
    erasures.end(ANNA, "somebody")
    stage.become(ANNA)
    stage.post("x")


@pytest.mark.parametrize("store", ["mariadb"], indirect=True)
def test_what_a_request_of_before_commits_is_erased_as_well(
    store: str, queue: TurnQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds, may_commit = threading.Event(), threading.Event()
    stored = creation.threads.store

    def held_up(changed: Any) -> None:
        stored(changed)
        holds.set()
        assert may_commit.wait(60)

    monkeypatch.setattr(creation.threads, "store", held_up)
    thread = threading.Thread(target=lambda: sessions.create(make_new(owner=ANNA, message=CANARY)))
    thread.start()
    assert holds.wait(60)
    monkeypatch.undo()

    def committed(erasure: Any, seconds: float) -> None:
        may_commit.set()
        thread.join(60)
        assert db.reading(lambda: Session.select().where(Session.owner == ANNA).count()) == 1

    monkeypatch.setattr(erasing._Erasure, "wait", committed)

    erased = erase(ANNA, queue)

    assert erased.rows["chatSessions"] == 1
    assert CANARY not in database_text(store)


@pytest.mark.usefixtures("settle", "store")
def test_an_erasure_goes_through_many_rows_in_pieces(queue: TurnQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.owners.rows.AT_ONCE", 2)
    for _ in range(5):
        make_created(owner=ANNA)

    assert erase(ANNA, queue).rows["chatSessions"] == 5

    tables = (Session, Conversation, Message, Event, AgentEvent, SessionOptions)
    assert [db.reading(model.select().count) for model in tables] == [0] * len(tables)


@pytest.mark.usefixtures("store")
def test_a_row_that_outlives_its_owner_is_named_by_a_keyed_hash_that_no_owner_can_have() -> None:
    name = access.pseudonym(SECRET, ANNA)

    assert len(name) == 64
    assert name != access.pseudonym(SECRET[::-1], ANNA)
    with pytest.raises(Exception, match="owner"):
        access.issue(SECRET, name)


def test_without_the_right_to_it_the_words_in_the_index_are_left_and_said_to_be(mariadb: MariaDB, store: str) -> None:
    if store.startswith("sqlite"):
        pytest.skip("SQLite has no rights")
    bound = db.database.obj
    name = store.rpartition("/")[2]
    mariadb.execute("CREATE USER plain@127.0.0.1 IDENTIFIED BY 'x'", f"GRANT ALL ON {name}.* TO plain@127.0.0.1")
    opened = db.open_database(f"mysql://plain:x@127.0.0.1:{mariadb.port}/{name}")
    try:
        with db.connected():
            assert not search_purge.purge(lambda: None)
    finally:
        close_all(opened)
        db.database.initialize(bound)
        mariadb.execute("DROP USER plain@127.0.0.1")


# export, and the commands


@pytest.fixture
def command(store: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, settle: None) -> Iterator[Any]:
    bound = db.database.obj
    # It takes the handlers of others away.
    monkeypatch.setattr(cli.logs, "configure", lambda level: None)
    settings = {"DATABASE_URL": store, "REDIS_URL": redis_server.url, "CHAT_SECRET": SECRET}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(cli.main, arguments, catch_exceptions=False)
        close_all(db.database.obj)
        db.database.initialize(bound)
        return result

    yield run
    db.database.initialize(bound)


def test_the_commands_export_every_row_and_erase_it(
    make_stage: Any, command: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stage = make_stage(chat_secret=SECRET)
    talked(stage, ANNA, CANARY)

    lines = [json.loads(line) for line in command("owner", "export", ANNA).stdout.splitlines()]
    erased = command("owner", "erase", ANNA, "--yes")
    again = command("owner", "export", ANNA)

    exported = [(line["table"], line["row"]) for line in lines[:-1]]
    assert lines[-1] == {"rows": len(exported)}
    assert [row["userMessage"] for table, row in exported if table == "chatSessions"] == [
        f"{CANARY} title\n{CANARY}",
        f"{CANARY} again",
        f"{CANARY} waits",
    ]
    assert [row["metadata"] for table, row in exported if table == "chatSessionOptions"] == [{"note": CANARY}]
    counts = {table: sum(each == table for each, _ in exported) for table, _ in exported}
    assert counts.keys() == {model._meta.table_name for model in MODELS if model.owned is not Owned.NOT}
    assert erased.exit_code == 0
    assert {line.partition(":")[0] for line in erased.stdout.splitlines()} == counts.keys()
    assert json.loads(again.stdout) == {"rows": 0}
    audited = [(record.message, record.__dict__["owner"]) for record in caplog.records if "audit" in record.name]
    assert audited == [("owner exported", ANNA), ("owner erased", ANNA), ("owner exported", ANNA)]
