"""The official clients, as they are installed from their registries, against a deployment."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from tests.servers import ROOT, wait_until
from tests.stack import Stack

ANSWER = "Привет 🙂"


def of_model(stack: Stack, model: str) -> list[Any]:
    """The sessions of a model."""
    return [row for row in stack.get("/api/chat/sessions?limit=100")["sessions"] if row["model"].endswith(model)]


def test_the_openai_sdk(stack: Stack, models: dict[str, str], run_python: Callable[..., Any]) -> None:
    seen = run_python("openai_client.py", "requirements-openai.txt")

    chat, responses = seen["chat"], seen["responses"]
    assert (chat["whole"], chat["streamed"], chat["reasoning"]) == (ANSWER, ANSWER, "hm")
    assert chat["tokens"] == chat["streamedTokens"] >= 15
    assert chat["models"] == ["agent-1"]
    assert chat["unknown"] == [404, "model_not_found"]
    assert chat["failed"] == [502, "model_auth"]
    # The SDK repeats what failed on the server, unless it is told not to.
    assert len(of_model(stack, models["fails"])) == 1
    wait_until(lambda: stack.get(f"/api/chat/session/{chat['stopped']}")["status"] == "error", "the stop")
    assert stack.get(f"/api/chat/session/{chat['stopped']}")["errorCode"] == "cancelled"
    assert responses["numbers"] == list(range(len(responses["numbers"])))
    assert responses["rest"] == responses["numbers"][4:]
    # It may have come to its end by the time that it is looked at.
    assert responses["created"] in ("queued", "in_progress", "completed")
    assert responses["text"] == ANSWER
    assert responses["kinds"] == ["reasoning", "mcp_call", "message"]
    assert [responses[name] for name in ("left", "cancelled", "again")] == ["in_progress", "cancelled", "cancelled"]
    assert responses["deleted"]
    assert responses["gone"] == [404, "not_found"]


def test_trpc_and_the_ai_sdk(run_node: Callable[..., Any]) -> None:
    seen = run_node("clients.mjs", "--omit=dev")

    for link in ("batch", "superjson", "single"):
        trpc = seen[link]
        assert trpc["seqs"] == list(range(1, len(trpc["seqs"]) + 1))
        assert (trpc["answer"], trpc["listed"]) == (ANSWER, True)
        assert (trpc["absent"], trpc["wrong"]) == ([404, "NOT_FOUND"], [400, "BAD_REQUEST"])
    chat = seen["aiSdk"]
    kinds = ["reasoning", "dynamic-tool", "text"]
    assert chat["answered"] == {"text": ANSWER, "kinds": kinds}
    # The answer that is on its way is not stored yet: `resume` brings it.
    assert chat["stored"] == [["text"], kinds, ["text"]]
    assert chat["stopped"] == {"status": 204, "text": "part"}
    assert "model_auth" in chat["failed"]
    assert chat["idle"] == 204


def test_an_mcp_client(stack: Stack) -> None:
    seen: dict[str, Any] = {}

    async def use() -> None:
        arguments = ["-m", "app.cli", "--url", stack.url, "mcp"]
        server = StdioServerParameters(command=sys.executable, args=arguments, cwd=str(ROOT))
        async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            seen["tools"] = sorted(tool.name for tool in (await session.list_tools()).tools)

            async def call(name: str, **arguments: Any) -> Any:
                result = await session.call_tool(name, arguments)
                content: Any = result.content[0]
                return content.text if result.is_error else json.loads(content.text)

            seen["asked"] = await call("ask", message="Сколько 6*7?")
            seen["began"] = await call("ask", message="list and table", wait_s=0)
            seen["cancelled"] = await call("cancel_run", session_id=seen["began"]["session_id"])
            seen["again"] = await call("get_run", session_id=seen["asked"]["session_id"], wait_s=1)
            seen["absent"] = await call("get_run", session_id="absent")

    anyio.run(use)

    assert seen["tools"] == ["ask", "cancel_run", "get_run"]
    assert seen["asked"]["status"] == "done"
    assert "42" in seen["asked"]["answer"]
    assert seen["again"] == seen["asked"]
    assert (seen["began"]["status"], seen["cancelled"]["error_code"]) == ("running", "cancelled")
    assert "no such session" in seen["absent"]
