"""Cancel sessions in each state that they can be in, and see how soon nothing of them runs any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.deployment import Deployment
from tests.servers import wait_until

_STALL: dict[str, Any] = {"stall": True}
_TEXT: dict[str, Any] = {"repeat": {"text": "word {i} ", "count": 3000, "every": 0.1}}
#: A model that does not answer, one that stops in mid-answer, one that talks on.
_ENDLESS = ([_STALL], [{"text": "So far. "}, _STALL], [_TEXT])
_TOOL = [{"tool": {"index": 0, "id": "call-0", "name": "once", "arguments": '{"seconds": 600}'}}]


@dataclass
class Cancelled:
    """One session that was cancelled."""

    session_id: str
    model: str
    #: `time.time()` when the cancel was sent …
    asked: float
    #: … and when it was answered.
    answered: float
    row: dict[str, Any]


@dataclass
class Result:
    """How long cancels took in one state: until they were answered and nothing ran any more, in seconds."""

    state: str
    took_s: list[float]
    #: What must not be.
    broken: list[str]

    def percentile(self, share: float) -> float:
        ordered = sorted(self.took_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(deployment: Deployment, state: str, count: int) -> Result:
    """Bring *count* sessions into *state* and cancel one after the other."""
    cancelled, since = STATES[state](deployment, count)
    wait_until(lambda: _nothing_runs(deployment, cancelled), f"the ends of {count} sessions cancelled {state}")
    result = Result(state, [], [])
    for each in cancelled:
        requests = deployment.model_server.requests(each.model)
        stops = [request["closed_at"] for request in requests]
        stops += [call["at"] for call in deployment.calls(each.session_id, what="stopped")]
        begun = max(each.asked, since)
        result.took_s.append(max(each.answered - each.asked, *(stop - begun for stop in stops), 0.0))
        result.broken += _broken(deployment, state, each, [request["at"] for request in requests])
    return result


def _nothing_runs(deployment: Deployment, cancelled: Sequence[Cancelled]) -> bool:
    if any(request["how"] is None for each in cancelled for request in deployment.model_server.requests(each.model)):
        return False
    ids = {each.session_id for each in cancelled}
    began, stopped = (
        sum(call["sessionId"] in ids for call in deployment.calls(what=what)) for what in ("began", "stopped")
    )
    return began == stopped and deployment.redis("llen", "rq:queue:sessions") == 0


def _broken(deployment: Deployment, state: str, each: Cancelled, requested: Sequence[float]) -> list[str]:
    row = deployment.session(each.session_id)
    events = deployment.events(each.session_id)
    expected = ("done", None) if state == "ended" else ("error", "cancelled")
    broken = []
    if (row["status"], row["errorCode"]) != expected:
        broken.append(f"{each.session_id} is {row['status']} {row['errorCode']}")
    if row != each.row or len(events) != row["lastSeq"] or events[-1]["eventType"] != row["status"]:
        broken.append(f"{each.session_id} has changed since it was cancelled: {each.row} {row}")
    if state == "queued" and requested:
        broken.append(f"{each.session_id} was started all the same")
    return broken


def _start(deployment: Deployment, count: int, *scripts: list[dict[str, Any]]) -> list[tuple[str, str]]:
    started = []
    for number in range(count):
        model = deployment.model_server.add({"answers": [{"steps": scripts[number % len(scripts)]}]})
        started.append((deployment.start_session(model), model))
    return started


def _cancel(deployment: Deployment, session_id: str, model: str, number: int) -> Cancelled:
    web = deployment.webs[number % len(deployment.webs)]
    asked = time.time()
    answer = web.call("POST", f"/api/chat/session/{session_id}/cancel")
    assert answer.status == 200, answer
    return Cancelled(session_id, model, asked, time.time(), answer.body)


def _cancel_all(deployment: Deployment, started: Sequence[tuple[str, str]]) -> list[Cancelled]:
    return [_cancel(deployment, *each, number) for number, each in enumerate(started)]


def _wait_asked(deployment: Deployment, started: Sequence[tuple[str, str]]) -> None:
    for _, model in started:
        wait_until(lambda model=model: deployment.model_server.requests(model), "the model is asked")


_Cancels = tuple[list[Cancelled], float]


def _queued(deployment: Deployment, count: int) -> _Cancels:
    deployment.end_workers()
    cancelled = _cancel_all(deployment, _start(deployment, count, *_ENDLESS))
    deployment.worker().wait_for_line("worker started")
    return cancelled, 0.0


def _claimed(deployment: Deployment, count: int) -> _Cancels:
    deployment.worker().wait_for_line("worker started")
    cancelled = []
    for number in range(count):
        [(session_id, model)] = _start(deployment, 1, _ENDLESS[number % 3])
        wait_until(lambda each=session_id: deployment.session(each)["startedAt"], "it is claimed")
        cancelled.append(_cancel(deployment, session_id, model, number))
    return cancelled, 0.0


def _waiting(deployment: Deployment, count: int) -> _Cancels:
    deployment.worker()
    started = _start(deployment, count, *_ENDLESS)
    _wait_asked(deployment, started)
    return _cancel_all(deployment, started), 0.0


def _inside_a_tool(deployment: Deployment, count: int) -> _Cancels:
    deployment.worker()
    started = _start(deployment, count, _TOOL)
    for session_id, _ in started:
        wait_until(lambda each=session_id: deployment.calls(each), "its tool runs")
    return _cancel_all(deployment, started), 0.0


def _orphaned(deployment: Deployment, count: int) -> _Cancels:
    """Its worker is frozen until after the cancel: a dead one's connections are closed by the system."""
    worker = deployment.worker()
    started = _start(deployment, count, *_ENDLESS)
    _wait_asked(deployment, started)
    # A frozen transaction would hold the rows that the cancels want: that has a test of its own.
    deployment.freeze(worker, between_transactions=True)
    # Nothing tells that a lease has run out: nobody is there to take it over.
    time.sleep(float(deployment.environment["LEASE_S"]) + 0.5)
    cancelled = _cancel_all(deployment, started)
    since = time.time()
    worker.resume()
    return cancelled, since


def _ended(deployment: Deployment, count: int) -> _Cancels:
    deployment.worker()
    started = _start(deployment, count, [{"text": "All of it."}])
    for session_id, _ in started:
        deployment.wait_ended(session_id)
    return _cancel_all(deployment, started), 0.0


#: Each brings sessions there and cancels them; returns them and the time since when their worker could know of it.
STATES: dict[str, Callable[[Deployment, int], _Cancels]] = {
    "queued": _queued,
    "claimed": _claimed,
    "waiting for the model": _waiting,
    "inside a tool": _inside_a_tool,
    "orphaned": _orphaned,
    "ended": _ended,
}
