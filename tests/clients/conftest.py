"""Other people's clients as they are published, apart from the product's environment, and one deployment for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import packages
from tests.model_server import ModelServer
from tests.servers import RedisServer, binary
from tests.stack import Stack

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    with ModelServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def models(model_server: ModelServer) -> dict[str, str]:
    """Models by what they do: a tool call and an answer; half an answer and no more; a refusal."""
    call = {"tool": {"index": 0, "id": "call_{n}", "name": "calculate", "arguments": '{"expression": "6*7"}'}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    answers = [{"steps": [{"reasoning": "hm"}, call]}, {"steps": [{"text": "При"}, {"text": "вет 🙂"}], "usage": usage}]
    scripts: dict[str, Any] = {
        "answers": answers,
        "holds": [{"steps": [{"text": "part"}, {"stall": True}]}],
        "fails": [{"fault": {"status": 401, "body": {"error": {"message": "no"}}}}],
    }
    return {name: f"openai-chat:{model_server.add({'answers': answer})}" for name, answer in scripts.items()}


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, model_server: ModelServer
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("clients")
    made = Stack(
        folder,
        DATABASE_URL=f"sqlite:///{folder / 'backchat.db'}",
        REDIS_URL=redis_server.url,
        OPENAI_API_KEY="secret-key",
        OPENAI_BASE_URL=model_server.url,
    )
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="session")
def run_python(stack: Stack, models: dict[str, str]) -> Callable[..., Any]:
    """Runs a script of this folder in an environment of a lock beside it; what it printed."""

    def run(script: str, lock: str, *arguments: str) -> Any:
        python = packages.environment(HERE / lock)
        return packages.printed([str(python), str(HERE / script), stack.url, json.dumps(models), *arguments])

    return run


@pytest.fixture(scope="session")
def run_node(stack: Stack, models: dict[str, str]) -> Callable[..., Any]:
    """Runs a script of this folder on Node; what it printed."""

    def run(script: str, *options: str) -> Any:
        packages.node_modules(HERE, *options)
        return packages.printed([binary("node"), str(HERE / script), stack.url, json.dumps(models)])

    return run
