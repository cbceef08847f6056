"""What sessions do to their worker in `benchmarks.isolation`: an orchestrator, tools, and a provider of models.

    python -m benchmarks.culprits    # the provider: prints its port, ends when its stdin closes

`ORCHESTRATOR=benchmarks.culprits:answer` answers the message `do NAME` with the orchestrator NAME below, asks the
provider here when the model's name says so, and leaves all others to the engine.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from aiohttp import web

from app.events import Delta, Done, Thinking, ToolCall
from app.settings import Settings
from worker.engine.engine import Engine
from worker.orchestrator import Checkpoint, Turn

MIB = 1024 * 1024
#: The largest sizes are multiplied by this: a quick look needs less.
SCALE = float(os.environ.get("CULPRIT_SCALE", "1"))


# Orchestrators


class _Unspeakable:
    def __str__(self) -> str:
        raise ValueError("unspeakable")

    __repr__ = __str__


class _Long(str):
    """Says that it is short."""

    def __len__(self) -> int:
        return 3


async def unspeakable(turn: Turn) -> AsyncIterator[Any]:
    yield "half"
    yield ToolCall("call", "tool", {"argument": _Unspeakable()})
    yield Done()


async def exits(turn: Turn) -> AsyncIterator[Any]:
    yield "half"
    await asyncio.sleep(0.5)
    os._exit(1)


async def blocks(turn: Turn) -> AsyncIterator[Any]:
    yield "half"
    await asyncio.sleep(0.5)
    time.sleep(10_000)


async def thinks(turn: Turn) -> AsyncIterator[Any]:
    for _ in range(int(466 * SCALE)):
        yield Thinking("hm, " * (MIB // 4))
    await asyncio.Event().wait()


async def lies(turn: Turn) -> AsyncIterator[Any]:
    yield "half"
    yield Delta(_Long("x" * int(60 * MIB * SCALE)))
    yield Done()


def never_yields(turn: Turn) -> Iterator[Any]:
    """Runs on a thread, and never gives a sign."""
    while not turn.cancel.requested:
        sum(range(1000))
    yield "never"


def sleeps(turn: Turn) -> Iterator[Any]:
    turn.cancel.wait(5)
    yield "slept"


async def checkpoints(turn: Turn) -> AsyncIterator[Any]:
    """A state of 100 MB, several times."""
    for number in range(3):
        yield f"{number} "
        yield Checkpoint({"state": "x" * int(100 * MIB * SCALE), "number": number})
    yield Done()


async def talks(turn: Turn) -> AsyncIterator[Any]:
    """50,000 deltas, as fast as it may."""
    for number in range(50_000):
        yield Delta(f"{number} ")
    yield Done()


async def floods(turn: Turn) -> AsyncIterator[Any]:
    """Events without a pause that can't be merged."""
    for number in count():
        yield ToolCall(f"call-{number}", "tool", {"n": number})
        yield ToolCall(f"call-{number}", "tool", {"n": number}, "result", True)


async def swallows(turn: Turn) -> AsyncIterator[Any]:
    """Can't be stopped."""
    yield "half"
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


async def starts_tasks(turn: Turn) -> AsyncIterator[Any]:
    """Keeps the loop busy with tasks of its own, which outlive it for a while."""

    async def busy() -> None:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(busy()) for _ in range(20)]
    yield "half"
    await asyncio.gather(*tasks)
    yield Done()


ORCHESTRATORS: dict[str, Callable[[Turn], Any]] = {
    each.__name__: each
    for each in (
        *(unspeakable, exits, blocks, thinks, lies, never_yields, sleeps, checkpoints, talks, floods, swallows),
        starts_tasks,
    )
}


@cache
def _engine(url: str) -> Engine:
    settings = Settings.from_environment()
    return Engine(replace(settings, openai_base_url=url) if url else settings)


def answer(turn: Turn) -> Any:
    word, _, name = turn.message.partition(" ")
    if word == "do":
        return ORCHESTRATORS[name](turn)
    return _engine(os.environ["CULPRIT_URL"] if turn.model.partition(":")[2] in ANSWERS else "")(turn)


# Tools


async def interrupts() -> str:
    """Says that somebody pressed Ctrl-C."""
    raise KeyboardInterrupt


async def stops_the_loop() -> str:
    """Stops the loop."""
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.1)
    return "stopped"


async def cancels_everything() -> str:
    """Cancels every task that it finds."""
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0.1)
    return "cancelled"


