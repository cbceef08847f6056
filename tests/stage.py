"""The API and a worker on one database, in the test's own process."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import database, schema
from app.api import create_app
from app.events import Done, Usage
from app.settings import Settings
from tests.model_server import ModelServer
from worker.orchestrator import Turn
from worker.runtime import Runtime

Answer = Callable[[Turn], AsyncIterator[Any]]


class Stage:
    """Posts over HTTP's WSGI side and runs sessions when the test says so."""

    def __init__(self, settings: Settings) -> None:
        database.open_database(settings.database_url)
        schema.migrate()
        self.settings = settings
        self.app = create_app(settings)
        self.client: FlaskClient = self.app.test_client()

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        response = self.client.get(path, query_string=query)
        assert response.status_code == status, response.text
        return response.json

    def delete(self, path: str, status: int = 204) -> TestResponse:
        response = self.client.delete(path)
        assert response.status_code == status, response.text
        return response

    def patch(self, path: str, body: Any, status: int = 200) -> Any:
        response = self.client.patch(path, json=body)
        assert response.status_code == status, response.text
        return response.json

    def post(self, message: str, status: int = 202, **fields: Any) -> Any:
        response = self.client.post("/api/chat/session", json={"message": message, **fields})
        assert response.status_code == status, response.text
        return response.json

    def ask(self, worker: Worker, message: str, **fields: Any) -> Any:
        """Post and run to the end; returns the session row."""
        started = self.post(message, **fields)
        worker.run(started["sessionId"])
        return self.get(f"/api/chat/session/{started['sessionId']}")

    def messages(self, conversation_id: str, **query: Any) -> list[Any]:
        return list(self.get(f"/api/conversations/{conversation_id}/messages", **query)["messages"])

    def history(self, agent_id: int = 1, **query: Any) -> list[Any]:
        return list(self.get(f"/api/agents/{agent_id}/conversation", **query)["events"])


class Worker:
    """A `Runtime` on a loop and thread of its own."""

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        self.runtime = runtime
        self._loop = loop

    def do(self, work: Coroutine[Any, Any, Any], timeout_s: float = 60) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def start(self, session_id: str) -> Any:
        """Begin to run a session; returns a future."""
        return asyncio.run_coroutine_threadsafe(self.runtime.run(session_id), self._loop)

    def run(self, session_id: str) -> None:
        self.do(self.runtime.run(session_id))


@contextmanager
def working(settings: Settings, answer: Answer | None = None) -> Iterator[Worker]:
    """A worker that runs what it is told to, with *answer* or the engine."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    worker = Worker(Runtime(settings, answer=answer, sweeps=False), loop)
    worker.do(worker.runtime.start())
    try:
        yield worker
    finally:
        worker.do(worker.runtime.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def saying(*steps: Any) -> Answer:
    """An orchestrator that yields *steps*; an exception among them is raised."""

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            yield step

    return answer


def echoing() -> Answer:
    """An orchestrator that answers `n: message` and remembers what it was told in `turns`."""
    numbers = itertools.count(1)
    turns: list[Turn] = []

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        turns.append(turn)
        yield f"{next(numbers)}: {turn.message}"
        yield Done(model="echo", usage=Usage(10, 5))

    answer.turns = turns  # type: ignore[attr-defined]
    return answer


def model_settings(settings: Settings, server: ModelServer) -> dict[str, Any]:
    return {"openai_api_key": "secret-key", "openai_base_url": server.url}
