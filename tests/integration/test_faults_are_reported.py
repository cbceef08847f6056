"""No fault goes unreported: for each, the metric that moves, the line in the log, and what the commands say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app import db
from app.broker.heads import Heads
from app.broker.queue import TurnQueue
from app.db import heartbeats
from app.db.times import utc_now
from app.observability import exposition
from app.sessions import census, takeover
from app.sessions.doorbell import Doorbell
from tests.commands import Run
from tests.conftest import close_all
from tests.counted import families, moved
from tests.factories import change, make_claim, make_session
from tests.model_server import ModelServer
from tests.servers import free_port
from tests.stage import Held, Stage, working
from worker.process.sweeper import Sweeper

CALL = {"index": 0, "id": "call-1", "name": "broken", "arguments": '{"reason": "no disk"}'}
Does = Callable[["Scene"], str | None]


@dataclass
class Scene:
    """A deployment in the test's own process, to which something happens."""

    make_stage: Callable[..., Stage]
    model_server: ModelServer
    folder: Path
    #: Variables of the commands, where they differ from the test's own.
    environment: dict[str, str] = field(default_factory=dict)

    def ask(self, *answers: dict[str, Any], **settings: Any) -> str:
        """Run a session with a model that answers so; its id."""
        model = self.model_server.add({"answers": list(answers)})
        url = self.model_server.url
        stage = self.make_stage(openai_base_url=url, openai_api_key="secret-key", models="openai-chat:*", **settings)
        with working(stage.settings) as worker:
            return str(stage.ask(worker, "Hello?", model=f"openai-chat:{model}")["sessionId"])


def worker_dies(cause: str) -> Does:
    def does(scene: Scene) -> str:
        heartbeats.register("worker-1")
        session_id = make_claim().session_id
        heartbeats.mark_dead("worker-1", cause)
        takeover.take_over("worker-1", max_attempts=3, new_name=None)
        make_claim(session_id, worker="worker-2")
        return session_id

    return does


def provider_answers(fault: dict[str, Any], **settings: Any) -> Does:
    return lambda scene: scene.ask({"fault": fault}, **settings)


def tool_fails(scene: Scene) -> str:
    agents = scene.folder / "agents.toml"
    agents.write_text('[[agents]]\nid = 1\nname = "A"\ntools = ["tests.sample_tools:broken"]\n')
    return scene.ask({"steps": [{"tool": CALL}]}, {"steps": [{"text": "ok"}]}, agents_file=str(agents))


def is_cancelled(scene: Scene) -> str:
    stage, held = scene.make_stage(), Held()
    session_id = str(stage.post("Hello?")["sessionId"])
    with working(stage.settings, held) as worker:
        run = worker.start(session_id)
        assert held.said.wait(30)
        stage.cancel(session_id)
        run.result(30)
    return session_id


def takes_too_long(scene: Scene) -> str:
    stage = scene.make_stage(turn_timeout_s=1)
    with working(stage.settings, Held()) as worker:
        return str(stage.ask(worker, "Hello?")["sessionId"])


def waits_in_a_full_queue(scene: Scene) -> str:
    session_id = make_session()
    change(session_id, created_at=utc_now() - timedelta(seconds=90))
    stage = scene.make_stage()
    queue = TurnQueue(stage.settings.redis_url)
    queue.ring(session_id, 0)
    sweeper = Sweeper("worker-1", stage.settings, queue, Doorbell(Heads(queue.redis), queue))
    sweeper.sweep()
    sweeper.sweep()
    return session_id


def database_is_away(scene: Scene) -> None:
    bound, stage = db.database.obj, scene.make_stage()
    scene.environment["DATABASE_URL"] = away = f"mysql://root@127.0.0.1:{free_port()}/chat"
    try:
        db.open_database(away)
        stage.post("Hello?", 503)
    finally:
        close_all(db.database.obj)
        db.database.initialize(bound)


def redis_is_away(scene: Scene) -> str:
    scene.environment["REDIS_URL"] = away = f"redis://127.0.0.1:{free_port()}/0"
    return str(scene.make_stage(redis_url=away).post("Hello?")["sessionId"])


@dataclass(frozen=True)
class Fault:
    does: Does
    #: What moves, each by at least one.
    metrics: set[str]
    #: Message and what the line has to say.
    line: tuple[str, dict[str, Any]]
    #: What `show` says of the session; None: there is none, and it ends with 3.
    show: dict[str, Any] | None
    #: A part of what `doctor` finds; empty: the deployment has no fault.
    doctor: str = ""
    #: A part of what `stats` says.
    stats: str = "queued: 0"


def ended(code: str) -> str:
    return f"backchat_sessions_ended_total{{error,{code}}}"


def asked(code: str) -> str:
    return f"backchat_model_requests_total{{other,{code}}}"


