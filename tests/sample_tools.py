"""Tools for agents of tests."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, repeat
from typing import Any

import pytest
from pydantic import BaseModel

from worker.tools import repeatable

#: What `counted` was called with; a test gets its own through `count_runs`.
_runs: list[str] = []


def count_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A fresh record of what runs from now on."""
    runs: list[str] = []
    monkeypatch.setattr("tests.sample_tools._runs", runs)
    return runs


def broken(reason: str) -> str:
    """Always fails."""
    raise OSError(reason)


async def broken_async(reason: str) -> str:
    """Always fails, on the loop."""
    raise OSError(reason)


def large(size: int) -> str:
    """Says *size* characters."""
    return "0123456789abcdef" * (size // 16) + "x" * (size % 16)


async def counted(name: str) -> str:
    """Is recorded each time it runs."""
    _runs.append(name)
    return f"counted {name}"


@repeatable
async def counted_repeatable(name: str) -> str:
    """As `counted`, and may run again."""
    return await counted(name)


async def slow(name: str) -> str:
    """Runs until it is cancelled."""
    _runs.append(name)
    await asyncio.Event().wait()
    return "never"


#: Set by tests to let `blocking` return.
release = threading.Event()


def blocking(name: str) -> str:
    """Holds its thread until `release` is set."""
    _runs.append(name)
    release.wait(10)
    return f"released after {time.monotonic()}"


def exits(code: int) -> str:
    """Calls sys.exit, as command-line libraries do."""
    sys.exit(code)


async def exits_async(code: int) -> str:
    """Calls sys.exit on the loop."""
    sys.exit(code)


def runs_out(code: int) -> str:
    """Takes the next of nothing."""
    return next(iter([str(code)][1:]))


async def cancelled(code: int) -> str:
    """Waits for something that somebody else has cancelled."""
    raise asyncio.CancelledError(code)


async def interrupted(code: int) -> str:
    """Says that somebody pressed Ctrl-C."""
    raise KeyboardInterrupt(code)


async def closed(code: int) -> str:
    """Ends as a generator does that is closed."""
    raise GeneratorExit(code)


async def panics(code: int) -> str:
    """Raises what is no Exception."""

    class Panic(BaseException):
        pass

    raise Panic(code)


def interrupted_on_a_thread(code: int) -> str:
    """Says that somebody pressed Ctrl-C, on its thread."""
    raise KeyboardInterrupt(code)


def silent(code: int) -> str:
    """Raises what ends the process that tries to say it."""

    class Silent(Exception):
        def __str__(self) -> str:
            raise SystemExit(code)

    raise Silent


def unspeakable(code: int) -> str:
    """Raises what can't even be said."""

    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise ValueError(code)

    raise UnspeakableError


def three() -> object:
    """Says three numbers, once."""
    return iter(range(3))


def half_a_character() -> str:
    """Says text that is no UTF-8."""
    return "half \ud83d"


def not_a_number() -> list[float]:
    """Says what JSON can't."""
    return [1.5, float("nan")]


def moment() -> dict[str, object]:
    """Says what is no JSON by itself."""
    return {"at": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"\xff"}


#: Set as soon as `sleep` runs.
sleeping = threading.Event()


def sleep(seconds: float) -> str:
    """Holds its thread, whatever happens."""
    sleeping.set()
    time.sleep(seconds)
    return "rested"


class _Endless(BaseModel):
    numbers: Any


@dataclass
class _Record:
    numbers: Any


class _Mute:
    def __repr__(self) -> str:
        raise SystemExit


def _itself() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


#: What no tool should return, by name: without an end, without a bottom, without words, or too large.
NO_RESULTS: dict[str, Callable[[], object]] = {
    "endless iterator": count,
    "endless generator": lambda: (n for n in count()),
    "endless within": lambda: {"a": [repeat("x")]},
    "endless in a model": lambda: _Endless(numbers=(n for n in count())),
    "endless in a record": lambda: _Record(iter(count())),
    "in itself": _itself,
    "mute": _Mute,
    "many": lambda: list(range(1_000_000)),
    "large": lambda: {"a": "x" * 50_000_000},
    "large text": lambda: "x" * 50_000_000,
    "large bytes": lambda: b"x" * 50_000_000,
}


def returns_no_result(name: str) -> object:
    """Returns one of `NO_RESULTS`."""
    return NO_RESULTS[name]()


async def returns_no_result_async(name: str) -> object:
    """Returns one of `NO_RESULTS`, on the loop."""
    return NO_RESULTS[name]()


def structured(size: int) -> dict[str, object]:
    """Says *size* numbers."""
    return {"numbers": list(range(size))}
