"""Model requests and tool calls as operators see them: how many, how they ended, how long they took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic_ai.usage import RequestUsage

from app.observability import metrics


class Watched:
    """One request or call; whoever makes it says how it ended."""

    def __init__(self) -> None:
        self.outcome = "stopped"
        self.usage: RequestUsage | None = None

    def answered(self, usage: RequestUsage) -> None:
        """A model gave its whole answer."""
        self.outcome, self.usage = "ok", usage


@contextmanager
def model_request(name: str) -> Iterator[Watched]:
    """One request to the model called *name*, up to the end of its answer."""
    watched, started = Watched(), time.monotonic()
    try:
        yield watched
    finally:
        model = metrics.MODELS.label(name)
        metrics.MODEL_REQUESTS.labels(model, metrics.ERROR_CODES.label(watched.outcome)).inc()
        metrics.MODEL_REQUEST_SECONDS.labels(model).observe(time.monotonic() - started)
        if watched.usage is not None:
            _count_tokens(model, watched.usage)


def _count_tokens(model: str, usage: RequestUsage) -> None:
    for kind, tokens in (
        ("input", usage.input_tokens),
        ("output", usage.output_tokens),
        ("cache_read", usage.cache_read_tokens),
        ("cache_write", usage.cache_write_tokens),
    ):
        if tokens > 0:
            metrics.MODEL_TOKENS.labels(model, kind).inc(tokens)


@contextmanager
def tool_call(name: str | None) -> Iterator[Watched]:
    """One call of the tool called *name*; None: there is no such tool, whatever the model called it."""
    watched = Watched()
    try:
        yield watched
    finally:
        tool = metrics.OTHER if name is None else metrics.TOOLS.label(name)
        metrics.TOOL_CALLS.labels(tool, watched.outcome).inc()
