"""What a deployment promises when its workers die, freeze and leave: real processes."""

from __future__ import annotations

import signal
import time

import pytest

from app.settings import Settings
from tests.chaos.answers import HOLD, assert_whole, attempts_of, said, script, talk, use
from tests.chaos.deployment import Deployment
from tests.chaos.plan import UNKNOWN
from tests.crash.lane import Lane
from tests.crash.points import sample
from tests.servers import Process, wait_until
from worker.engine.tool_calls import OUTCOME_UNKNOWN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


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
    assert frozen.wait() == 70, frozen


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


def test_a_poison_session_takes_down_one_worker_and_ends_when_its_attempts_are_used_up(deployment: Deployment) -> None:
    model = script(deployment, [talk("a", 2), use("crash_again", None)], [talk("b", 2)])
    worker = deployment.worker()
    session_id = deployment.start_session(model)

    deaths = keep_alive(worker, deployment, session_id)

    row = deployment.session(session_id)
    assert (row["status"], row["errorCode"]) == ("error", "worker_lost")
    # The others were processes of its own.
    assert (deaths, len(deployment.calls(session_id))) == (1, Settings().max_attempts)
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


def test_the_stock_rq_worker_runs_a_session(deployment: Deployment) -> None:
    deployment.end_workers()
    model = script(deployment, [talk("a", 3), use("once")], [talk("b", 3)])
    session_id = deployment.start_session(model)

    deployment.start_worker(
        "-m", "rq.cli", "worker", "--url", deployment.broker.url, "--serializer", "json", "--burst", "sessions"
    )
    row = deployment.wait_ended(session_id)

    assert (row["status"], row["attempt"]) == ("done", 1)
    assert_whole(deployment.events(session_id), row, said("a", 3) + "\n\n" + said("b", 3))
    assert len(deployment.calls(session_id)) == 1


#: Of all points, which `make crash` tries.
SAMPLE = {"run": 6, "post": 1, "cancel": 1, "interrupt": 2, "delete": 1}


def test_a_process_may_die_freeze_or_be_cut_off_at_any_call_that_it_makes(deployment: Deployment) -> None:
    deployment.forget_all()
    lane = Lane(deployment, Settings().max_attempts)

    for scenario, count in SAMPLE.items():
        lane.try_each(sample(lane.record(scenario), count, seed=deployment.database is None))

    # Some calls don't come in each run: whoever waits for another process looks as often as it takes.
    assert len(lane.fired) > 2 * len(lane.not_fired)
    assert not any(lane.broken().values()), lane.broken()
