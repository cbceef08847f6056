"""The terminal client against a real deployment: web and worker processes on an embedded broker and SQLite."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.api_client import RETRY_S, Server, Unreachable
from app.cli import main
from app.cli.shown import Shown
from tests.pseudo_terminal import PseudoTerminal
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
    if turn.message == "markdown":
        yield "# Title\\n\\nSome **bold** text.\\n\\n```\\ncode\\n\\nmore\\n```\\n"
        return
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


def terminal_with(url: str, *arguments: str) -> PseudoTerminal:
    return PseudoTerminal([sys.executable, "-m", "app.cli", "--url", url, *arguments])


def in_process(url: str, *arguments: str, stdin: str = "") -> Result:
    """The same without a process of its own, which takes longer than the command."""
    return CliRunner().invoke(main, ["--url", url, *arguments], input=stdin)


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


LONG = "a message that is too long for what is left of the line of a terminal"


def test_on_a_terminal_the_list_of_sessions_shows_whole_ids_and_states_in_80_columns(url: str) -> None:
    session_id = Server(url).start(LONG)["sessionId"]
    backchat(url, "cancel", session_id)

    with terminal_with(url, "sessions", "--limit", "1") as terminal:
        assert terminal.wait() == 0

    [listed] = [line for line in terminal.lines if session_id in line]
    assert listed.startswith(f"{session_id} ")
    assert listed.split()[1] in ("cancelled", "done")
    assert listed.rstrip().endswith("…")


def test_in_a_pipe_lists_have_everything_whole_between_tabs(url: str) -> None:
    started = Server(url).start(LONG)

    [session] = in_process(url, "sessions", "--limit", "1").stdout.splitlines()
    [conversation] = in_process(url, "conversations", "--limit", "1").stdout.splitlines()

    assert (session.split("\t")[0], session.split("\t")[-1]) == (started["sessionId"], LONG)
    assert conversation.split("\t")[0] == started["conversationId"]


def test_on_a_terminal_an_answer_is_rendered(url: str) -> None:
    with terminal_with(url, "ask", "markdown") as terminal:
        assert terminal.wait() == 0

    assert "**" not in terminal.text
    assert "\x1b[1mbold" in terminal.raw
    assert "```" not in terminal.text
    assert "more" in terminal.text


def test_ctrl_c_on_a_terminal_asks_what_to_do(url: str) -> None:
    with terminal_with(url, "ask", "--plain", "slow") as terminal:
        terminal.until("You said: ")
        terminal.type("\x03")
        terminal.until("[l]eave it running")
        terminal.type("c\n")
        assert terminal.wait() == 1

    assert "cancelled" in terminal.text


def test_a_talk_on_a_terminal_ends_with_ctrl_d_and_says_how_to_go_on(url: str) -> None:
    with terminal_with(url, "chat") as terminal:
        terminal.until("> ")
        terminal.type("hello\n")
        terminal.until("You said: hello")
        terminal.until("> ", count=2)
        terminal.type("\x04")
        assert terminal.wait() == 0

    assert "go on: python -m app.cli chat --conversation " in " ".join(terminal.text.split())


def test_people_go_on_in_a_conversation_find_it_and_delete_it(url: str) -> None:
    in_process(url, "ask", "a sentence about zebras")
    assert in_process(url, "ask", "-c", "and one about okapis").exit_code == 0

    talked = in_process(url, "chat", "-c", stdin="first\n\nsecond\n")
    [found] = in_process(url, "search", "--json", "zebras").stdout.splitlines()
    conversation = json.loads(found)["conversationId"]
    messages = Server(url).messages(conversation)["messages"]
    deleted = in_process(url, "delete", "--conversation", "--yes", conversation)

    assert talked.stdout.splitlines() == ["You said: first", "You said: second"]
    assert [each["content"] for each in messages if each["role"] == "user"] == [
        "a sentence about zebras", "and one about okapis", "first", "second",
    ]  # fmt: skip
    assert (deleted.exit_code, in_process(url, "search", "zebras").stdout) == (0, "")


def test_a_command_without_a_server_ends_with_3_and_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api_client.RETRY_S", (0.01,))

    result = in_process(f"http://127.0.0.1:{free_port()}", "sessions")

    assert result.exit_code == 3
    assert "start it with `make run`" in result.stderr


def test_a_pipe_that_is_closed_early_ends_the_command_quietly(url: str) -> None:
    command = [sys.executable, "-m", "app.cli", "--url", url, "attach", "--json", Server(url).start("hi")["sessionId"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        asking.stdout.close()
        assert asking.stderr is not None
        told = asking.stderr.read().decode()

    assert asking.returncode == 1
    assert "Traceback" not in told


def test_a_wrong_token_and_a_missing_server_end_with_3_and_say_what_to_do(tmp_path: Path) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"code": "unauthorized", "detail": "the token is not valid"}'
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        refused = backchat(f"http://127.0.0.1:{server.server_port}", "sessions")
        server.shutdown()

    assert refused.returncode == 3
    assert "the token is not valid" in refused.stderr
    assert "--token or BACKCHAT_BEARER" in refused.stderr


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


def test_text_that_was_superseded_does_not_stand_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown(as_json=False)

    for event in (
        {"seq": 1, "eventType": "thinking", "content": ""},
        {"seq": 2, "eventType": "delta", "content": "kept "},
        {"seq": 3, "eventType": "delta", "content": "lost "},
        {"seq": 4, "eventType": "thinking", "content": "", "supersedesFrom": 3},
        {"seq": 5, "eventType": "delta", "content": "again"},
    ):
        shown.event(event)

    assert capsys.readouterr().out == ""
    shown.close()
    assert capsys.readouterr().out == "kept again\n"
