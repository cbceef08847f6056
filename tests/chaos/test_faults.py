"""What a deployment promises when its parts die: real processes, killed, frozen and started again."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.settings import Settings
from tests.chaos.deployment import Deployment
from tests.chaos.plan import UNKNOWN
from tests.chaos.verdict import answer_of
from tests.servers import Process, wait_until
from worker.tool_calls import OUTCOME_UNKNOWN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


#: The answer stands still until the test releases it.
HOLD = {"hold": True}


def talk(name: str, pieces: int, every_s: float = 0.1) -> dict[str, Any]:
    return {"repeat": {"text": f"{name}{{i}} ", "count": pieces, "every": every_s}}


def said(name: str, pieces: int) -> str:
    return "".join(f"{name}{piece} " for piece in range(pieces))


def use(tool: str, seconds: float | None = 0.0, index: int = 0) -> dict[str, Any]:
    arguments = "{}" if seconds is None else json.dumps({"seconds": seconds})
    return {"tool": {"index": index, "id": f"call-{{n}}-{index}", "name": tool, "arguments": arguments}}


def script(deployment: Deployment, *answers: Sequence[dict[str, Any]]) -> str:
    return deployment.model_server.add({"answers": [{"steps": list(steps)} for steps in answers]})


def attempts_of(events: Sequence[dict[str, Any]]) -> list[int]:
    return [event["attempt"] for event in events]


def assert_whole(events: Sequence[dict[str, Any]], row: dict[str, Any], answer: str) -> None:
    """Numbered without a gap, fenced, ended once, and the answer the same wherever it is shown."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert attempts_of(events) == sorted(attempts_of(events))
    assert [event["seq"] for event in events if event["eventType"] in ("done", "error")] == [len(events)]
    assert answer_of(events) == events[-1]["content"] == row["finalResponse"] == answer


def test_a_session_goes_on_within_15_s_of_the_death_of_the_only_worker(deployment: Deployment) -> None:
    deployment.end_workers()
    defaults = Settings()
    settings = {"lease_s": defaults.lease_s, "sweep_s": defaults.sweep_s}
    model = script(deployment, [talk("a", 5), use("once")], [talk("b", 5), HOLD, talk("c", 5)])
    worker = deployment.start_worker(**settings)
    session_id = deployment.start_session(model)
    deployment.wait_for_event(
        session_id, lambda event: str(event.get("content")).startswith("\n\nb0 "), "the second answer"
    )

    worker.kill9()
    died = time.monotonic()
    deployment.start_worker(**settings)
    deployment.wait_for_text(session_id, attempt=2)
    gone_on_s = time.monotonic() - died

    deployment.model_server.release(model)
    row = deployment.wait_ended(session_id)
    events = deployment.events(session_id)
    assert gone_on_s < 15
    assert (row["status"], row["attempt"]) == ("done", 2)
    assert_whole(events, row, said("a", 5) + "\n\n" + said("b", 5) + said("c", 5))
    assert len(deployment.calls(session_id)) == 1
    [opening] = [event for event in events if event.get("supersedesFrom")]
    result = next(event for event in events if event.get("toolSuccess"))
    assert opening["attempt"] == 2
    assert opening["supersedesFrom"] == result["seq"] + 1


