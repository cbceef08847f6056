"""Traces, with OpenTelemetry: each attempt at a session is a span in the trace of its POST, with its steps below it.

Off unless `TRACES` says otherwise: nothing is imported then and nothing is made. The id of an attempt's span follows
from the session and the attempt, so that later attempts name it although the process that ran it was killed; whoever
goes on with the session then makes the span that the dead one could not end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.errors import Invalid
from app.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, SpanContext, Tracer

#: Texts of a span are cut to this length.
_CHARACTERS = 8_000

_tracer: Tracer | None = None
_provider: TracerProvider | None = None
_with_content = False


def start(settings: Settings) -> None:
    """Switch traces on if the settings say so; where they go is for the variables of OpenTelemetry (`OTEL_…`) to say.

    Raises:
        Invalid: TRACES says nothing that there is, or the packages are missing.
    """
    mode = settings.traces.lower()
    if mode in ("", "off"):
        return
    if mode not in ("on", "content"):
        raise Invalid("TRACES must be `on`, `content` or `off`")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise Invalid("TRACES needs the packages of the extra `traces`: pip install 'backchat[traces]'") from error
    send_to(BatchSpanProcessor(OTLPSpanExporter()), content=mode == "content")


def send_to(processor: SpanProcessor, *, content: bool = False) -> None:
    """Switch traces on: *processor* gets the spans; with *content* they hold what was said."""
    global _tracer, _provider, _with_content
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_span_id(self) -> int:
            return _next_id.get() or super().generate_span_id()

    _provider = TracerProvider(resource=Resource.create({"service.name": "backchat"}), id_generator=Ids())
    _provider.add_span_processor(processor)
    _tracer, _with_content = _provider.get_tracer("backchat"), content


def stop() -> None:
    """Send what is left and switch traces off."""
    global _tracer, _provider
    if _provider is not None:
        _provider.shutdown()
    _tracer = _provider = None


def is_on() -> bool:
    return _tracer is not None


#: The id of the span that is started next, if it has to be a certain one. Only for the time of that call.
_next_id: ContextVar[int | None] = ContextVar("next_id", default=None)


class Step:
    """A span, or nothing while traces are off."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span
        self.kept = True

    def set(self, **values: object) -> None:
        """Attributes by name, `__` for a dot; None is left out."""
        if self._span is not None:
            for name, value in values.items():
                if value is not None:
                    self._span.set_attribute(f"{name.replace('__', '.')}", _plain(value))

    def content(self, **values: object) -> None:
        """What was said, as JSON; left out unless TRACES is `content`."""
        if self._span is not None and _with_content:
            self.set(**{name: json.dumps(value, ensure_ascii=False, default=str) for name, value in values.items()})

    def failed(self, kind: str) -> None:
        """It failed; *kind* is a code."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self.set(error__type=kind)
            self._span.set_status(Status(StatusCode.ERROR, kind))

    def enter(self, context: Context) -> None:
        """What runs in this context runs within the span."""
        if self._span is not None:
            from opentelemetry.context import attach
            from opentelemetry.trace import set_span_in_context

            context.run(attach, set_span_in_context(self._span))

    def forget(self) -> None:
        """Somebody else makes this span."""
        self.kept = False


_NOTHING = Step()


def _plain(value: object) -> Any:
    if isinstance(value, bool | int | float):
        return value
    return [str(each) for each in value] if isinstance(value, list) else str(value)[:_CHARACTERS]


@contextmanager
def step(name: str, *, to_a_server: bool = False) -> Iterator[Step]:
    """A step of the current attempt."""
    if _tracer is None:
        yield _NOTHING
        return
    from opentelemetry.trace import SpanKind

    kind = SpanKind.CLIENT if to_a_server else SpanKind.INTERNAL
    with _tracer.start_as_current_span(name, kind=kind, record_exception=False, set_status_on_exception=False) as span:
        yield Step(span)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which attempt at which session, and the `traceparent` of its POST."""

    session_id: str
    attempt: int
    traceparent: str | None

    def span_id(self) -> int:
        return _number(f"{self.session_id} {self.attempt}", 8)

    def before(self) -> Attempt:
        return Attempt(self.session_id, self.attempt - 1, self.traceparent)


@contextmanager
def attempt(which: Attempt, name: str, attributes: Mapping[str, object]) -> Iterator[Step]:
    """An attempt, current in this block; linked to the one before it."""
    if _tracer is None:
        yield _NOTHING
        return
    from opentelemetry.trace import use_span

    span = _started(_tracer, which, name)
    made = Step(span)
    made.set(**attributes)
    with use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        try:
            yield made
        finally:
            if made.kept:
                span.end()


def lost(which: Attempt, name: str, began: datetime, ended: datetime, attributes: Mapping[str, object]) -> None:
    """Make the span of an attempt whose worker died before it could."""
    if _tracer is None:
        return
    span = _started(_tracer, which, name, int(began.timestamp() * 1e9))
    made = Step(span)
    made.set(**attributes)
    made.failed("worker_lost")
    span.end(int(ended.timestamp() * 1e9))


def _started(tracer: Tracer, which: Attempt, name: str, at_ns: int | None = None) -> Span:
    from opentelemetry.trace import Link, NonRecordingSpan, set_span_in_context

    parent = _parent(which)
    links: Sequence[Link] = []
    if which.attempt > 1:
        links = [Link(_context(parent.trace_id, which.before().span_id(), parent.trace_flags))]
    given = _next_id.set(which.span_id())
    try:
        context = set_span_in_context(NonRecordingSpan(parent))
        return tracer.start_span(name, context=context, links=links, start_time=at_ns)
    finally:
        _next_id.reset(given)


def _parent(which: Attempt) -> SpanContext:
    """The span of the POST; without one, one that all attempts agree on."""
    if which.traceparent is not None:
        _, trace_id, span_id, flags = which.traceparent.split("-")
        return _context(int(trace_id, 16), int(span_id, 16), int(flags, 16))
    return _context(_number(which.session_id, 16), _number(f"{which.session_id} 0", 8), 1)


def _context(trace_id: int, span_id: int, flags: int) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))


def _number(name: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:size], "big") or 1
