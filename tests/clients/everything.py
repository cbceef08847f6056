"""All official clients, and what dies under them: `make clients`. It takes minutes, and packages of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
