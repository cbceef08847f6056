"""What a deployment promises while Redis or the database is away, empty or held up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.answers import assert_whole, said, script, talk, use
from tests.chaos.deployment import Deployment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


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


LOCK_AND_HANG = """
import sys, time
from app import db
from app.db.models import Session
db.open_database(sys.argv[1])
with db.connected(), db.database.atomic(*sys.argv[3:]):
    list(db.locked(Session.select().where(Session.session_id == sys.argv[2])))
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
    assert refused.result().body["code"] == "busy"
    assert max(polls_s) < 1
    assert row["finalResponse"] == said("a", 3)


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
