"""The trace of a session: its attempts, and their steps below them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.errors import Invalid
from app.observability import tracing
from app.settings import Settings
from tests.factories import events_of, orphan
from tests.model_server import ModelServer
from tests.servers import ROOT, wait_until
from tests.stage import Echo, Stage, saying, working
from worker.orchestrator import TurnFailed

TRACE, POST = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALCULATE = {"index": 0, "id": "call-1", "name": "calculate", "arguments": '{"expression": "1 + 3"}'}


#: The database is nothing to a trace.
on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


class Spans:
    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def named(self, beginning: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(beginning)]

    @property
    def text(self) -> str:
        return "".join(span.to_json() for span in self._exporter.get_finished_spans())


@pytest.fixture(params=[False])
def spans(request: pytest.FixtureRequest) -> Iterator[Spans]:
    """Traces are on; with content where the test says so."""
    exporter = InMemorySpanExporter()
    tracing.send_to(SimpleSpanProcessor(exporter), content=request.param)
    yield Spans(exporter)
    tracing.stop()


def post(stage: Stage, message: str, **options: Any) -> str:
    """Start a session within the trace; its id."""
    headers = {"traceparent": f"00-{TRACE}-{POST}-01"}
    body = {"message": message, **options}
    return str(stage.call("POST", "/api/chat/session", 202, json=body, headers=headers)["sessionId"])


def attribute(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def has_said(session_id: str, attempt: int) -> Callable[[], bool]:
    return lambda: any(each["eventType"] == "delta" and each["attempt"] == attempt for each in events_of(session_id))


@pytest.fixture
def stage(make_stage: Callable[..., Stage], model_server: ModelServer) -> Stage:
    return make_stage(openai_base_url=model_server.url, openai_api_key="key", models="openai-chat:*")


@on_sqlite
def test_a_run_that_was_killed_twice_is_one_trace_of_three_linked_attempts(
    stage: Stage, model_server: ModelServer, spans: Spans
) -> None:
    answer = [{"text": "The answer "}, {"hold": True}, {"text": "is 4."}]
    model = model_server.add({"answers": [{"steps": [{"tool": CALCULATE}]}, {"steps": answer}]})
    session_id = post(stage, "What is 1 + 3?", model=f"openai-chat:{model}")

    with working(stage.settings) as first, working(stage.settings) as second, working(stage.settings) as third:
        killed = []
        for attempt, worker in enumerate((first, second), start=1):
            killed.append(worker.start(session_id))
            wait_until(has_said(session_id, attempt), "the answer to begin")
            # Whoever believes that it is dead takes over, as from one that is.
            orphan(session_id)
        run = third.start(session_id)
        wait_until(has_said(session_id, 3), "the answer to begin again")
        for each in killed:
            each.result(60)
        model_server.release(model)
        run.result(60)

    attempts = spans.named("invoke_agent")
    assert stage.session(session_id)["status"] == "done"
    assert sorted(attribute(each, "backchat.attempt") for each in attempts) == [1, 2, 3]
    assert {f"{each.context.trace_id:032x}" for each in spans.named("")} == {TRACE}
    assert {f"{each.parent.span_id:016x}" for each in attempts if each.parent} == {POST}
    by_number = {attribute(each, "backchat.attempt"): each for each in attempts}
    for number in (2, 3):
        [link] = by_number[number].links
        assert link.context.span_id == by_number[number - 1].context.span_id
    assert [attribute(by_number[n], "error.type") for n in (1, 2, 3)] == ["worker_lost", "worker_lost", None]
    [tool] = spans.named("execute_tool calculate")
    assert tool.parent is not None
    assert tool.parent.span_id == by_number[1].context.span_id
    whole = [each for each in spans.named(f"chat {model}") if attribute(each, "gen_ai.response.model")]
    assert [each.parent.span_id for each in whole if each.parent] == [by_number[n].context.span_id for n in (1, 3)]


@on_sqlite
def test_steps_have_the_names_of_the_genai_conventions(stage: Stage, model_server: ModelServer, spans: Spans) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    answers = [{"steps": [{"tool": CALCULATE}], "usage": usage}, {"steps": [{"text": "4"}], "usage": usage}]
    model = model_server.add({"answers": answers})

    with working(stage.settings) as worker:
        worker.run(post(stage, "a message of mine", model=f"openai-chat:{model}"))

    [attempt], [_, chat], [tool] = spans.named("invoke_agent"), spans.named("chat"), spans.named("execute_tool")
    assert attribute(attempt, "gen_ai.agent.name") == "Assistant"
    assert attribute(chat, "gen_ai.operation.name") == "chat"
    assert attribute(chat, "gen_ai.provider.name") == "openai-chat"
    assert attribute(chat, "gen_ai.request.model") == model
    assert attribute(chat, "gen_ai.usage.input_tokens") == 7
    assert attribute(tool, "gen_ai.tool.name") == "calculate"
    assert chat.parent is not None
    assert chat.parent.span_id == attempt.context.span_id
    assert "a message of mine" not in spans.text
    assert "1 + 3" not in spans.text


@on_sqlite
@pytest.mark.parametrize("spans", [True], indirect=True)
def test_what_was_said_is_in_a_trace_only_where_that_is_asked_for(
    stage: Stage, model_server: ModelServer, spans: Spans
) -> None:
    model = model_server.add({"answers": [{"steps": [{"tool": CALCULATE}]}, {"steps": [{"text": "It is 4."}]}]})

    with working(stage.settings) as worker:
        worker.run(post(stage, "a message of mine", model=f"openai-chat:{model}"))

    [attempt], [tool] = spans.named("invoke_agent"), spans.named("execute_tool")
    assert json.loads(attribute(attempt, "gen_ai.input.messages")) == [{"role": "user", "content": "a message of mine"}]
    assert "It is 4." in attribute(attempt, "gen_ai.output.messages")
    assert "1 + 3" in attribute(tool, "gen_ai.tool.call.arguments")


@on_sqlite
def test_a_session_without_a_trace_has_one_of_its_own_and_a_failure_names_its_code(
    make_stage: Callable[..., Stage], spans: Spans
) -> None:
    stage = make_stage()

    with working(stage.settings, saying("part", TurnFailed("model_error", "no"))) as worker:
        stage.ask(worker, "one")
        stage.ask(worker, "two")

    traces = {each.context.trace_id for each in spans.named("invoke_agent")}
    assert len(traces) == 2
    assert {attribute(each, "error.type") for each in spans.named("invoke_agent")} == {"model_error"}


@on_sqlite
@pytest.mark.parametrize("given", ["", "00-0-0-01", f"00-{'0' * 32}-{POST}-01", f"00-{TRACE}-{POST}-01\nx", "x" * 500])
def test_a_header_that_is_no_trace_is_left_out(make_stage: Callable[..., Stage], given: str) -> None:
    stage = make_stage()
    headers = {"traceparent": given.replace("\n", " ")}

    started = stage.call("POST", "/api/chat/session", 202, json={"message": "hi"}, headers=headers)

    with working(stage.settings, Echo()) as worker:
        worker.run(started["sessionId"])
    assert stage.session(started["sessionId"])["status"] == "done"


def test_while_traces_are_off_their_packages_are_not_imported() -> None:
    code = """
import sys
from app.observability import tracing
from app.settings import Settings
tracing.start(Settings())
with tracing.step("a step") as step:
    step.set(gen_ai__tool__name="x")
assert not [each for each in sys.modules if each.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_what_says_neither_on_nor_off_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(Invalid, match="TRACES must be"):
        tracing.start(Settings(traces="perhaps"))
    with pytest.raises(Invalid, match="pip install"):
        tracing.start(Settings(traces="on"))