def test_a_rolling_deploy_with_50_runs_in_the_air_ends_all_of_them_and_counts_no_attempt(
    deployment: Deployment,
) -> None:
    deployment.end_workers()
    # With one attempt a run that was handed back and counted would end as lost; so would one whose lease ran out.
    settings = {"max_attempts": 1, "stop_grace_s": 1, "lease_s": Settings().lease_s}
    first, second, third = [talk("a", 10), use("once", 0.5)], [talk("b", 20), use("once", 0.5)], [talk("c", 10)]
    model = script(deployment, first, second, third)
    # However slow the machine is, some still talk when the old worker has to leave.
    held = script(deployment, first, [HOLD, *second], third)
    old = deployment.start_worker(**settings)
    ids = [deployment.start_session(held if number % 5 == 0 else model) for number in range(50)]
    for session_id in ids:
        deployment.wait_for_text(session_id)

    old.signal(signal.SIGTERM)
    deployment.start_worker(**settings)
    status = old.wait()
    deployment.model_server.release(held)
    rows = [deployment.wait_ended(session_id, 90) for session_id in ids]

    assert status == 0
    assert [row["status"] for row in rows] == ["done"] * 50
    assert max(row["attempt"] for row in rows) == 2, "nothing was handed back"
    for row in rows:
        answer = "\n\n".join((said("a", 10), said("b", 20), said("c", 10)))
        assert_whole(deployment.events(row["sessionId"]), row, answer)
        calls = [call["toolCallId"] for call in deployment.calls(row["sessionId"])]
        assert len(calls) == len(set(calls))


def test_a_second_sigterm_hands_back_at_once(deployment: Deployment) -> None:
    deployment.end_workers()
    model = script(deployment, [talk("a", 5), HOLD, talk("b", 5)])
    old = deployment.start_worker(stop_grace_s=600, max_attempts=1)
    session_id = deployment.start_session(model)
    deployment.wait_for_text(session_id)

    old.signal(signal.SIGTERM)
    old.wait_for_line("worker stopping")
    old.signal(signal.SIGTERM)
    status = old.wait(10)
    deployment.model_server.release(model)
    deployment.start_worker(max_attempts=1)
    row = deployment.wait_ended(session_id)

    assert status == 0
    assert (row["status"], row["attempt"]) == ("done", 2)
    assert_whole(deployment.events(session_id), row, said("a", 5) + said("b", 5))


def test_a_frozen_worker_writes_nothing_after_its_session_was_taken_over(deployment: Deployment) -> None:
    model = script(deployment, [talk("a", 60)])
    frozen = deployment.worker()
    fenced_before = frozen.output.count("fenced")
    session_id = deployment.start_session(model)
    deployment.wait_for_text(session_id)
    deployment.freeze(frozen)
    deployment.start_worker()
    deployment.wait_for_text(session_id, attempt=2)

    frozen.resume()
    row = deployment.wait_ended(session_id)
    events = deployment.settled(session_id)

    assert_whole(events, row, said("a", 60))
    assert attempts_of(events)[-1] == 2
    frozen.wait_for_line("fenced", count=fenced_before + 1)
    assert len(deployment.model_server.wait_closed(model, 2)) == 2
    assert frozen.alive


def test_a_frozen_worker_writes_nothing_after_its_session_was_cancelled(deployment: Deployment) -> None:
    model = script(deployment, [talk("a", 600)])
    frozen = deployment.worker()
    session_id = deployment.start_session(model)
    deployment.wait_for_text(session_id)
    deployment.freeze(frozen)

    cancelled = deployment.cancel(session_id)
    frozen.resume()
    deployment.model_server.wait_closed(model)
    events = deployment.settled(session_id)

    assert (cancelled["status"], cancelled["errorCode"], cancelled["lastSeq"]) == ("error", "cancelled", len(events))
    assert_whole(events, deployment.session(session_id), cancelled["finalResponse"])


