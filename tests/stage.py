"""The API and a worker on one database, in the test's own process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from flask.testing import FlaskClient

from app import access, db
from app.events import Done, Usage
from app.settings import Settings
from tests.conftest import close_all
from worker.orchestrator import Turn
from worker.process import WorkerProcess

Answer = Callable[[Turn], AsyncIterator[Any]]


class Stage:
    """The API, called without a network; workers run what a test tells them to."""

    def __init__(self, client: FlaskClient, settings: Settings) -> None:
        self.client = client
        self.settings = settings

    def become(self, owner: str) -> None:
        """Speak for another owner from now on; needs `chat_secret`."""
        token = access.issue(self.settings.chat_secret, owner)
        self.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"

    def call(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        # To its end, as a server does.
        response = self.client.open(path, method=method, buffered=True, **options)
        assert response.status_code == status, response.text
        return response.json if response.data else None

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        return self.call("GET", path, status, query_string=query or None)

    def delete(self, path: str, status: int = 204) -> Any:
        return self.call("DELETE", path, status)

    def patch(self, path: str, body: Any, status: int = 200) -> Any:
        return self.call("PATCH", path, status, json=body)

    def post(self, message: str, status: int = 202, **fields: Any) -> Any:
        return self.call("POST", "/api/chat/session", status, json={"message": message, **fields})

    def cancel(self, session_id: str) -> Any:
        return self.call("POST", f"/api/chat/session/{session_id}/cancel")

    def session(self, session_id: str) -> Any:
        return self.get(f"/api/chat/session/{session_id}")

    def ask(self, worker: Worker, message: str, **fields: Any) -> Any:
        """Post and run to the end; the session's row."""
        started = self.post(message, **fields)
        worker.run(started["sessionId"])
        return self.session(started["sessionId"])

    def messages(self, conversation_id: str, **query: Any) -> list[Any]:
        return list(self.get(f"/api/conversations/{conversation_id}/messages", **query)["messages"])

    def history(self, agent_id: int = 1, **query: Any) -> list[Any]:
        return list(self.get(f"/api/agents/{agent_id}/conversation", **query)["events"])


class Worker:
    """A `WorkerProcess` on a loop and thread of its own."""

    def __init__(self, process: WorkerProcess, loop: asyncio.AbstractEventLoop) -> None:
        self.process = process
        self._loop = loop

    def do(self, work: Coroutine[Any, Any, Any], timeout_s: float = 60) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def start(self, session_id: str) -> Future[None]:
        """Begin to run a session."""
        return asyncio.run_coroutine_threadsafe(self.process.run(session_id), self._loop)

    def run(self, session_id: str) -> None:
        """Run a session to its end."""
        self.start(session_id).result(60)


@contextmanager
def working(settings: Settings, answer: Answer | None = None, *, sweeps: bool = False) -> Iterator[Worker]:
    """A worker with *answer* or the engine; without *sweeps* it neither sweeps nor prunes."""
    bound = db.database.obj
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    worker = Worker(WorkerProcess(settings, answer=answer, sweeps=sweeps), loop)
    try:
        worker.do(worker.process.start())
        yield worker
    finally:
        worker.do(worker.process.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        if db.database.obj is not bound:
            close_all(db.database.obj)
            db.database.initialize(bound)


def saying(*steps: Any) -> Answer:
    """An orchestrator that yields *steps*; an exception among them is raised."""

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            yield step

    return answer


class Echo:
    """An orchestrator that answers `re: message` and remembers what it was told."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []

    async def __call__(self, turn: Turn) -> AsyncIterator[Any]:
        self.turns.append(turn)
        yield f"re: {turn.message}"
        yield Done(model="echo", usage=Usage(10, 5, 3, 1))


class Held:
    """An orchestrator that says what it got and then waits until it may end."""

    def __init__(self, *steps: Any) -> None:
        self._steps = steps or ("part",)
        self.said = threading.Event()
        self.may_end = threading.Event()

    async def __call__(self, turn: Turn) -> AsyncIterator[Any]:
        for step in self._steps:
            yield step
        self.said.set()
        while not self.may_end.is_set():
            await asyncio.sleep(0.01)
