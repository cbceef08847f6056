"""What the commands for operators say of a deployment."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.broker.queue import TurnQueue
from app.cli import main
from app.db import heartbeats
from app.events import Error
from app.sessions.claims import hand_back
from tests.commands import Run
from tests.factories import make_claim, make_created, make_session, orphan, row, write
from tests.servers import RedisServer, free_port


def told(result: Result) -> Any:
    return json.loads(result.stdout)


def findings(result: Result) -> dict[str, str]:
    """The worst state of each check."""
    worst: dict[str, str] = {}
    for line in result.stdout.splitlines():
        each = json.loads(line)
        if worst.get(each["check"]) in (None, "ok"):
            worst[each["check"]] = each["state"]
    return worst


def test_stats_says_what_runs_and_waits_and_which_worker_runs_what(run: Run) -> None:
    heartbeats.register("worker-1")
    held = make_claim().session_id
    first = make_created()
    make_session(conversation_id=first.conversation_id)

    shown = told(run("stats", "--json"))
    text = run("stats").stdout

    assert (shown["running"], shown["queued"], shown["waiting"], shown["jobs"]) == (1, 1, 1, 0)
    assert shown["workers"] == [{"name": "worker-1", "cause": None, "sessions": [held]}]
    assert "queued: 1, the oldest for 0 s" in text
    assert f"worker worker-1: alive, 1 sessions\n    {held}\n" in text


def test_stats_without_redis_says_so_and_without_a_database_ends_with_3(run: Run) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"

    assert "jobs in Redis: it can't be reached" in run("stats", REDIS_URL=away).stdout
    assert run("stats", DATABASE_URL=f"mysql://root@127.0.0.1:{free_port()}/chat").exit_code == 3


def test_show_says_how_a_session_went_and_what_the_provider_said(run: Run) -> None:
    session_id = make_session(request_id="req-1")
    hand_back(make_claim(session_id, worker="worker one"))
    write(
        make_claim(session_id, worker="worker-2"),
        Error("model_error", "It refused.", provider_said="400: no such parameter"),
    )

    shown = told(run("show", "--json", session_id))
    text = run("show", session_id).stdout

    assert (shown["state"], shown["errorCode"], shown["attempt"], shown["handbacks"]) == ("ended", "model_error", 2, 1)
    assert (shown["requestId"], shown["providerSaid"]) == ("req-1", "400: no such parameter")
    assert [(each["attempt"], each["worker"]) for each in shown["attempts"]] == [(1, "worker one"), (2, "worker-2")]
    assert [each["events"] for each in shown["attempts"]] == [0, 1]
    assert shown["startedAt"] == shown["attempts"][0]["claimed_at"]
    assert "attempt 2 on worker-2: " in text
    assert "providerSaid: 400: no such parameter\n" in text
    assert run("show", "no-such-session").exit_code == 1


def test_requeue_rings_for_what_waits_and_takes_from_a_worker_only_by_force(
    run: Run, redis_server: RedisServer
) -> None:
    waiting, held, ended = make_session(), make_claim().session_id, make_session()
    write(make_claim(ended), Error("cancelled", "enough"))

    results = [run("requeue", session_id).exit_code for session_id in (waiting, held, ended)]
    forced = run("requeue", "--force", held)

    assert results == [0, 1, 1]
    assert forced.exit_code == 0
    assert row(held).lease_until_ms is None
    assert TurnQueue(redis_server.url).waiting() == {f"{waiting}-0", f"{held}-1"}


def test_doctor_finds_nothing_wrong_with_a_deployment_that_works(run: Run) -> None:
    heartbeats.register("worker-1")

    result = run("doctor", "--json")

    assert (result.exit_code, set(findings(result).values()) - {"warning"}) == (0, {"ok"}), result.stdout


def test_doctor_says_what_to_do_about_what_is_away(run: Run) -> None:
    gone = {"DATABASE_URL": f"mysql://root@127.0.0.1:{free_port()}/chat", "REDIS_URL": "redis://127.0.0.1:1/0"}

    result = run(
        "doctor", "--json", **gone, OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}", CHAT_MODEL="openai-chat:x"
    )

    found = findings(result)
    assert result.exit_code == 1
    assert {found[check] for check in ("database", "schema", "redis", "model")} == {"error"}
    assert all(json.loads(line)["advice"] for line in result.stdout.splitlines() if '"error"' in line)


def test_doctor_names_dead_workers_and_a_queue_that_nobody_serves(run: Run, redis_server: RedisServer) -> None:
    heartbeats.register("worker-1")
    heartbeats.mark_dead("worker-1", heartbeats.FROZEN)
    orphan(make_claim().session_id)

    found = run("doctor").stdout

    assert "error\tworkers\tnone is registered" in found
    assert "worker-1 holds 0 sessions and is dead: worker frozen" in found


def test_doctor_looks_at_what_redis_does_when_its_memory_is_full(run: Run, redis_server: RedisServer) -> None:
    client = TurnQueue(redis_server.url).redis
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = run("doctor").stdout
    finally:
        client.config_set("maxmemory-policy", "noeviction")

    assert "maxmemory-policy is allkeys-lru" in found


@pytest.mark.parametrize("command", ["stats", "show", "requeue", "doctor"])
def test_each_command_says_its_exit_status(command: str) -> None:
    assert "Exit status:" in CliRunner().invoke(main, [command, "--help"]).output


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"backchat, version \d+\.\d+\.\d+\n", CliRunner().invoke(main, ["--version"]).output)