async def endless() -> object:
    """Never ends to say something."""
    return count()


async def lies_about_its_length() -> str:
    """Says that it is short."""
    return _Long("x" * int(60 * MIB * SCALE))


def sleeps_on_a_thread(n: int) -> str:
    """Takes a thread."""
    time.sleep(10)
    return f"slept {n}"


async def blocks_for_seconds() -> str:
    """Holds the loop for a second."""
    time.sleep(1.0)
    return "blocked"


async def quick(n: int = 0, text: str = "") -> str:
    """Says a number."""
    return str(n)


TOOLS = (
    *(interrupts, stops_the_loop, cancels_everything, endless, lies_about_its_length, sleeps_on_a_thread),
    *(blocks_for_seconds, quick),
)


# The provider


def _sse(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _call(index: int, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": f"call-{index}", "type": "function", "function": function}]}


_END = _sse({}, "stop") + b"data: [DONE]\n\n"


def _compressed() -> Iterator[bytes]:
    """200 MB in a small body."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = _sse({"content": "x" * MIB})
    yield packer.compress(_sse({"role": "assistant", "content": ""}))
    for _ in range(int(200 * SCALE)):
        yield packer.compress(piece)
    yield packer.compress(_END) + packer.flush()


def _line() -> Iterator[bytes]:
    """One line of 100 MB."""
    head, tail = _sse({"content": "|"}).split(b"|")
    yield head
    for _ in range(int(100 * SCALE)):
        yield b"x" * MIB
    yield tail + _END


def _endless_line() -> Iterator[bytes]:
    yield b"data: "
    for _ in range(int(100 * SCALE)):
        yield b" " * MIB


def _calls() -> Iterator[bytes]:
    """1,000 calls in one answer."""
    for number in range(1000):
        yield _sse(_call(number, "quick", json.dumps({"n": number})))
    yield _sse({}, "tool_calls") + b"data: [DONE]\n\n"


def _arguments() -> Iterator[bytes]:
    """100 MB of arguments, in pieces of 64 KiB."""
    yield _sse(_call(0, "quick", '{"n": 1, "text": "'))
    for _ in range(int(100 * SCALE) * 16):
        yield _sse({"tool_calls": [{"index": 0, "function": {"arguments": "x" * 65536}}]})
    yield _sse({"tool_calls": [{"index": 0, "function": {"arguments": '"}'}}]}) + _sse({}, "tool_calls")
    yield b"data: [DONE]\n\n"


def _thoughts() -> Iterator[bytes]:
    for _ in range(int(466 * SCALE) * 16):
        yield _sse({"reasoning_content": "hm, " * 16384})
    yield _sse({"content": "So."}) + _END


def _many_tiny() -> Iterator[bytes]:
    """50,000 pieces as fast as they go."""
    for number in range(50_000):
        yield _sse({"content": f"{number} "})
    yield _END


def _fills_threads() -> Iterator[bytes]:
    for number in range(100):
        yield _sse(_call(number, "sleeps_on_a_thread", json.dumps({"n": number})))
    yield _sse({}, "tool_calls") + b"data: [DONE]\n\n"


def _using(tool: str) -> Callable[[], Iterator[bytes]]:
    return lambda: iter([_sse(_call(0, tool, "{}")), _sse({}, "tool_calls"), b"data: [DONE]\n\n"])


ANSWERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "compressed": _compressed,
    "line": _line,
    "endless-line": _endless_line,
    "calls": _calls,
    "arguments": _arguments,
    "thoughts": _thoughts,
    "many-tiny": _many_tiny,
    "threads": _fills_threads,
    **{f"tool-{tool.__name__}": _using(tool.__name__) for tool in TOOLS},
}


async def _complete(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    headers = {"Content-Type": "text/event-stream"}
    if body["model"] == "compressed":
        headers["Content-Encoding"] = "gzip"
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    asked_before = any(message["role"] == "tool" for message in body["messages"])
    pieces = iter([_sse({"content": "Done."}), _END]) if asked_before else ANSWERS[body["model"]]()
    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            await response.write(piece)
    except ConnectionError:
        pass
    return response


async def _serve() -> None:
    server = web.Application(client_max_size=1024 * MIB)
    server.router.add_post("/v1/chat/completions", _complete)
    runner = web.AppRunner(server, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


@contextmanager
def provider() -> Iterator[str]:
    """The provider as a process of its own; the URL for `OPENAI_BASE_URL`."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "benchmarks.culprits"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve())
