"""Model requests and tool calls as operators see them: how many, how they ended, how long they took; and as spans."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RequestUsage

from app.observability import metrics, tracing
from app.observability.tracing import Step


class Watched:
    """One request or call; whoever makes it says how it ended."""

    def __init__(self, step: Step) -> None:
        self.outcome = "stopped"
        self.usage: RequestUsage | None = None
        self._step = step

    def answered(self, response: ModelResponse, text: str, finish_reason: str | None) -> None:
        """A model gave its whole answer."""
        self.outcome, self.usage = "ok", response.usage
        self._step.set(
            gen_ai__response__model=response.model_name,
            gen_ai__response__finish_reasons=[finish_reason] if finish_reason else None,
            gen_ai__usage__input_tokens=response.usage.input_tokens,
            gen_ai__usage__output_tokens=response.usage.output_tokens,
        )
        self._step.content(gen_ai__output__messages=[{"role": "assistant", "content": text}])

    def failed(self, code: str) -> None:
        """It failed for this reason."""
        self.outcome = code
        self._step.failed(code)

    def returned(self, outcome: str, arguments: object, result: str) -> None:
        """A tool has a result."""
        self.outcome = outcome
        self._step.content(gen_ai__tool__call__arguments=arguments, gen_ai__tool__call__result=result)
        if outcome != "success":
            self._step.failed(outcome)


@contextmanager
def model_request(name: str) -> Iterator[Watched]:
    """One request to the model called *name*, up to the end of its answer."""
    provider, _, model = name.rpartition(":")
    started = time.monotonic()
    with tracing.step(f"chat {model}", to_a_server=True) as step:
        step.set(gen_ai__operation__name="chat", gen_ai__provider__name=provider or model, gen_ai__request__model=model)
        watched = Watched(step)
        try:
            yield watched
        finally:
            label = metrics.MODELS.label(name)
            metrics.MODEL_REQUESTS.labels(label, metrics.ERROR_CODES.label(watched.outcome)).inc()
            metrics.MODEL_REQUEST_SECONDS.labels(label).observe(time.monotonic() - started)
            if watched.usage is not None:
                _count_tokens(label, watched.usage)


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
def tool_call(name: str, call_id: str, *, is_known: bool) -> Iterator[Watched]:
    """One call of the tool called *name*; not *is_known*: there is none, whatever the model called it."""
    tool = metrics.TOOLS.label(name) if is_known else metrics.OTHER
    with tracing.step(f"execute_tool {tool}") as step:
        step.set(gen_ai__operation__name="execute_tool", gen_ai__tool__name=tool, gen_ai__tool__call__id=call_id)
        watched = Watched(step)
        try:
            yield watched
        finally:
            metrics.TOOL_CALLS.labels(tool, watched.outcome).inc()
