"""Events of OpenAI's responses: numbered without a gap, the same at each replay, and true at the end."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given

from app.api.compat.response_events import ResponseEvents
from app.events.fold import fold
from tests.unit.test_fold import logs

BASE = {"id": "resp_00", "status": "queued", "output": []}


def said(events: list[dict[str, Any]], above: int | None = None, at_once: int = 1) -> list[dict[str, Any]]:
    """The events that a client gets, page by page."""
    render = ResponseEvents(BASE, above=above)
    bodies = b""
    for start in range(0, len(events), at_once):
        render.take(events[start : start + at_once])
        bodies += b"".join(render._out)
        render._out = []
    frames = [frame.split("\ndata: ") for frame in bodies.decode().split("\n\n") if frame]
    found = [json.loads(data) for _, data in frames]
    assert [kind.removeprefix("event: ") for kind, _ in frames] == [each["type"] for each in found]
    return found


def complete(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """*log* with the fields that terminal events have."""
    end = {"model": "m", "usageJson": None, "durationMs": 1, "finishReason": None, "errorMsg": "no", "errorCode": "bad"}
    return [event | end if event["eventType"] in ("done", "error") else event for event in log]


@given(logs())
def test_numbers_have_no_gap_and_a_later_start_gives_the_rest(log: list[dict[str, Any]]) -> None:
    log = complete(log)
    whole = said(log)

    assert [each["sequence_number"] for each in whole] == list(range(len(whole)))
    assert said(log, at_once=3) == whole
    for above in range(len(whole)):
        assert said(log, above=above) == whole[above + 1 :]


@given(logs())
def test_the_object_at_the_end_has_what_survived_and_every_item_of_it_was_said(log: list[dict[str, Any]]) -> None:
    log = complete(log)
    folded, whole = fold(log), said(log)
    if folded.end is None:
        return

    ended = whole[-1]["response"]
    done = {each["item"]["id"]: each["item"] for each in whole if each["type"] == "response.output_item.done"}

    assert len(ended["output"]) == len(folded.parts)
    for item, part in zip(ended["output"], folded.parts, strict=True):
        assert item["type"] == {"text": "message", "reasoning": "reasoning", "tool": "mcp_call"}[part.kind]
        assert item == done[item["id"]]
        deltas = "".join(each["delta"] for each in whole if each.get("item_id") == item["id"] and "delta" in each)
        if part.kind != "tool":
            assert deltas == part.text


@given(logs())
def test_every_item_that_was_added_is_done_once(log: list[dict[str, Any]]) -> None:
    whole = said(complete(log))
    added = [each["item"]["id"] for each in whole if each["type"] == "response.output_item.added"]
    done = [each["item"]["id"] for each in whole if each["type"] == "response.output_item.done"]

    assert len(set(added)) == len(added)
    assert len(set(done)) == len(done)
    if whole and whole[-1]["type"] in ("response.completed", "response.failed"):
        assert set(done) == set(added)
