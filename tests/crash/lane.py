"""One deployment in which one point after the other is tried, at its worker or at one of its two web processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count, cycle
from typing import Any

from tests.chaos.answers import HOLD
from tests.chaos.deployment import Answer, Deployment
from tests.chaos.verdict import Observed, Transcript, judge
from tests.crash.points import SCRIPT, Point, points_of
from tests.servers import Process, wait_until

#: A request that a frozen process holds is sent to another one after so long.
REQUEST_S = 1.5
#: From a fault to the end of its session, at most: the transaction of a frozen process (8 s), a takeover, the run.
HEALED_S = 40.0
#: A process behaves a little differently each time: the last calls of a kind don't come in all of its runs.
TRIES = 3
#: How long a frozen process that is woken up may take to write what it must not.
AWAKE_S = 0.3


class Lane:
    """Tries points; `broken` judges all that has happened so far.

    Args:
        deployment: With two web processes and nothing stored; the lane brings the workers.
        max_attempts: Of its sessions.
    """

    def __init__(self, deployment: Deployment, max_attempts: int) -> None:
        self.deployment = deployment
        self.fired: list[Point] = []
        self.not_fired: list[Point] = []
        #: The longest time from a fault to the end of its session, and where that was.
        self.slowest: tuple[float, str] = (0.0, "")
        self._max_attempts = max_attempts
        self._observed = Observed()
        self._points: dict[str, Point] = {}
        self._numbers = count(1)
        self._number = 0
        self._key = ""
        self._model = deployment.model_server.add(SCRIPT.to_json())
        # Both are needed when one is frozen.
        self._worker = deployment.worker()
        self._other: Process | None = None

    def record(self, scenario: str) -> list[Point]:
        """All points of a scenario, by letting it happen once."""
        probe = Point(scenario, "-", 0, "-")
        # What happens once in the life of a process comes first.
        self._play(Point(scenario, "none", 0, "-"))
        self._play(probe)
        calls = self.deployment.points / f"calls-{self._number}"
        return list(points_of(scenario, calls.read_text().splitlines()))

    def try_each(self, points: Iterable[Point], *, loud: bool = False) -> None:
        """Harm the deployment at each of these points, and mend it."""
        for point in points:
            since = time.monotonic()
            fired = self._try(point)
            (self.fired if fired else self.not_fired).append(point)
            if loud:
                print(f"{'fired' if fired else '     '} {time.monotonic() - since:5.1f} s  {point}", flush=True)

    def _try(self, point: Point) -> bool:
        for _ in range(TRIES):
            try:
                self._play(point)
            except AssertionError as error:
                self._observed.strange.append(f"{point}: {error}"[:1000])
                self._begin_anew()
            if self._pid():
                return True
        return False

    def broken(self) -> dict[str, list[str]]:
        """Every promise with what broke it, and the points at which that was."""
        found = judge(self._observed, self.deployment.stored(), self._max_attempts)
        return {promise: [self._named(breach) for breach in breaches] for promise, breaches in found.items()}

    def _named(self, breach: str) -> str:
        points = {str(point) for session_id, point in self._points.items() if session_id in breach}
        return f"{breach} [{'; '.join(sorted(points))}]" if points else breach

    # One point

    def _play(self, point: Point) -> None:
        self._number = next(self._numbers)
        self._key = f"{self._number}"
        _SCENARIOS[point.scenario](self, point)

    def _order(self, point: Point) -> None:
        new, link = self.deployment.points / "new", self.deployment.points / "order"
        new.symlink_to(
            f"{self._number} {point.role if point.scenario != '-' else '-'} {point.kind} {point.at} {point.fault}"
        )
        new.replace(link)

    def _stop_counting(self) -> None:
        self._order(Point("-", "-", 0, "-"))

    def _pid(self) -> int:
        """The process that has made the fault; 0: none has."""
        with suppress(FileNotFoundError, ValueError):
            return int((self.deployment.points / f"fired-{self._number}").read_text())
        return 0

    def _run(self, point: Point) -> None:
        self._order(point)
        session_id = self._post(point, self._model)
        wait_until(lambda: self._pid() or self._ended(session_id), f"the fault or the end: {point}")
        self._stop_counting()
        since = time.monotonic()
        if self._pid() and point.fault == "kill":
            self._worker.kill9()
            self._worker.start()
        elif self._pid() and point.fault == "freeze":
            self._take_over(session_id, point)
        self._wait_ended(session_id, since, point)
        if point.kind in ("request", "chunk"):
            self._observed.model_failed.add(session_id)
        self._read(session_id)

    def _take_over(self, session_id: str, point: Point) -> None:
        """The worker stands still: another one goes on, and then the first writes nothing any more."""
        frozen, pid = self._worker, self._pid()
        wait_until(lambda: _stands_still(pid), f"the worker stands still: {point}")
        since = time.monotonic()
        if self.deployment.database is None and not self.deployment.can_be_written():
            # It has the one lock that all writers need: so long nobody goes on, and nothing is lost.
            frozen.signal(signal.SIGCONT)
            return
        self._worker = self.deployment.start_worker() if self._other is None else self._other.start()
        self._other = frozen
        try:
            self._wait_ended(session_id, since, point)
        finally:
            frozen.signal(signal.SIGCONT)
        time.sleep(AWAKE_S)
        frozen.kill9()

    def _ask_for_one(self, point: Point) -> None:
        self._order(point)
        session_id = self._post(point, self._model)
        self._finish_request(point)
        self._wait_ended(session_id, time.monotonic(), point)
        self._read(session_id)

    def _cancel(self, point: Point) -> None:
        session_id, _ = self._held(point)
        self._order(point)
        answer = self._ask(point, "POST", f"/api/chat/session/{session_id}/cancel")
        assert answer.status == 200, answer
        self._finish_request(point)
        self._cancelled(session_id, answer.body)

    def _interrupt(self, point: Point) -> None:
        held, conversation_id = self._held(point)
        self._order(point)
        session_id = self._post(point, self._model, conversationId=conversation_id, onBusy="interrupt")
        self._finish_request(point)
        self._wait_ended(session_id, time.monotonic(), point)
        self._read(session_id)
        self._wait_ended(held, time.monotonic(), point)
        self._cancelled(held, self.deployment.session(held))

    def _delete(self, point: Point) -> None:
        session_id, _ = self._held(point)
        self._order(point)
        answer = self._ask(point, "DELETE", f"/api/chat/session/{session_id}")
        # 404: what was asked first had been done.
        assert answer.status in (204, 404), answer
        self._finish_request(point)
        assert self._get(f"/api/chat/session/{session_id}").status == 404
        for key in [key for key, ids in self._observed.accepted.items() if session_id in ids]:
            del self._observed.accepted[key]

    # What a client does

    def _ask(self, point: Point, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        """Ask the first web process, and whenever one does not answer or says 503 the next one."""
        headers = {} if key is None else {"Idempotency-Key": key}
        deadline = time.monotonic() + HEALED_S
        for web in cycle(self.deployment.webs):
            answer = web.call(method, path, body, headers, timeout_s=REQUEST_S)
            if 0 < answer.status < 500:
                if point.role == "web":
                    self._stop_counting()
                return answer
            if answer.status >= 500 and (answer.status != 503 or "Retry-After" not in answer.headers):
                self._observed.strange.append(f"{point}: {answer}")
            assert time.monotonic() < deadline, f"no answer: {method} {path}"
            if point.role == "web" and point.fault == "freeze" and (pid := self._pid()):
                wait_until(lambda pid=pid: _stands_still(pid), f"the web process stands still: {point}")
                if self.deployment.database is None and not self.deployment.can_be_written():
                    os.kill(pid, signal.SIGCONT)
        raise AssertionError

    def _post(self, point: Point, model: str, key: str = "", **fields: Any) -> str:
        key = key or self._key
        body = {"message": f"Question {key}", "model": f"openai-chat:{model}"} | fields
        answer = self._ask(point, "POST", "/api/chat/session", body, key)
        assert answer.status == 202, answer
        session_id = str(answer.body["sessionId"])
        self._observed.scripts[key] = SCRIPT
        self._observed.accepted[key].add(session_id)
        self._points[session_id] = point
        return session_id

    def _held(self, point: Point) -> tuple[str, str]:
        """A session that has said something and goes on for ever, and its conversation."""
        model = self.deployment.model_server.add({"answers": [{"steps": [{"text": "r0p0 "}, HOLD]}], "record": False})
        session_id = self._post(point, model, f"{self._key} held")
        self.deployment.wait_for_text(session_id)
        return session_id, self.deployment.session(session_id)["conversationId"]

    def _get(self, path: str) -> Answer:
        """What any web process answers; all of them do, a moment after a fault."""
        for web in cycle(self.deployment.webs):
            answer = web.call("GET", path)
            if answer.status not in (0, 503):
                return answer
            time.sleep(0.05)
        raise AssertionError

    def _ended(self, session_id: str) -> bool:
        return bool(self._get(f"/api/chat/session/{session_id}").body["status"] != "running")

    def _wait_ended(self, session_id: str, since: float, point: Point) -> None:
        wait_until(lambda: self._ended(session_id), f"the end of {session_id}: {point}", HEALED_S)
        took_s = time.monotonic() - since
        if self._pid() and took_s > self.slowest[0]:
            self.slowest = (took_s, str(point))

    def _read(self, session_id: str) -> None:
        events = self.deployment.events(session_id)
        status = self.deployment.session(session_id)["status"]
        self._observed.transcripts.append(Transcript("the lane", session_id, events, status))

    def _cancelled(self, session_id: str, row: dict[str, Any]) -> None:
        if row["errorCode"] == "cancelled":
            self._observed.cancelled[session_id] = row["lastSeq"]
        self._read(session_id)

    # What an operator does

    def _finish_request(self, point: Point) -> None:
        """The harmed web process goes on, or another one stands in its place."""
        pid = self._pid()
        if not pid:
            return
        if point.fault == "freeze":
            os.kill(pid, signal.SIGCONT)
            time.sleep(AWAKE_S)
        elif point.fault == "kill":
            # It has looked at the database once: what comes only then counts for no point.
            wait_until(lambda: self.deployment.webs[0].call("GET", "/readyz").status == 200, "the web process is back")

    def _begin_anew(self) -> None:
        """After a point that went wrong: the next one must not suffer from it."""
        if pid := self._pid():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.deployment.end_workers()
        self._worker, self._other = self.deployment.worker(), None


def _stands_still(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:
        return True


_SCENARIOS: dict[str, Callable[[Lane, Point], None]] = {
    "run": Lane._run,
    "post": Lane._ask_for_one,
    "cancel": Lane._cancel,
    "interrupt": Lane._interrupt,
    "delete": Lane._delete,
}
