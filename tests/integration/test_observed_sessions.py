"""What is counted of sessions and requests, whoever does what to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import db, sessions
from app.db.times import utc_now
from app.events import Delta, Done, Error
from app.observability.logs import configuration
from app.sessions import census, claims
from app.sessions.commit import Batch, commit
from tests.counted import families, moved, samples
from tests.factories import change, make_claim, make_created, make_new, make_session, orphan, write
from tests.model_server import ModelServer
from tests.stage import Echo, Stage, working

SWEEP_S = 2.0


def test_a_session_is_counted_from_its_post_to_its_end(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()

    with working(stage.settings, Echo()) as worker, moved() as changes:
        stage.ask(worker, "Hello?")

    assert changes["backchat_sessions_started_total"] == 1
    assert changes["backchat_claims_total{first}"] == 1
    assert changes["backchat_session_claim_seconds_count"] == 1
    assert changes["backchat_session_first_text_seconds_count"] == 1
    assert changes["backchat_sessions_ended_total{done,}"] == 1
    assert changes["backchat_session_seconds_count"] == 1
    assert changes["backchat_flush_seconds_count"] >= 1
    assert changes["backchat_http_requests_total{POST,/api/chat/session,202}"] == 1
    assert samples()["backchat_worker_sessions"] == 0


@pytest.mark.usefixtures("store")
def test_an_end_is_counted_once_whoever_comes_second() -> None:
    session_id = make_session()

    with moved() as changes:
        sessions.end(session_id, Error("cancelled", "enough"))
        sessions.end(session_id, Error("cancelled", "enough"))

    assert changes["backchat_sessions_ended_total{error,cancelled}"] == 1


@pytest.mark.usefixtures("store")
def test_what_is_undone_is_not_counted() -> None:
    def fail() -> None:
        sessions.create(make_new())
        raise KeyError

    with moved() as changes, pytest.raises(KeyError):
        db.transaction(fail)

    assert "backchat_sessions_started_total" not in changes


@pytest.mark.usefixtures("store")
def test_claims_say_what_the_session_comes_from() -> None:
    dead, stopped = make_claim(), make_claim()
    orphan(dead.session_id)

    with moved() as changes:
        claims.hand_back(stopped)
        make_claim(stopped.session_id, worker="worker-2")
        make_claim(dead.session_id, worker="worker-2")

    assert changes["backchat_hand_backs_total"] == 1
    assert changes["backchat_claims_total{handed_back}"] == 1
    assert changes["backchat_claims_total{taken_over}"] == 1
    assert changes["backchat_takeovers_total{worker died}"] == 1


@pytest.mark.usefixtures("store")
def test_the_census_tells_who_runs_waits_and_is_left() -> None:
    make_claim()
    orphan(make_claim().session_id)
    oldest = make_session()
    change(oldest, created_at=utc_now() - timedelta(seconds=60))
    first = make_created()
    make_session(conversation_id=first.conversation_id)
    write(make_claim(), Done("done"))

    now = census.take(SWEEP_S)

    assert (now.running, now.orphaned, now.queued, now.waiting) == (1, 1, 2, 1)
    assert 59 < now.oldest_queued_s < 90
    assert now.sweep_age_s is None


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_the_number_of_series_does_not_grow_with_sessions_and_owners(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(chat_secret="now:0123456789abcdef0123456789abcdef")

    def run(owners: int, sessions_each: int) -> int:
        """Sessions with all that is counted of them; how many series there are then."""
        names = [f"owner-{n}" for n in range(owners)]
        made = db.transaction(lambda: [make_session(owner=name) for name in names * sessions_each])
        taken, _ = claims.take(made, "worker-1", max_attempts=3, turn_timeout_s=900)
        commit([Batch(claim, 0, [Delta("text"), Done("text")]) for claim in taken])
        for name, session_id in zip(names, made, strict=False):
            stage.become(name)
            stage.get(f"/api/chat/session/{session_id}")
            stage.get(f"/api/chat/session/{name}", 404)
        scraped = stage.client.get("/metrics", environ_base={"REMOTE_ADDR": "127.0.0.1"}, buffered=True)
        return sum(map(len, families(scraped.text).values()))

    run(1, 1)
    before = run(1, 1)

    with moved() as changes:
        after = run(100, 10)

    assert changes["backchat_sessions_ended_total{done,}"] == 1000
    assert after == before


def test_a_request_is_counted_by_its_route_also_one_that_is_refused(client: FlaskClient) -> None:
    with moved() as changes:
        for path in ("chat/session/absent", "chat/session/also-absent", "no/such/path"):
            client.get(f"/api/{path}", buffered=True)
        client.open("/healthz", method="BREW", buffered=True)

    assert changes["backchat_http_requests_total{GET,/api/chat/session/<session_id>,404}"] == 2
    assert changes["backchat_http_requests_total{GET,other,404}"] == 1
    assert changes["backchat_http_requests_total{other,other,405}"] == 1


def test_a_held_poll_is_counted_and_its_time_is_not(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    session_id = stage.post("Hello?")["sessionId"]

    with moved() as changes:
        stage.get(f"/api/chat/session/{session_id}/events", wait=0.05)

    route = "/api/chat/session/<session_id>/events"
    assert changes[f"backchat_http_requests_total{{GET,{route},200}}"] == 1
    assert f"backchat_http_request_seconds_count{{{route}}}" not in changes


@pytest.mark.parametrize("given", ["7f3a.b-c", "a" * 128])
def test_the_id_of_a_request_comes_back(client: FlaskClient, given: str) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "ä", 'x"y'])
def test_an_id_that_could_blur_a_log_is_replaced(client: FlaskClient, given: str) -> None:
    name = client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"]

    assert name != given
    assert len(name) == 16


def test_a_scrape_is_quick(client: FlaskClient) -> None:
    client.get("/metrics")

    def scrape_s() -> float:
        # Of this thread alone: what is measured is the work, not how busy the machine is.
        started = time.thread_time()
        assert client.get("/metrics").status_code == 200
        return time.thread_time() - started

    assert min(scrape_s() for _ in range(5)) < 0.05


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, Any]]:
    """What was logged of sessions: level, message, and the request that it names."""
    return [
        (record.levelname, record.getMessage(), getattr(record, "request_id", None))
        for record in caplog.records
        if record.name == "backchat.sessions"
    ]


def test_a_session_has_a_line_for_its_start_and_one_for_its_end(
    make_stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stage = make_stage()

    with working(stage.settings, Echo()) as worker:
        body = {"message": "Hello?"}
        started = stage.call("POST", "/api/chat/session", 202, json=body, headers={"X-Request-Id": "req-7"})
        worker.run(started["sessionId"])
        stage.get(f"/api/chat/session/{started['sessionId']}/events")

    assert lines(caplog) == [("INFO", "session started", "req-7"), ("INFO", "session done", "req-7")]
    ours = [vars(record) for record in caplog.records if record.name == "backchat.sessions"]
    assert {(line["session_id"], line["attempt"]) for line in ours} == {(started["sessionId"], 1)}
    assert not [record for record in caplog.records if record.name == "backchat.access"]


@pytest.mark.usefixtures("store")
def test_a_takeover_a_hand_back_and_a_failure_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    session_id = make_session(request_id="req-8")

    claims.hand_back(make_claim(session_id))
    make_claim(session_id, worker="worker-2")
    orphan(session_id)
    last = make_claim(session_id, worker="worker-3")
    write(last, Error("model_error", "The provider refused.", provider_said="400: no such parameter"))

    assert lines(caplog) == [
        ("INFO", "session started", "req-8"),
        ("INFO", "session handed back", "req-8"),
        ("INFO", "session resumed", "req-8"),
        ("WARNING", "session taken over", "req-8"),
        ("WARNING", "session failed", "req-8"),
    ]
    failed = vars(caplog.records[-1])
    assert failed["provider_said"] == "400: no such parameter"
    assert (failed["attempt"], failed["error_code"]) == (3, "model_error")


def test_a_request_to_a_model_has_no_line(
    make_stage: Callable[..., Stage], model_server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    name = model_server.add({"answers": [{"steps": [{"text": "Hi."}]}]})
    stage = make_stage(openai_base_url=model_server.url, models="openai-chat:*")

    with working(stage.settings) as worker:
        stage.ask(worker, "Hello?", model=f"openai-chat:{name}")

    quiet = {name for name, logger in configuration("info")["loggers"].items() if logger["level"] == "WARNING"}
    told = {each.name for each in caplog.records if each.levelname == "INFO" and each.name not in quiet}
    assert told == {"backchat.sessions"}


def test_every_request_has_a_line_where_that_is_asked_for(
    make_client: Callable[..., FlaskClient], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    make_client(access_log="on").get("/healthz?secret=1", headers={"X-Request-Id": "req-9"}, buffered=True)

    [line] = [vars(record) for record in caplog.records if record.name == "backchat.access"]
    assert (line["method"], line["path"], line["status"], line["request_id"]) == ("GET", "/healthz", "200", "req-9")
