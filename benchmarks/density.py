"""How many sessions a process holds: our engine beside plain pydantic-ai on the openai SDK, under one load.

    python -m benchmarks.density                     # 200 sessions, 20 tokens/s, 5 s each
    python -m benchmarks.density --sessions 300 --rate 5 --seconds 10

Each contender runs in a process of its own, so that CPU time and memory are its own; the scripted model server runs
in others. CPU seconds count all threads of the contender from its first request to its last answer, after one turn
to warm up. "sessions per CPU second" is what they divide into; the last column compares it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.model_server import ModelServer

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "token {i} "


def script(rate: float, seconds: float) -> dict[str, Any]:
    """Every session gets the same stream, compiled once by each server process."""
    repeat = {"text": TOKEN, "count": int(rate * seconds), "every": 1 / rate}
    return {"answers": [{"steps": [{"repeat": repeat}]}], "record": False}


async def ours(url: str) -> tuple[Callable[[str], AsyncIterator[str]], Callable[[], Any]]:
    """The engine of this project, as the worker calls it."""
    from app.agents import DEFAULT_AGENT
    from app.events import Delta
    from app.settings import Settings
    from worker.engine.engine import Engine
    from worker.orchestrator import Turn

    settings = Settings(openai_api_key="key", openai_base_url=url)
    engine = Engine(settings)

    async def session(model: str) -> AsyncIterator[str]:
        turn = Turn("s", "c", "Hello?", DEFAULT_AGENT, f"openai-chat:{model}", settings)
        async for event in engine(turn):
            if isinstance(event, Delta):
                yield event.content

    return session, engine.aclose


async def plain(url: str) -> tuple[Callable[[str], AsyncIterator[str]], Callable[[], Any]]:
    """pydantic-ai as its documentation shows it, with the openai SDK's own client and a pool that is large enough."""
    import httpx2
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from app.agents import DEFAULT_AGENT
    from worker.orchestrator import Turn
    from worker.tools import load_tool

    limits = httpx2.Limits(max_connections=2_000, max_keepalive_connections=2_000)
    client = AsyncOpenAI(api_key="key", base_url=url, http_client=httpx2.AsyncClient(limits=limits, timeout=120))
    # The agent that ours has: describing its tools to the model costs both the same.
    agent = Agent(
        deps_type=Turn,
        instructions=DEFAULT_AGENT.instructions,
        tools=[load_tool(name) for name in DEFAULT_AGENT.tools],
    )

    async def session(model: str) -> AsyncIterator[str]:
        chat = OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client))
        async with agent.run_stream("Hello?", model=chat) as result:
            async for piece in result.stream_text(delta=True, debounce_by=None):
                yield piece

    return session, client.close


async def contend(name: str, url: str, model: str, warm_up: str, sessions: int, expected: str) -> dict[str, Any]:
    """Run all sessions at once and measure."""
    make, close = await {"ours": ours, "plain": plain}[name](url)
    async for _ in make(warm_up):
        pass
    rss_before = _rss_mb()
    firsts: list[float] = []
    ends: list[float] = []
    pieces = 0

    async def run() -> None:
        nonlocal pieces
        said: list[str] = []
        async for piece in make(model):
            if not said:
                firsts.append(time.monotonic())
            said.append(piece)
        ends.append(time.monotonic())
        pieces += len(said)
        if "".join(said) != expected:
            raise AssertionError(f"{name}: an answer is not what the server said")

    cpu, started = time.process_time(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(sessions):
            group.create_task(run())
    cpu, duration = time.process_time() - cpu, time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    closed = close()
    if closed is not None:
        await closed
    return {
        "duration_s": duration,
        "cpu_s": cpu,
        "max_rss_mb": peak,
        "kb_per_session": (peak - rss_before) * 1024 / sessions,
        "pieces_per_session": pieces / sessions,
        "last_first_s": max(firsts) - started,
        "first_end_s": min(ends) - started,
    }


def _rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(name: str, url: str, model: str, warm_up: str, sessions: int, expected: str) -> dict[str, Any]:
    """`contend` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.density", "--contender", name]
    given = json.dumps([url, model, warm_up, sessions, expected])
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description="Sessions per CPU second, ours beside plain pydantic-ai.")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20, help="tokens per second of each session")
    parser.add_argument("--seconds", type=float, default=5, help="how long each answer streams")
    parser.add_argument("--only", choices=["ours", "plain"])
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--contender", choices=["ours", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        url, model, warm_up, sessions, expected = json.load(sys.stdin)
        print(json.dumps(asyncio.run(contend(options.contender, url, model, warm_up, sessions, expected))))
        return
    expected = "".join(TOKEN.replace("{i}", str(i)) for i in range(int(options.rate * options.seconds)))
    rows: dict[str, dict[str, Any]] = {}
    with ModelServer.start(processes=2) as server:
        model = server.add(script(options.rate, options.seconds))
        warm_up = server.add(script(100, 0.1))
        for name in [options.only] if options.only else ["ours", "plain"]:
            rows[name] = measure(name, server.url, model, warm_up, options.sessions, expected)
            rows[name]["sessions_per_cpu_s"] = options.sessions / rows[name]["cpu_s"]
    print("\nthe stock RQ worker's memory beside ours: python -m benchmarks.worker_density")
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{options.sessions} sessions, {options.rate:g} tokens/s, a script of {options.seconds:g} s")
    columns = list(next(iter(rows.values())))
    print(f"{'':8}" + "".join(f"{column:>20}" for column in columns))
    for name, row in rows.items():
        print(f"{name:8}" + "".join(f"{row[column]:>20.2f}" for column in columns))
    if len(rows) == 2:
        ratio = rows["ours"]["sessions_per_cpu_s"] / rows["plain"]["sessions_per_cpu_s"]
        print(f"ours holds {ratio:.1f} times the sessions per CPU second")


if __name__ == "__main__":
    main()
