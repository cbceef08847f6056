"""Tools for agents of tests."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

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