def failed(code: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "session failed", {"error_code": code} | fields


STALLS = {"model_timeout_s": 0.3}
FAULTS = {
    "worker killed": Fault(
        worker_dies(heartbeats.DIED),
        {"backchat_claims_total{taken_over}", "backchat_takeovers_total{worker died}"},
        ("session taken over", {"cause": "worker died", "attempt": 2, "worker": "worker-2"}),
        {"state": "held", "attempt": 2, "worker": "worker-2"},
        stats="worker worker-2",
    ),
    "worker hangs": Fault(
        worker_dies(heartbeats.FROZEN),
        {"backchat_takeovers_total{worker frozen}"},
        ("session taken over", {"cause": "worker frozen", "attempt": 2}),
        {"state": "held", "attempt": 2},
        stats="worker worker-2",
    ),
    "provider says 400": Fault(
        provider_answers({"status": 400, "body": {"error": {"message": "no such parameter: top_q"}}}),
        {asked("model_error"), ended("model_error")},
        failed("model_error", provider_said="no such parameter: top_q"),
        {"errorCode": "model_error", "providerSaid": "no such parameter: top_q"},
    ),
    "provider says 429": Fault(
        provider_answers({"status": 429, "headers": {"Retry-After": "600"}}),
        {asked("model_rate_limited"), ended("model_rate_limited")},
        failed("model_rate_limited", provider_said="429"),
        {"errorCode": "model_rate_limited", "providerSaid": "429"},
    ),
    "provider says 500": Fault(
        provider_answers({"status": 500}),
        {asked("model_unavailable"), ended("model_unavailable")},
        failed("model_unavailable", provider_said="500"),
        {"errorCode": "model_unavailable", "providerSaid": "500"},
    ),
    "provider stalls": Fault(
        lambda scene: scene.ask({"steps": [{"text": "Half"}, {"stall": True}]}, **STALLS),
        {asked("model_timeout"), ended("model_timeout")},
        failed("model_timeout"),
        {"errorCode": "model_timeout"},
    ),
    "tool fails": Fault(
        tool_fails,
        {"backchat_tool_calls_total{broken,failed}", "backchat_sessions_ended_total{done,}"},
        ("tool failed", {"tool": "broken", "attempt": 1, "error": "no disk"}),
        {"state": "ended", "status": "done"},
    ),
    "cancelled": Fault(
        is_cancelled,
        {ended("cancelled"), "backchat_fenced_total"},
        ("session cancelled", {"error_code": "cancelled"}),
        {"errorCode": "cancelled"},
    ),
    "takes too long": Fault(takes_too_long, {ended("timeout")}, failed("timeout"), {"errorCode": "timeout"}),
    "queue full": Fault(
        waits_in_a_full_queue,
        {"backchat_sessions_started_total"},
        ("sessions wait for workers", {"queued": 1, "oldest_s": 90.0}),
        {"state": "queued"},
        doctor="1 sessions wait for a worker, the oldest for ",
        stats="queued: 1, the oldest for ",
    ),
    "database away": Fault(
        database_is_away,
        {"backchat_database_errors_total", "backchat_http_requests_total{POST,/api/chat/session,503}"},
        ("database can't be reached", {}),
        None,
        doctor="the database can't be reached",
        stats="",
    ),
    "redis away": Fault(
        redis_is_away,
        {"backchat_redis_errors_total{queue}"},
        ("not rung, the sweeper rings later", {}),
        {"state": "queued"},
        doctor="error\tredis\t",
        stats="jobs in Redis: it can't be reached",
    ),
}


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_reported(
    name: str,
    make_stage: Callable[..., Stage],
    model_server: ModelServer,
    run: Run,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fault, scene = FAULTS[name], Scene(make_stage, model_server, tmp_path)
    caplog.set_level("INFO")

    with moved() as changes:
        session_id = fault.does(scene)

    assert fault.metrics - changes.keys() == set(), dict(changes)
    if name == "queue full":
        # What is shown at the next scrape; and what is logged once a place is free.
        shown = families(exposition.render("", census.Gauges(2.0)))
        assert shown["backchat_sessions"]["backchat_sessions", "queued"] == 1
        assert shown["backchat_oldest_queued_seconds"]["backchat_oldest_queued_seconds",] >= 90
    # Commands set their own logging up.
    logged = [vars(record) | {"message": record.getMessage()} for record in caplog.records]
    stats, doctor = run("stats", **scene.environment), run("doctor", **scene.environment)
    assert fault.stats in stats.stdout
    assert fault.doctor in doctor.stdout
    if fault.show is None:
        assert (stats.exit_code, run("show", "any", **scene.environment).exit_code) == (3, 3)
    else:
        shown = json.loads(run("show", "--json", str(session_id)).stdout)
        assert says(shown, fault.show), shown
    message, fields = fault.line
    lines = [each for each in logged if each["message"] == message]
    assert any(says(each, fields) for each in lines), [each["message"] for each in logged]
    assert name != "queue full" or len(lines) == 1
    assert "secret-key" not in json.dumps(logged, default=str)


def says(said: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Every value is as wanted; of texts it is a part, of times about the same."""
    for name, value in wanted.items():
        if isinstance(value, float):
            if not value <= said[name] < value + 30:
                return False
        elif value not in said[name] if isinstance(value, str) else value != said[name]:
            return False
    return True
