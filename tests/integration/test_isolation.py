"""One session hurts nobody but itself: those beside it end as if it were not there."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from app.conversations import messages
from app.events import Delta, Done, Thinking, ToolCall, Usage
from app.settings import Settings
from tests.factories import OWNER, assert_sound, events_of, eventually, make_session, row, shown
from tests.integration.test_runs import play, settings, working  # noqa: F401 - the fixture
from tests.unit.test_plain import CYCLE, SELF, Disguised, endless, trapped
from worker.orchestrator import Asked, Checkpoint, Turn, TurnFailed
from worker.process.run import Run

MIB = 1024 * 1024


class Unspeakable(Exception):
    """Can't be said."""

    def __str__(self) -> str:
        raise ValueError("unspeakable")


class Panic(BaseException):
    """No Exception."""


class Lying(str):
    """Says that it has no length."""

    def __len__(self) -> int:
        return 0


class LyingList(list[Any]):
    """Says that it is without an end."""

    def __len__(self) -> int:
        return 2**62


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = {"in": value}
    return value


def calling(args: Any) -> Callable[[], list[Any]]:
    return lambda: ["text", ToolCall("c", "tool", args() if callable(args) else args), Done()]


#: What one session yields; each ends as `done` with the answer `text`.
KEEPS_ITS_ANSWER: dict[str, Callable[[], list[Any]]] = {
    "arguments that can't be said": calling(lambda: trapped(object)),
    "arguments within arguments that can't be said": calling(lambda: {"a": [trapped(object)]}),
    "arguments without an end": calling(count),
    "arguments of an endless generator": calling(endless),
    "arguments that contain themselves": calling(lambda: SELF),
    "a dictionary that contains itself": calling(lambda: CYCLE),
    "deep arguments": calling(lambda: deep(5_000)),
    "arguments that are a set": calling(lambda: {1, 2}),
    "arguments with keys of their own": calling(lambda: {(1, 2): 3}),
    "arguments of subclasses": calling(lambda: trapped(dict, {"a": trapped(str, "b")})),
    "arguments with a number of thousands of digits": calling(lambda: [10**5000]),
    "names that are numbers": lambda: ["text", ToolCall(7, 8), Done()],  # type: ignore[arg-type]
    "names that are nothing": lambda: ["text", ToolCall(None, object()), Done()],  # type: ignore[arg-type]
    "names that are trapped": lambda: ["text", ToolCall(trapped(str, "c"), Disguised()), Done()],  # type: ignore[arg-type]
    "a result that is no text": lambda: ["text", ToolCall("c", "t", {}, [trapped(object)], 1, "x"), Done()],  # type: ignore[arg-type]
    "a duration of years": lambda: ["text", ToolCall("c", "t", {}, "r", True, 10**20), Done()],
    "text of a subclass": lambda: [trapped(str, "te"), Delta(trapped(str, "xt")), Thinking(trapped(str, "hm"))],
    "a whole answer of a subclass": lambda: [Done(trapped(str, "text"))],
    "usage without measure": lambda: ["text", Done(usage=Usage(10**20, 10**20, 10**20, 10**20))],
    "usage below zero": lambda: ["text", Done(usage=Usage(-5, -(10**20)))],
    "usage that is no number": lambda: ["text", Done(usage=Usage("many", None, 1.5, float("nan")))],  # type: ignore[arg-type]
    "usage that is none": lambda: ["text", Done(usage={"input_tokens": 1})],  # type: ignore[arg-type]
    "a count of a request that is no number": lambda: [Usage("many", None, 1.5, float("nan")), "text"],  # type: ignore[arg-type]
    "a count of a request without measure": lambda: ["text", *[Usage(10**20, 10**20)] * 3],
    "a request of a model that is none": lambda: [Asked(trapped(object), trapped(object)), "text"],
    "a model that is a number": lambda: ["text", Done(model=5)],  # type: ignore[arg-type]
    "a model that is trapped": lambda: ["text", Done(model=trapped(object))],
    "a model of a long name": lambda: ["text", Done(model="m" * 100_000)],
    "a reason that is none": lambda: ["text", Done(finish_reason=trapped(object))],
    "text that lies about its length": lambda: [Lying("te"), Delta(Lying("xt"))],
    "arguments that lie about their length": calling(lambda: {"a": Lying("x" * 1000), "b": LyingList([1, 2])}),
    "names that lie about their length": lambda: ["text", ToolCall(Lying("c" * 10_000), Lying("t")), Done()],
    "thoughts that lie about their length": lambda: [Thinking(Lying("hm" * 10_000)), "text"],
    "many pieces": lambda: ["text", *[""] * 5_000],
    "a reason that is long": lambda: ["text", Done(finish_reason="stop" * 10_000)],
}
#: What one session yields or raises, and the code that it ends with; what it had said before stays.
ENDS_WITH_A_CODE: dict[str, tuple[Callable[[], list[Any]], str]] = {
    "answer that is no text": (lambda: ["text", Done(5)], "orchestrator_error"),  # type: ignore[arg-type]
    "answer in disguise": (lambda: ["text", Disguised()], "orchestrator_error"),
    "what can't be shown": (lambda: ["text", trapped(object)], "orchestrator_error"),
    "state that can't be said": (lambda: ["text", Checkpoint(trapped(object))], "orchestrator_error"),
    "state without an end": (lambda: ["text", Checkpoint({"a": count()})], "orchestrator_error"),
    "state that is large": (lambda: ["text", Checkpoint({"a": "x" * 2 * MIB})], "checkpoint_too_large"),
    "state that grows": (lambda: ["text", *(Checkpoint([n] * n * 99_999) for n in range(9))], "checkpoint_too_large"),
    "state that contains itself": (lambda: ["text", Checkpoint(CYCLE)], "orchestrator_error"),
    "exception that can't be said": (lambda: ["text", Unspeakable()], "orchestrator_error"),
    "failure without words": (lambda: ["text", TurnFailed(7, object())], "orchestrator_error"),  # type: ignore[arg-type]
    "failure of many words": (lambda: ["text", TurnFailed("c" * 1000, "d" * 10 * MIB)], "c" * 64),
    "interrupt": (lambda: ["text", KeyboardInterrupt()], "orchestrator_error"),
    "exit": (lambda: ["text", SystemExit(3)], "orchestrator_error"),
    "end of a generator": (lambda: ["text", GeneratorExit()], "orchestrator_error"),
    "end of an iteration": (lambda: ["text", StopAsyncIteration()], "orchestrator_error"),
    "cancellation": (lambda: ["text", asyncio.CancelledError()], "orchestrator_error"),
    "panic": (lambda: ["text", Panic()], "orchestrator_error"),
    "group": (lambda: ["text", BaseExceptionGroup("g", [KeyboardInterrupt()])], "orchestrator_error"),
    "large arguments": (calling(lambda: {"a": "x" * 2 * MIB}), "tool_arguments_too_large"),
    "arguments of many pieces": (calling(lambda: list(range(400_000))), "tool_arguments_too_large"),
    "thoughts": (lambda: ["text", *(Thinking("x" * (MIB // 4)) for _ in range(6))], "thinking_too_long"),
    "one thought": (lambda: ["text", Thinking("x" * 100 * MIB)], "thinking_too_long"),
    "large answer": (lambda: ["text", "x" * 100 * MIB], "answer_too_large"),
    "results": (
        lambda: ["text", *(ToolCall("c", "t", {}, "x" * (MIB // 2), True) for _ in range(5))],
        "tool_results_too_large",
    ),
    "calls": (lambda: ["text", *(ToolCall(f"c{n}", "t", {}) for n in range(1000))], "too_many_tool_calls"),
    "events": (
        lambda: ["text", *(step for n in range(40) for step in (Thinking("hm"), Checkpoint(n)))],
        "too_many_events",
    ),
}  # fmt: skip


class Afterwards:
    """Closes in ways of its own once it has answered."""

    async def raises(self) -> AsyncIterator[Any]:
        try:
            yield Done("text")
        finally:
            raise KeyboardInterrupt

    async def yields(self) -> AsyncIterator[Any]:
        try:
            yield Done("text")
        finally:
            yield "more"

    async def waits(self) -> AsyncIterator[Any]:
        try:
            yield Done("text")
        finally:
            await asyncio.Event().wait()


@pytest.fixture
def bounded(settings: Settings) -> Settings:  # noqa: F811
    return replace(
        settings,
        max_checkpoint_bytes=MIB,
        max_thinking_bytes=MIB,
        max_arguments_bytes=MIB,
        max_tool_bytes=2 * MIB,
        max_turn_events=20,
    )


def test_what_sessions_hand_over_or_raise_hurts_none_of_those_beside_them(
    bounded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.process.run.CLOSE_S", 0.2)
    culprits_are_done = asyncio.Event()
    kept = {name: make_session(message=name) for name in KEEPS_ITS_ANSWER}
    ended = {name: make_session(message=name) for name in ENDS_WITH_A_CODE}
    afterwards = {name: make_session(message=name) for name in ("raises", "yields", "waits")}
    innocent = [make_session(message="innocent") for _ in range(3)]
    scripts = KEEPS_ITS_ANSWER | {name: script for name, (script, _) in ENDS_WITH_A_CODE.items()}

    async def play_script(turn: Turn) -> AsyncIterator[Any]:
        for step in scripts[turn.message]():
            if issubclass(type(step), BaseException):
                raise step
            yield step

    async def be_innocent(turn: Turn) -> AsyncIterator[Any]:
        yield "before, "
        await culprits_are_done.wait()
        yield "after"

    def answer(turn: Turn) -> AsyncIterator[Any]:
        if turn.message in afterwards:
            return getattr(Afterwards(), turn.message)()  # type: ignore[no-any-return]
        return (play_script if turn.message in scripts else be_innocent)(turn)

    async def run() -> None:
        async with working(bounded, answer) as runtime:
            beside = asyncio.gather(*(runtime.run(each) for each in innocent))
            await asyncio.gather(
                *(runtime.run(each) for each in [*kept.values(), *ended.values(), *afterwards.values()])
            )
            culprits_are_done.set()
            await beside

    play(run())

    for name, session_id in (kept | afterwards).items():
        session = shown(session_id)
        assert (name, session["status"], session["finalResponse"]) == (name, "done", "text")
    for name, session_id in ended.items():
        session, code = shown(session_id), ENDS_WITH_A_CODE[name][1]
        assert (name, session["errorCode"], session["finalResponse"]) == (name, code, "text")
    for session_id in innocent:
        assert (shown(session_id)["finalResponse"], row(session_id).attempt) == ("before, after", 1)
    for session_id in [*kept.values(), *ended.values(), *afterwards.values(), *innocent]:
        assert_sound(session_id)
    assert [e["toolArgs"] for e in events_of(kept["arguments of subclasses"]) if e["eventType"] == "tool_call"] == [
        {"a": "b"}
    ]
    counted = messages.of_session(OWNER, kept["usage without measure"]).rows[-1]["metadata"]["tokenUsage"]
    assert set(counted.values()) == {2**31 - 1}


def test_nothing_of_a_session_that_has_ended_is_kept(
    settings: Settings,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.process.event_writer.WATCH_S", 0.01)
    made = [make_session() for _ in range(3)]

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        yield "text"
        yield Checkpoint(1)
        # Meanwhile the writer has looked whether it still runs.
        await asyncio.sleep(0.1)
        raise TurnFailed("failed", "It failed.")

    def nothing_is_kept() -> bool:
        gc.collect()
        runs = [each for each in gc.get_objects() if type(each) is Run]
        return not any(each.claim.session_id in made for each in runs)

    async def run() -> None:
        async with working(settings, answer) as runtime:
            await asyncio.gather(*(runtime.run(each) for each in made))
            await eventually(nothing_is_kept, "the last of a session is gone")

    play(run())


def cancel_everything() -> None:
    for task in asyncio.all_tasks():
        if task.get_name() != "test":
            task.cancel()


def cancel_the_writer() -> None:
    for task in asyncio.all_tasks():
        if task.get_name() == "flush":
            task.cancel()


@pytest.mark.parametrize("harm", [cancel_everything, cancel_the_writer])
def test_a_worker_whose_writer_was_ended_hands_its_sessions_back_and_says_why(
    settings: Settings,  # noqa: F811
    harm: Callable[[], None],
) -> None:
    culprit, innocent = make_session(message="culprit"), make_session(message="innocent")
    told: list[Exception] = []

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        yield "half"
        yield Checkpoint(1)
        if turn.message == "culprit":
            while row(innocent).checkpoint is None:
                await asyncio.sleep(0.01)
            harm()
        await asyncio.Event().wait()

    async def run() -> None:
        asyncio.current_task().set_name("test")  # type: ignore[union-attr]
        async with working(settings, answer) as runtime:
            runtime.when_broken(told.append)
            runs = [asyncio.create_task(runtime.run(each)) for each in (culprit, innocent)]
            await asyncio.wait(runs)
            assert not any(run.exception() for run in runs if not run.cancelled())
            await runtime.run(make_session())

    play(run())

    assert [str(error).partition(" ")[2] for error in told] == ["was cancelled"]
    for session_id in (culprit, innocent):
        assert (row(session_id).status, row(session_id).handbacks, row(session_id).checkpoint) == ("running", 1, "1")
