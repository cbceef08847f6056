"""The terminal client against a real deployment: web and worker processes on an embedded broker and SQLite."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.api_client import RETRY_S, Server, Unreachable
from app.cli import Shown
from tests.servers import EmbeddedBroker, Process, free_port, wait_until

START_S = 90.0

#: Answers in pieces; "slow" never comes to an end by itself, "fail" fails, "too long" is cut.
ANSWERS = """
import asyncio

from app.events import Done
from worker.orchestrator import TurnFailed


async def answer(turn):
    yield "You said: "
    if turn.message == "too long":
        yield Done(finish_reason="length")
        return
    if turn.message == "fail":
        raise TurnFailed("model_error", "it broke")
    while turn.message == "slow":
        yield "… "
        await asyncio.sleep(0.05)
    yield turn.message
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, embedded_broker: EmbeddedBroker) -> Iterator[str]:
    """Where a deployment of the module's own answers."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "answers_of_a_test.py").write_text(ANSWERS)
    port = free_port()
    environment = {
        "DATABASE_URL": f"sqlite:///{folder / 'backchat.db'}",
        "REDIS_URL": embedded_broker.url,
        "PORT": str(port),
        "ORCHESTRATOR": "answers_of_a_test:answer",
        "PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}",
    }
    assert Process.python("-m", "app.cli", "migrate", log=folder / "m.log", environment=environment).start().wait() == 0
    web = Process.python(
        "-m",
        "gunicorn",
        "-c",
        "python:app.gunicorn_conf",
        "app.wsgi:app",
        log=folder / "w.log",
        environment=environment,
    )
    worker = Process.python("-m", "worker", log=folder / "k.log", environment=environment)
    with web, worker:
        web.wait_for_line("Booting worker", START_S)
        worker.wait_for_line("worker started", START_S)
        yield f"http://127.0.0.1:{port}"


def backchat(url: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [sys.executable, "-m", "app.cli", "--url", url, *arguments],
        capture_output=True,
        timeout=60,
        input=stdin,
        check=False,
    )
    return subprocess.CompletedProcess(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def test_ask_prints_the_answer_and_ends_with_0(url: str) -> None:
    asked = backchat(url, "ask", "привет 🙂")

    assert (asked.returncode, asked.stdout.strip()) == (0, "You said: привет 🙂")


def test_ask_reads_a_message_from_standard_input(url: str) -> None:
    asked = backchat(url, "ask", "-", stdin="привет\n🙂\n".encode())

    assert (asked.returncode, asked.stdout.strip()) == (0, "You said: привет\n🙂")


def test_what_is_no_text_on_standard_input_is_refused(url: str) -> None:
    asked = backchat(url, "ask", "-", stdin=b"\xff\xfe")

    assert asked.returncode == 2
    assert "what stands on standard input is not UTF-8" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_ask_for_scripts_prints_the_session_and_then_each_event_as_json(url: str) -> None:
    asked = backchat(url, "ask", "--json", "hello")

    started, *events = [json.loads(line) for line in asked.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["sessionId"] for event in events} == {started["sessionId"]}
    assert events[-1]["content"] == "You said: hello"


def test_a_session_that_fails_ends_with_1_and_says_why(url: str) -> None:
    asked = backchat(url, "ask", "fail")

    assert (asked.returncode, asked.stdout.strip()) == (1, "You said:")
    assert "model_error: it broke" in asked.stderr


def test_an_answer_that_reached_the_models_limit_says_so(url: str) -> None:
    asked = backchat(url, "ask", "too long")

    assert (asked.returncode, asked.stdout.strip()) == (0, "You said:")
    assert "the model reached the limit of its output" in asked.stderr


def test_ctrl_c_of_a_script_leaves_the_session_running_and_cancel_ends_it(url: str, tmp_path: Path) -> None:
    asking = Process.python("-m", "app.cli", "--url", url, "ask", "--json", "slow", log=tmp_path / "ask.log").start()
    session_id = json.loads(asking.wait_for_line("sessionId"))["sessionId"]
    asking.wait_for_line('"delta"')
    asking.signal(signal.SIGINT)

    assert asking.wait() == 130
    assert f"left running: python -m app.cli attach {session_id}" in asking.output
    assert Server(url).session(session_id)["status"] == "running"
    cancelled = backchat(url, "cancel", session_id)
    assert (cancelled.returncode, cancelled.stdout.strip()) == (0, f"{session_id}: cancelled")
    attached = backchat(url, "attach", session_id)
    assert attached.returncode == 1
    assert attached.stdout.startswith("You said: … ")


def test_sessions_lists_them_newest_first(url: str) -> None:
    ids = [Server(url).start(f"message {number}")["sessionId"] for number in range(3)]
    wait_until(lambda: Server(url).session(ids[-1])["status"] == "done", "the last one's end")

    listed = backchat(url, "sessions", "--json", "--limit", "3")

    assert [json.loads(line)["sessionId"] for line in listed.stdout.splitlines()] == ids[::-1]


def test_the_list_of_sessions_shows_whole_ids_and_states_in_80_columns(url: str) -> None:
    session_id = Server(url).start("a message that is too long for what is left of the line of a terminal")["sessionId"]
    backchat(url, "cancel", session_id)

    listed = backchat(url, "sessions", "--limit", "1").stdout.splitlines()[1]

    assert listed.startswith(f"{session_id} ")
    assert listed.split()[1] in ("cancelled", "done")
    assert listed.rstrip().endswith("…")


def test_a_field_that_is_not_valid_is_named_with_the_reason(url: str) -> None:
    asked = backchat(url, "ask", "--conversation", "7", "hello")

    assert (asked.returncode, asked.stderr.strip()) == (3, "backchat: conversationId: must be a UUID")


def test_a_server_that_does_not_answer_is_told_at_once_and_given_up_in_the_end() -> None:
    told: list[str] = []
    paused: list[float] = []
    address = f"127.0.0.1:{free_port()}"

    with pytest.raises(Unreachable, match="Connection refused"):
        Server(address, sleep=paused.append, on_retry=told.append).sessions()

    assert [line.split(";")[0] for line in told] == [
        f"http://{address} does not answer: [Errno 111] Connection refused"
    ]
    assert len(paused) == len(RETRY_S)


def test_an_unknown_session_ends_with_3(url: str) -> None:
    attached = backchat(url, "attach", "no-such-session")

    assert attached.returncode == 3
    assert "no such session" in attached.stderr


def test_text_that_was_superseded_is_shown_again_without_what_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown(as_json=False)

    for event in (
        {"seq": 1, "eventType": "thinking", "content": ""},
        {"seq": 2, "eventType": "delta", "content": "kept "},
        {"seq": 3, "eventType": "delta", "content": "lost "},
        {"seq": 4, "eventType": "thinking", "content": "", "supersedesFrom": 3},
        {"seq": 5, "eventType": "delta", "content": "again"},
    ):
        shown.event(event)

    output = capsys.readouterr()
    assert output.out == "kept lost kept again"
    assert output.err.count("resumed") == 1
