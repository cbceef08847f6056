"""All official clients, and what dies under them: `make clients`. It takes minutes, and packages of its own."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import packages
from tests.model_server import ModelServer
from tests.preloaded import PreloadedProcess
from tests.servers import RedisServer, binary, wait_until
from tests.stack import Stack

ANSWER = "Привет 🙂"
HERE = Path(__file__).parent


def test_langchain_and_litellm(run_python: Callable[..., Any]) -> None:
    seen = run_python("more_clients.py", "requirements.txt")

    for name in ("langchain", "langchainResponses", "litellm"):
        assert (seen[name]["whole"], seen[name]["streamed"]) == (ANSWER, ANSWER), name
    assert seen["litellm"]["reasoning"] == "hm"
    assert "model_auth" in seen["langchain"]["failed"]
    assert "model_auth" in seen["langchainResponses"]["failed"]


def test_openai_on_node_and_the_workflow_transport(run_node: Callable[..., Any]) -> None:
    seen = run_node("more_clients.mjs")

    openai = seen["openai"]
    assert (openai["whole"], openai["streamed"], openai["text"], openai["failed"]) == (ANSWER, ANSWER, ANSWER, 502)
    assert openai["numbers"] == list(range(len(openai["numbers"])))
    assert seen["workflow"] == {"text": ANSWER, "first": "start", "last": "finish"}


#: What the model says slowly enough to be interrupted, and the same words each time.
WORDS = 250
SLOW = "".join(f"слово {n} " for n in range(WORDS))


@pytest.fixture
def kill_stack(tmp_path: Path, redis_server: RedisServer, model_server: ModelServer) -> Iterator[Stack]:
    made = Stack(
        tmp_path,
        DATABASE_URL=f"sqlite:///{tmp_path / 'backchat.db'}",
        REDIS_URL=redis_server.url,
        OPENAI_API_KEY="secret-key",
        OPENAI_BASE_URL=model_server.url,
        LEASE_S="3",
        SWEEP_S="0.5",
    )
    try:
        yield made.start()
    finally:
        made.stop()


class Watching:
    """Clients that watch a run each, all at once."""

    def __init__(self, stack: Stack, model_server: ModelServer, kinds: list[str]) -> None:
        repeat = {"repeat": {"text": "слово {i} ", "count": WORDS, "every": 0.1}}
        self._stack = stack
        self._model = f"openai-chat:{model_server.add({'answers': [{'steps': [repeat]}]})}"
        self.seen: dict[str, Any] = {}
        packages.environment(HERE / "requirements-openai.txt")
        packages.node_modules(HERE)
        self._threads = [threading.Thread(target=self._watch, args=(kind,)) for kind in kinds]
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self._running() == len(kinds), "all of them stream")

    def end(self) -> dict[str, Any]:
        for thread in self._threads:
            thread.join(120)
        return self.seen

    def _running(self) -> int:
        rows = self._stack.get("/api/chat/sessions?limit=100")["sessions"]
        return sum(row["status"] == "running" and row["lastSeq"] > 5 for row in rows)

    def _watch(self, kind: str) -> None:
        arguments = [self._stack.url, json.dumps({"slow": self._model}), kind]
        if kind in ("chat", "responses"):
            python = packages.environment(HERE / "requirements-openai.txt")
            self.seen[kind] = packages.printed([str(python), str(HERE / "watching.py"), *arguments])
        else:
            self.seen[kind] = packages.printed([binary("node"), str(HERE / "watching.mjs"), *arguments])


def test_both_workers_die_under_all_of_them_at_once(kill_stack: Stack, model_server: ModelServer) -> None:
    other = PreloadedProcess("worker", log=kill_stack.folder / "worker-2.log", environment=kill_stack.environment)
    other.start()
    try:
        watching = Watching(kill_stack, model_server, ["chat", "responses", "aiSdk", "workflow", "trpc"])
        kill_stack.worker.kill9()
        other.kill9()
        kill_stack.worker.start()
        other.start()
        seen = watching.end()
    finally:
        other.kill9()

    assert {kind: each["text"] for kind, each in seen.items()} == dict.fromkeys(seen, SLOW)
    assert len(seen) == 5
    assert all(row["attempt"] == 2 for row in kill_stack.get("/api/chat/sessions?limit=100")["sessions"])
    numbers = seen["responses"]["numbers"]
    assert numbers == seen["responses"]["replayed"] == list(range(len(numbers)))
    assert seen["trpc"]["seqs"] == list(range(1, len(seen["trpc"]["seqs"]) + 1))
    assert (seen["aiSdk"]["resets"], seen["workflow"]["resets"]) == (1, 1)


def test_the_web_process_dies_under_those_with_a_cursor(kill_stack: Stack, model_server: ModelServer) -> None:
    watching = Watching(kill_stack, model_server, ["responses", "workflow", "trpc"])
    kill_stack.web.kill9()
    kill_stack.start_web()
    seen = watching.end()

    assert len(seen) == 3
    assert {kind: each["text"] for kind, each in seen.items()} == dict.fromkeys(seen, SLOW)
    assert seen["responses"]["breaks"] > 0
    numbers = seen["responses"]["numbers"]
    assert numbers == seen["responses"]["replayed"] == list(range(len(numbers)))
    assert seen["trpc"]["seqs"] == list(range(1, len(seen["trpc"]["seqs"]) + 1))
    assert (seen["workflow"]["resets"], seen["workflow"]["twice"]) == (0, 0)
    assert all(row["attempt"] == 1 for row in kill_stack.get("/api/chat/sessions?limit=100")["sessions"])


def test_a_stopping_web_process_is_no_stop_of_the_client(kill_stack: Stack, model_server: ModelServer) -> None:
    repeat = {"repeat": {"text": "слово {i} ", "count": WORDS, "every": 0.1}}
    model = f"openai-chat:{model_server.add({'answers': [{'steps': [repeat]}]})}"
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "x"}]}
    request = urllib.request.Request(
        f"{kill_stack.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        session_id = response.headers["X-Backchat-Session"]
        while b"content" not in response.readline():
            pass
        kill_stack.web.stop()
    kill_stack.start_web()

    def row() -> Any:
        return kill_stack.get(f"/api/chat/session/{session_id}")

    wait_until(lambda: row()["status"] != "running", "its end")
    assert (row()["status"], row()["finalResponse"]) == ("done", SLOW)


def test_one_run_is_started_by_one_client_watched_by_another_and_cancelled_by_a_third(
    stack: Stack, models: dict[str, str]
) -> None:
    def call(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        return urllib.request.urlopen(urllib.request.Request(stack.url + path, data, headers, method=method))

    created = json.load(call("POST", "/v1/responses", {"model": models["holds"], "input": "x", "background": True}))
    rows = stack.get("/api/chat/sessions")["sessions"]
    session_id = rows[0]["sessionId"]
    with call("GET", f"/api/ai/chat/{session_id}/stream?startIndex=0") as watched:
        while b'"part"' not in watched.readline():
            pass
        stack.call("POST", f"/api/chat/session/{session_id}/cancel")
        rest = watched.read().decode()

    assert '"abort"' in rest
    assert '"finish"' in rest
    assert json.load(call("GET", f"/v1/responses/{created['id']}"))["status"] == "cancelled"
