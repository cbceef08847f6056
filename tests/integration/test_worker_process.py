from __future__ import annotations

import re
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis
from rq import Worker
from rq.registry import FailedJobRegistry, StartedJobRegistry

from app import db, sessions
from app.broker.queue import QUEUE_NAME, TurnQueue
from app.db import schema
from app.events import log
from app.sessions import NewSession
from tests.counted import families
from tests.factories import row
from tests.servers import ROOT, MariaDB, Process, free_port, wait_until

#: On a busy machine the engine alone takes seconds to import.
START_S = 90.0

both_deployments = pytest.mark.parametrize(
    ("database_url", "redis_url"), [("sqlite", "embedded"), ("mariadb", "redis")], indirect=True
)


@pytest.fixture
def migrated_url(database_url: str) -> Iterator[str]:
    db.open_database(database_url)
    schema.migrate()
    yield database_url
    db.database.close_all() if hasattr(db.database, "close_all") else db.database.close()


def ask(queue: TurnQueue, message: str) -> str:
    """A committed session whose bell has been rung."""
    created = sessions.create(NewSession(owner="", message=message, agent_id=1, model="demo"))
    queue.ring(created.session_id, 0)
    return created.session_id


def status(session_id: str) -> str:
    return log.read("", session_id, 0, 1000).status


