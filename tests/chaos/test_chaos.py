"""The short form of `make chaos`, and proof that its verdict sees what is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.plan import LONG, SHORT, Round, Script, make_plan
from tests.chaos.run import run
from tests.chaos.verdict import Observed, Stored, Transcript, judge

SCRIPT = Script((Round(1, 0.1, (("once", 0.0),)), Round(1, 0.1)))
ANSWER = "r0p0 \n\nHeard: once call-0-0 ran. r1p0 "


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nothing_is_lost_doubled_or_stuck_while_everything_is_killed_at_random(
    tmp_path: Path, mariadb_template: Path
) -> None:
    report = run(1, SHORT, tmp_path, template=mariadb_template)

    assert report.passed, str(report)


def test_a_plan_follows_from_its_seed() -> None:
    def plan(seed: int) -> object:
        return make_plan(seed, LONG, webs=2, workers=3, lease_s=4)

    assert plan(7) == plan(7)
    assert plan(7) != plan(8)
    assert len(make_plan(7, LONG, webs=2, workers=3, lease_s=4).posts) == 200


def event(seq: int, kind: str, **fields: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("content", "toolCallId", "toolResult", "toolSuccess", "supersedesFrom", "errorMsg"))
    return {"id": seq, "sessionId": "s", "seq": seq, "eventType": kind, "attempt": 1, **empty} | fields


def sound() -> tuple[Observed, Stored]:
    """A session whose first attempt died after its tool call."""
    call = {"toolCallId": "call-0-0"}
    events = [
        event(1, "thinking"),
        event(2, "delta", content="r0p0 "),
        event(3, "tool_call", **call),
        event(4, "tool_call", **call, toolResult="once call-0-0 ran", toolSuccess=1),
        event(5, "delta", content="\n\nHea"),
        event(6, "thinking", attempt=2, supersedesFrom=5),
        event(7, "delta", attempt=2, content="\n\nHeard: once call-0-0 ran. r1p0 "),
        event(8, "done", attempt=2, content=ANSWER),
    ]
    row = {"id": 1, "sessionId": "s", "status": "done", "errorCode": None, "errorMessage": None, "lastSeq": 8}
    row |= {"finalResponse": ANSWER, "userMessage": "Go.", "attempt": 2, "handbacks": 0, "conversationId": "c"}
    row |= {"leaseUntilMs": None, "checkpoint": None, "startedAt": "now", "endedAt": "now"}
    said = [
        {"sessionId": "s", "role": "user", "content": "Go."},
        {"sessionId": "s", "role": "assistant", "content": ANSWER},
    ]
    calls = [{"sessionId": "s", "toolCallId": "call-0-0", "tool": "once", "attempt": 1}]
    told = ["prompt_sent", "activity_changed", "tool_use", "output", "result", "activity_changed"]
    history = [
        {"sessionId": "s", "conversationId": "c", "seq": seq, "eventType": kind} for seq, kind in enumerate(told, 1)
    ]
    counts = {kind: told.count(kind) for kind in told}
    observed = Observed(scripts={"key": SCRIPT}, transcripts=[Transcript("p", "s", copy.deepcopy(events), "done")])
    observed.accepted["key"].add("s")
    return observed, Stored([row], events, said, history, counts, calls)


def test_the_verdict_finds_nothing_wrong_with_a_sound_run() -> None:
    observed, stored = sound()

    assert not any(judge(observed, stored, 3).values())


def _lose_an_event(observed: Observed, stored: Stored) -> None:
    del stored.events[4]


def _double_a_seq(observed: Observed, stored: Stored) -> None:
    stored.events[4]["seq"] = 4


def _write_after_a_takeover(observed: Observed, stored: Stored) -> None:
    stored.events[6]["attempt"] = 1


def _end_twice(observed: Observed, stored: Stored) -> None:
    stored.events[6] = event(7, "done", attempt=2, content=ANSWER)


def _leave_it_running(observed: Observed, stored: Stored) -> None:
    stored.sessions[0]["status"] = "running"


def _show_a_poller_less(observed: Observed, stored: Stored) -> None:
    del observed.transcripts[0].events[3]


def _double_a_word(observed: Observed, stored: Stored) -> None:
    for place in (stored.events[7], stored.messages[1]):
        place["content"] = ANSWER + "r1p0 "
    stored.events[6]["content"] += "r1p0 "
    stored.sessions[0]["finalResponse"] = ANSWER + "r1p0 "


def _answer_otherwise(observed: Observed, stored: Stored) -> None:
    stored.messages[1]["content"] = "Something else."


def _run_a_recorded_call_again(observed: Observed, stored: Stored) -> None:
    stored.calls.append(stored.calls[0] | {"attempt": 2, "tool": "again"})


def _run_what_is_not_repeatable_twice(observed: Observed, stored: Stored) -> None:
    stored.calls.append(dict(stored.calls[0]))


def _revive_a_cancelled_one(observed: Observed, stored: Stored) -> None:
    observed.cancelled["s"] = 6


def _make_two_of_one_key(observed: Observed, stored: Stored) -> None:
    observed.accepted["key"].add("t")


def _try_too_often(observed: Observed, stored: Stored) -> None:
    stored.sessions[0]["attempt"] = 4


def _tell_an_end_twice(observed: Observed, stored: Stored) -> None:
    stored.history.append(stored.history[4] | {"seq": 7})
    stored.counts["result"] = 2


def _count_wrong(observed: Observed, stored: Stored) -> None:
    stored.counts["output"] = 2


@pytest.mark.parametrize(
    "harm",
    [
        _lose_an_event,
        _double_a_seq,
        _write_after_a_takeover,
        _end_twice,
        _leave_it_running,
        _show_a_poller_less,
        _double_a_word,
        _answer_otherwise,
        _run_a_recorded_call_again,
        _run_what_is_not_repeatable_twice,
        _revive_a_cancelled_one,
        _make_two_of_one_key,
        _try_too_often,
        _tell_an_end_twice,
        _count_wrong,
    ],
)
def test_the_verdict_sees_each_kind_of_harm(harm: Callable[[Observed, Stored], None]) -> None:
    observed, stored = sound()

    harm(observed, stored)

    assert any(judge(observed, stored, 3).values())
