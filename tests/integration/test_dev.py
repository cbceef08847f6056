from __future__ import annotations

import json
import signal
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.dev import greeting
from app.dev.run import worker_pause_s
from app.settings import Settings
from tests.servers import Process, binary, free_port, wait_until

#: On a busy machine the engine alone takes seconds to import.
START_S = 90.0


@pytest.fixture
def make_run(make_process: Callable[..., Process], tmp_path: Path) -> Callable[..., Process]:
    """Starts `python -m app.dev` in an empty folder."""

    def make(port: int, **environment: str) -> Process:
        return make_process("-m", "app.dev", cwd=tmp_path, PORT=str(port), STOP_GRACE_S="1", **environment)

    return make


def call(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", ["redis", "embedded"])
def test_one_command_answers_messages_and_ctrl_c_leaves_nothing_but_the_data(
    make_run: Callable[..., Process], tmp_path: Path, broker: str
) -> None:
    # Without a PATH there is no Redis to be found.
    environment = {"PATH": str(Path(binary("redis-server", "valkey-server")).parent) if broker == "redis" else ""}
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/chat"
    run = make_run(port, **environment)
    run.wait_for_line(f"Backchat runs at http://127.0.0.1:{port}", START_S)
    family = run.family()
    assert any(
        ("redis-server" if broker == "redis" else "app.broker.embedded") in " ".join(p.cmdline()) for p in family
    )

    session = call(f"{url}/session", {"message": "What time is it in Tokyo?"})["sessionId"]
    wait_until(lambda: call(f"{url}/session/{session}")["status"] == "done", "the answer", START_S)
    events = call(f"{url}/session/{session}/events?after=0")["events"]
    second = make_run(port, **environment)
    assert second.wait() == 1
    assert (tmp_path / "var" / "worker.pid").exists()
    run.signal(signal.SIGINT)

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "in use" in second.output
    assert run.wait() == 0, run
    assert gone(family)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"var"}

    again = make_run(port, **environment)
    again.wait_for_line("Backchat runs at", START_S)
    assert [row["sessionId"] for row in call(f"{url}/sessions")["sessions"]] == [session]
    again.signal(signal.SIGTERM)
    assert again.wait() == 0, again


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_when_the_web_process_dies_it_is_named_and_all_stop(make_run: Callable[..., Process]) -> None:
    run = make_run(free_port(), PATH="")
    run.wait_for_line("Backchat runs at", START_S)
    family = run.family()
    web = next(process for process in family if process.cmdline()[-1] == "app.wsgi:app")

    web.kill()

    assert run.wait() == 1
    assert "web ended with status -9" in run.output
    assert gone(family)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_that_dies_is_started_again_until_the_run_is_stopped(
    make_run: Callable[..., Process], tmp_path: Path
) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text('[[agents]]\nid = 1\nname = "Assistant"\n')
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/chat"
    run = make_run(port, PATH="", AGENTS_FILE=str(agents), LEASE_S="600", SWEEP_S="0.2")
    run.wait_for_line("Backchat runs at", START_S)
    family = run.family()
    [worker] = [p for p in family if p.cmdline()[-1] == "worker" and p.ppid() == run.pid]
    assert (tmp_path / "var" / "worker.pid").read_text() == f"{worker.pid}\n"

    session = call(f"{url}/session", {"message": "What time is it in Tokyo?"})["sessionId"]
    wait_until(lambda: call(f"{url}/session/{session}")["startedAt"], "the claim", START_S)
    worker.kill()

    run.wait_for_line("make run: the worker was killed by SIGKILL; another one is started now$", START_S)
    wait_until(lambda: call(f"{url}/session/{session}")["status"] == "done", "the answer", START_S)
    assert call(f"{url}/session/{session}")["attempt"] == 2
    assert len([line for line in run.output.splitlines() if line.startswith("make run:")]) == 1

    # It can't start: what its agents are is not right.
    agents.write_text("[[agents]]\n")
    psutil.Process(int((tmp_path / "var" / "worker.pid").read_text())).kill()
    run.wait_for_line("make run: the worker ended with status 78; another one is started ", START_S)
    run.wait_for_line(r"make run: the worker ended with status 78; another one is started in \d+ s$", START_S)
    family += run.family()
    run.signal(signal.SIGTERM)

    assert run.wait() == 0, run
    assert gone(family)
    assert not (tmp_path / "var" / "worker.pid").exists()


def test_a_worker_that_dies_at_once_again_and_again_is_waited_for_longer_and_longer() -> None:
    assert [worker_pause_s(short_lives) for short_lives in range(9)] == [0, 0, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_stops_whichever_of_its_threads_the_signal_interrupts(make_run: Callable[..., Process]) -> None:
    run = make_run(free_port(), PATH="")
    run.wait_for_line("Backchat runs at", START_S)
    family = run.family()

    run.signal_another_thread(signal.SIGINT)

    assert run.wait() == 0, run
    assert gone(family)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_survives_the_sudden_death_of_the_run(make_run: Callable[..., Process]) -> None:
    run = make_run(free_port(), PATH="")
    run.wait_for_line("Backchat runs at", START_S)
    family = run.family()

    family[0].kill()

    # Without its broker the worker takes leave in its own time; what is promised is that it ends.
    wait_until(lambda: gone(family), "the end of all", timeout_s=90.0)


def test_a_taken_port_is_told_at_once(make_run: Callable[..., Process], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        run = make_run(port)

        assert run.wait() == 1
    assert f"port {port} is in use" in run.output
    assert f"PORT={port + 1}" in run.output
    assert not (tmp_path / "var").exists()


def test_a_database_that_can_not_be_migrated_stops_the_run(make_run: Callable[..., Process]) -> None:
    run = make_run(free_port(), PATH="", DATABASE_URL=f"mysql://root@127.0.0.1:{free_port()}/none")

    assert run.wait() == 1
    assert "could not be migrated" in run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "Connection refused"),
        ({"REDIS_URL": "127.0.0.1:6379"}, "REDIS_URL must start with redis://, rediss:// or unix://"),
        ({"PORT": "70000"}, "PORT=70000 is no port"),
    ],
)
def test_a_setting_that_can_not_be_used_is_told_at_once(
    make_process: Callable[..., Process], tmp_path: Path, environment: dict[str, str], reason: str
) -> None:
    run = make_process("-m", "app.dev", cwd=tmp_path, **({"PORT": str(free_port())} | environment))

    assert run.wait() == 1
    assert reason in run.output
    assert "Traceback" not in run.output
    assert not (tmp_path / "var").exists()


def test_a_folder_that_can_not_be_written_is_told_at_once(make_run: Callable[..., Process], tmp_path: Path) -> None:
    (tmp_path / "var").touch()

    run = make_run(free_port(), PATH="")

    assert run.wait() == 1
    assert "broker.log can't be written" in run.output
    assert "Traceback" not in run.output


def test_a_number_that_is_none_is_named(make_process: Callable[..., Process], tmp_path: Path) -> None:
    run = make_process(
        "-m", "app.dev", cwd=tmp_path, PORT=str(free_port()), LEASE_S="ten", REDIS_URL="redis://127.0.0.1:1/0"
    )

    assert run.wait() == 1
    assert "setting ignored, default used setting=LEASE_S" in run.output


def test_the_greeting_names_a_token_when_requests_need_one() -> None:
    assert "Bearer" not in greeting(Settings())
    assert greeting(Settings(chat_secret="root key")).count("Bearer $TOKEN") == 2