def assert_nothing_left(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert Worker.all(connection=client) == []
        assert StartedJobRegistry(QUEUE_NAME, connection=client).get_job_ids() == []
        assert FailedJobRegistry(QUEUE_NAME, connection=client).get_job_ids() == []
        assert client.keys("rq:job:*") == client.keys("rq:execution*") == []


@pytest.mark.slow
@both_deployments
def test_the_worker_process_answers_counts_and_ends_clean_on_sigterm(
    migrated_url: str, redis_url: str, make_process: Callable[..., Process]
) -> None:
    port = str(free_port())
    worker = make_process("-m", "worker", DATABASE_URL=migrated_url, REDIS_URL=redis_url, METRICS_PORT=port)
    worker.wait_for_line("worker started", START_S)

    queue = TurnQueue(redis_url)
    here = socket.gethostname()
    wait_until(lambda: queue.heard_from(here, 60), "the worker's first sign of life")

    answered = [ask(queue, "What is 6 * 7?") for _ in range(3)]
    wait_until(lambda: all(status(session) == "done" for session in answered), "the answers")

    def counted() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            ended = families(response.read())["backchat_sessions_ended"]
        return ended.get(("backchat_sessions_ended_total", "", "done")) == 3

    # What ends is counted after its commit, which is seen before.
    wait_until(counted, "the counts")
    worker.signal(signal.SIGTERM)

    assert (queue.heard_from("elsewhere", 60), queue.heard_from(here, 0)) == (False, False)
    assert worker.wait() == 0, worker
    assert not queue.heard_from(here, 60)
    assert_nothing_left(redis_url)


@pytest.mark.slow
@pytest.mark.parametrize(("database_url", "redis_url"), [("mariadb", "redis")], indirect=True)
def test_a_worker_outlives_sessions_that_stop_its_loop_and_gives_up_when_they_end_its_own_tasks(
    migrated_url: str, redis_url: str, make_process: Callable[..., Process]
) -> None:
    harmful = {"ORCHESTRATOR": "tests.sample_orchestrators:harmful", "PYTHONPATH": str(ROOT)}
    worker = make_process("-m", "worker", DATABASE_URL=migrated_url, REDIS_URL=redis_url, **harmful)
    worker.wait_for_line("worker started", START_S)
    queue = TurnQueue(redis_url)

    innocent = ask(queue, "wait")
    wait_until(lambda: len(log.read("", innocent, 0, 10).events) == 2, "the first words of the innocent")
    survived = [ask(queue, message) for message in ("stop the loop", "interrupt", "nothing")]
    wait_until(lambda: all(status(session) == "done" for session in survived), "the answers")
    culprit = ask(queue, "cancel everything")

    assert worker.wait() == 70, worker
    assert [(row(each).status, row(each).handbacks) for each in (innocent, culprit)] == [("running", 1)] * 2


@pytest.mark.slow
@both_deployments
def test_the_stock_rq_worker_runs_the_same_job(
    migrated_url: str, redis_url: str, make_forked: Callable[..., Process]
) -> None:
    answered = ask(TurnQueue(redis_url), "What is 6 * 7?")

    worker = make_forked(
        *("rq.cli", "worker", "--url", redis_url, "--serializer", "json", "--burst", QUEUE_NAME),
        DATABASE_URL=migrated_url,
        REDIS_URL=redis_url,
    )

    assert worker.wait(START_S) == 0, worker
    assert status(answered) == "done"
    assert_nothing_left(redis_url)


def test_without_a_broker_it_says_what_is_missing(make_process: Callable[..., Process]) -> None:
    worker = make_process("-m", "worker")

    assert worker.wait() == 78
    assert "REDIS_URL is not set" in worker.output


def test_secrets_that_can_not_be_read_are_told_by_every_process(make_process: Callable[..., Process]) -> None:
    commands = {"worker": 78, "app.cli": 1, "app.wsgi": 4, "app.gunicorn_conf": 78}
    processes = {module: make_process("-m", module, "migrate", SECRETS_DIR="/absent") for module in commands}

    assert {module: process.wait() for module, process in processes.items()} == commands
    for process in processes.values():
        assert re.fullmatch(r"(Error|web|worker): SECRETS_DIR can't be read: .*'/absent'", process.output)


def test_a_folder_of_metrics_that_can_not_be_written_is_told_by_who_counts(
    make_process: Callable[..., Process],
) -> None:
    commands = {"worker": 78, "app.gunicorn_conf": 78}
    processes = {module: make_process("-m", module, PROMETHEUS_MULTIPROC_DIR="/absent") for module in commands}

    assert {module: process.wait() for module, process in processes.items()} == commands
    for process in processes.values():
        assert re.fullmatch("(web|worker): PROMETHEUS_MULTIPROC_DIR is no folder that can be written", process.output)


@pytest.mark.parametrize("query", ["ssl_ca=/absent", "sslmode=require", "ssl=false&ssl_mode=REQUIRED"])
def test_a_database_url_that_can_not_be_used_is_told_by_every_process(
    make_process: Callable[..., Process], query: str
) -> None:
    environment = {"DATABASE_URL": f"mysql://user:s3cret@db.example/chat?{query}", "REDIS_URL": "redis://127.0.0.1"}
    commands = {"worker": 78, "app.cli": 1, "app.wsgi": 4}
    processes = {module: make_process("-m", module, "migrate", **environment) for module in commands}

    assert {module: process.wait() for module, process in processes.items()} == commands
    for process in processes.values():
        assert re.fullmatch(r"(Error|web|worker): DATABASE_URL.*", process.output)
        assert "s3cret" not in process.output


def test_on_an_old_schema_it_names_the_command_to_run(database_url: str, make_process: Callable[..., Process]) -> None:
    worker = make_process("-m", "worker", DATABASE_URL=database_url, REDIS_URL="redis://127.0.0.1")

    assert worker.wait() == 78
    assert "python -m app.cli migrate" in worker.output
    assert "Traceback" not in worker.output


def test_without_its_database_it_gives_up_with_a_status_of_its_own(make_process: Callable[..., Process]) -> None:
    url = f"mysql://root@127.0.0.1:{free_port()}/none"

    worker = make_process("-m", "worker", DATABASE_URL=url, REDIS_URL="redis://127.0.0.1")

    assert worker.wait() == 69
    assert "Traceback" not in worker.output


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": "wrong"}, "Access denied for user 'backchat'"),
        ({"database": "absent"}, "Unknown database 'absent'"),
        ({"port": "1"}, "Connection refused"),
    ],
)
def test_a_database_url_that_is_wrong_is_told_with_the_server_s_reason(
    mariadb: MariaDB, make_process: Callable[..., Process], changes: dict[str, str], reason: str
) -> None:
    parts = {"password": quote(mariadb.PASSWORD, safe=""), "port": str(mariadb.port), "database": "mysql"} | changes
    url = "mysql://{user}:{password}@127.0.0.1:{port}/{database}".format(user=mariadb.USER, **parts)
    environment = {"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1"}

    worker = make_process("-m", "worker", **environment)
    migration = make_process("-m", "app.cli", "migrate", **environment)

    assert (worker.wait(), migration.wait()) == (69, 1)
    for output in (worker.output, migration.output):
        assert "the database can't be reached: " in output
        assert reason in output
        assert "(DATABASE_URL)" in output
        assert "Traceback" not in output


def test_a_database_file_that_can_not_be_written_is_told(make_process: Callable[..., Process], tmp_path: Path) -> None:
    (tmp_path / "chat.db.migrate-lock").mkdir()
    (tmp_path / "file").touch()
    files = {
        "chat.db": "the database can't be written: [Errno 21]",
        "file/chat.db": "the folder of DATABASE_URL can't be",
    }

    for file, reason in files.items():
        migration = make_process("-m", "app.cli", "migrate", DATABASE_URL=f"sqlite:///{tmp_path / file}")

        assert migration.wait() == 1
        assert reason in migration.output
        assert "Traceback" not in migration.output


def test_the_web_process_names_what_keeps_it_from_starting(
    database_url: str, make_process: Callable[..., Process]
) -> None:
    web = make_process(
        *("-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app"),
        DATABASE_URL=database_url,
        REDIS_URL="redis://127.0.0.1",
        PORT=str(free_port()),
    )

    assert web.wait() == 4
    assert "python -m app.cli migrate" in web.output
    assert "Traceback" not in web.output