LOCK_AND_HANG = """
import sys, time
from app import database
from app.models import Session
database.open_database(sys.argv[1])
with database.connection(), database.db.atomic(*sys.argv[3:]):
    list(database.locked(Session.select().where(Session.session_id == sys.argv[2])))
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_process_that_hangs_inside_a_transaction_holds_its_session_up_for_seconds_only(servers: Deployment) -> None:
    model = script(servers, [talk("a", 3)])
    servers.end_workers()
    session_id = servers.start_session(model)
    hangs = servers.start_worker("-c", LOCK_AND_HANG, servers.environment["DATABASE_URL"], session_id)
    hangs.wait_for_line("locked")

    begun = time.monotonic()
    servers.worker()
    row = servers.wait_ended(session_id)
    took_s = time.monotonic() - begun

    assert took_s < 15
    assert row["finalResponse"] == said("a", 3)


def test_while_sqlite_is_locked_polls_are_answered_at_once_and_writes_are_refused_in_time(
    deployment: Deployment,
) -> None:
    if deployment.database is not None:
        pytest.skip("only SQLite has one lock for all")
    deployment.end_workers()
    model = script(deployment, [talk("a", 3)])
    session_id = deployment.start_session(model)
    url = deployment.environment["DATABASE_URL"]
    hangs = deployment.start_worker("-c", LOCK_AND_HANG, url, session_id, "IMMEDIATE")
    hangs.wait_for_line("locked")

    with ThreadPoolExecutor(1) as threads:
        refused = threads.submit(deployment.cancel_answer, session_id)
        polls_s = []
        while not refused.done():
            begun = time.monotonic()
            deployment.events(session_id)
            polls_s.append(time.monotonic() - begun)
    hangs.kill9()
    deployment.worker()
    row = deployment.wait_ended(session_id)

    assert refused.result().status == 503
    assert refused.result().body["code"] == "database_unavailable"
    assert max(polls_s) < 1
    assert row["finalResponse"] == said("a", 3)


def test_flushall_loses_no_session_and_no_event(deployment: Deployment) -> None:
    deployment.end_workers()
    model = script(deployment, [talk("a", 15)])
    deployment.start_worker(worker_concurrency=3)
    ids = [deployment.start_session(model) for _ in range(9)]
    deployment.wait_for_text(ids[0])

    deployment.redis("flushall")

    for session_id in ids:
        row = deployment.wait_ended(session_id)
        assert (row["status"], row["attempt"]) == ("done", 1)
        assert_whole(deployment.events(session_id), row, said("a", 15))


def test_a_post_while_redis_is_down_is_accepted_and_runs_when_it_is_back(deployment: Deployment) -> None:
    model = script(deployment, [talk("a", 3)])
    worker = deployment.worker()
    worker.wait_for_line("worker started")
    deployment.broker.kill9()

    asked = time.monotonic()
    answer = deployment.post(model)
    answered_s = time.monotonic() - asked
    session_id = answer.body["sessionId"]
    waiting = deployment.session(session_id)
    deployment.broker.start()
    row = deployment.wait_ended(session_id, 15)

    assert answer.status == 202
    assert answered_s < 5
    assert (waiting["status"], waiting["startedAt"]) == ("running", None)
    assert_whole(deployment.events(session_id), row, said("a", 3))


def test_a_running_session_is_polled_to_its_end_while_redis_is_down(deployment: Deployment) -> None:
    model = script(deployment, [talk("a", 30)])
    deployment.worker()
    session_id = deployment.start_session(model)
    deployment.wait_for_text(session_id)

    deployment.broker.kill9()
    row = deployment.wait_ended(session_id)
    events = deployment.events(session_id)
    deployment.broker.start()

    assert (row["status"], row["attempt"]) == ("done", 1)
    assert_whole(events, row, said("a", 30))


def test_a_cancel_while_redis_is_down_stops_the_run_all_the_same(deployment: Deployment) -> None:
    model = script(deployment, [talk("a", 200)])
    deployment.worker()
    session_id = deployment.start_session(model)
    deployment.wait_for_text(session_id)
    deployment.broker.kill9()

    asked = time.time()
    row = deployment.cancel(session_id)
    [request] = deployment.model_server.wait_closed(model)
    events = deployment.settled(session_id)
    deployment.broker.start()

    assert row["errorCode"] == "cancelled"
    # The commit itself, then the next flush or the next look at the database.
    assert request["closed_at"] - asked < 3
    assert len(events) == row["lastSeq"]


def test_a_deleted_session_is_gone_and_its_run_stops(deployment: Deployment) -> None:
    model = script(deployment, [talk("a", 200)])
    deployment.worker()
    session_id = deployment.start_session(model)
    deployment.wait_for_text(session_id)

    asked = time.time()
    answer = deployment.call("DELETE", f"/api/chat/session/{session_id}")
    [request] = deployment.model_server.wait_closed(model)

    assert answer.status == 204
    assert request["closed_at"] - asked < 2
    assert deployment.call("GET", f"/api/chat/session/{session_id}").status == 404
    assert deployment.call("GET", f"/api/chat/session/{session_id}/events").status == 404


def test_a_post_while_the_database_is_down_is_refused_and_leaves_nothing_behind(servers: Deployment) -> None:
    assert servers.database is not None
    model = script(servers, [talk("a", 3)])
    before = servers.call("GET", "/api/chat/sessions?limit=100").body["sessions"]
    servers.database.kill9()

    refused = servers.post(model, key="again")
    queued = servers.redis("llen", "rq:queue:sessions")
    servers.database.start()
    left = servers.call("GET", "/api/chat/sessions?limit=100").body["sessions"]
    accepted = servers.post(model, key="again")
    servers.worker()
    row = servers.wait_ended(accepted.body["sessionId"])

    assert (refused.status, refused.body["code"]) == (503, "database_unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert queued == 0
    assert left == before
    assert row["finalResponse"] == said("a", 3)


def test_events_wait_for_a_database_that_is_away_longer_than_the_lease_and_are_all_stored(servers: Deployment) -> None:
    assert servers.database is not None
    model = script(servers, [talk("a", 30), use("once")], [talk("b", 30)])
    # The other one must not take the session for orphaned.
    for worker in (servers.worker(), servers.start_worker()):
        worker.wait_for_line("worker started")
    session_id = servers.start_session(model)
    servers.wait_for_text(session_id)

    servers.database.kill9()
    # Two leases, and all that the model has to say until its tool call.
    time.sleep(4)
    servers.database.start()
    row = servers.wait_ended(session_id)

    assert (row["status"], row["attempt"]) == ("done", 1)
    assert_whole(servers.events(session_id), row, said("a", 30) + "\n\n" + said("b", 30))
    assert len(servers.calls(session_id)) == 1


def test_a_worker_that_slept_through_a_takeover_while_the_database_was_away_writes_nothing(
    servers: Deployment,
) -> None:
    assert servers.database is not None
    model = script(servers, [talk("a", 80)])
    frozen = servers.worker()
    session_id = servers.start_session(model)
    servers.wait_for_text(session_id)

    servers.freeze(frozen)
    servers.database.kill9()
    servers.database.start()
    servers.start_worker()
    servers.wait_for_text(session_id, attempt=2)
    frozen.resume()
    row = servers.wait_ended(session_id)

    assert_whole(servers.settled(session_id), row, said("a", 80))
    assert row["attempt"] == 2


def keep_alive(worker: Process, until_ended: Deployment, session_id: str, timeout_s: float = 100.0) -> int:
    """Start *worker* again each time it dies, until the session has ended; returns how often it died."""
    deaths = 0

    def look() -> bool:
        nonlocal deaths
        if not worker.alive:
            deaths += 1
            worker.start()
        return until_ended.session(session_id)["status"] != "running"

    wait_until(look, "the end of a session that kills its worker", timeout_s)
    return deaths


def test_a_poison_session_takes_down_no_more_workers_than_it_has_attempts(deployment: Deployment) -> None:
    model = script(deployment, [talk("a", 2), use("crash_again", None)], [talk("b", 2)])
    worker = deployment.worker()
    session_id = deployment.start_session(model)

    deaths = keep_alive(worker, deployment, session_id)

    row = deployment.session(session_id)
    assert (row["status"], row["errorCode"]) == ("error", "worker_lost")
    assert deaths == len(deployment.calls(session_id)) == Settings().max_attempts
    assert_whole(deployment.events(session_id), row, said("a", 2))


def test_a_tool_that_killed_its_worker_is_not_run_again(deployment: Deployment) -> None:
    model = script(deployment, [talk("a", 2), use("crash", None)], [{"echo": "tool"}])
    worker = deployment.worker()
    session_id = deployment.start_session(model)

    deaths = keep_alive(worker, deployment, session_id)

    row = deployment.session(session_id)
    assert deaths == len(deployment.calls(session_id)) == 1
    assert row["status"] == "done"
    assert OUTCOME_UNKNOWN in row["finalResponse"]


def test_recorded_tool_calls_are_not_executed_again_and_unknown_outcomes_are_told(deployment: Deployment) -> None:
    calls = [use("once", 0.0, 0), use("once", 30.0, 1), use("again", 6.0, 2)]
    model = script(deployment, [talk("a", 2), *calls], [{"text": "Heard: "}, {"echo": "tool"}])
    worker = deployment.worker()
    session_id = deployment.start_session(model)
    deployment.wait_for_event(session_id, lambda event: bool(event.get("toolSuccess")), "the first result")
    wait_until(lambda: len(deployment.calls(session_id)) == 3, "all three run")

    worker.kill9()
    deployment.start_worker()
    row = deployment.wait_ended(session_id)

    ran = [(call["toolCallId"], call["attempt"]) for call in deployment.calls(session_id)]
    assert sorted(ran) == [("call-0-0", 1), ("call-0-1", 1), ("call-0-2", 1), ("call-0-2", 2)]
    events = deployment.events(session_id)
    results = {event["toolCallId"]: event for event in events if event.get("toolSuccess") is not None}
    assert [results[f"call-0-{index}"]["toolSuccess"] for index in range(3)] == [True, False, True]
    assert UNKNOWN in results["call-0-1"]["toolResult"]
    heard = f'once call-0-0 ran|{{"error":"{OUTCOME_UNKNOWN}"}}|again call-0-2 ran'
    assert row["status"] == "done"
    assert_whole(events, row, f"{said('a', 2)}\n\nHeard: {heard}")


def test_fifty_posts_at_once_with_one_idempotency_key_are_one_row_one_job_and_one_run(deployment: Deployment) -> None:
    # None yet, so that the job stays where it can be counted.
    deployment.end_workers()
    model = script(deployment, [talk("a", 3)])
    before = len(deployment.call("GET", "/api/chat/sessions?limit=100").body["sessions"])
    body = {"message": "Once.", "model": f"openai-chat:{model}"}

    def post(number: int) -> tuple[int, str]:
        web = deployment.webs[number % 2]
        answer = web.call("POST", "/api/chat/session", body, {"Idempotency-Key": f"only {model}"})
        return answer.status, answer.body["sessionId"]

    with ThreadPoolExecutor(50) as threads:
        answers = set(threads.map(post, range(50)))
    jobs = deployment.redis("lrange", "rq:queue:sessions", 0, -1)
    rows = len(deployment.call("GET", "/api/chat/sessions?limit=100").body["sessions"])
    [(status, session_id)] = answers
    deployment.worker()
    row = deployment.wait_ended(session_id)

    assert status == 202
    assert rows == before + 1
    assert len(jobs) == 1
    assert (row["attempt"], row["finalResponse"]) == (1, said("a", 3))
    assert len(deployment.model_server.requests(model)) == 1


def test_the_stock_rq_worker_runs_a_session(deployment: Deployment) -> None:
    deployment.end_workers()
    model = script(deployment, [talk("a", 3), use("once")], [talk("b", 3)])
    session_id = deployment.start_session(model)

    deployment.start_worker("-m", "rq.cli", "worker", "--url", deployment.broker.url, "--burst", "sessions")
    row = deployment.wait_ended(session_id)

    assert (row["status"], row["attempt"]) == ("done", 1)
    assert_whole(deployment.events(session_id), row, said("a", 3) + "\n\n" + said("b", 3))
    assert len(deployment.calls(session_id)) == 1
