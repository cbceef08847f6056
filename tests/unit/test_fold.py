"""The fold of events into parts and moves: the vectors that the browser passes as well, and its laws."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events.fold import Fold, Move, Part, fold
from tests.servers import ROOT

VECTORS = json.loads((ROOT / "tests" / "fold_vectors.json").read_text("utf-8"))["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_vectors_fold_into_their_parts(vector: dict[str, Any]) -> None:
    folded = fold(vector["events"])

    assert [part.to_json() for part in folded.parts] == vector["parts"]
    assert folded.end == vector["end"]


def _tool(call_id: str | None, success: bool | None) -> dict[str, Any]:
    return {
        "eventType": "tool_call", "toolCallId": call_id, "toolName": "add", "toolArgs": {}, "toolSuccess": success,
        "toolResult": None if success is None else "2", "durationMs": None if success is None else 1,
    }  # fmt: skip


_bodies = st.one_of(
    st.builds(
        lambda kind, content: {"eventType": kind, "content": content},
        st.sampled_from(["delta", "thinking"]),
        st.sampled_from(["", "a", "bc"]),
    ),
    st.builds(_tool, st.sampled_from(["x", "y", None]), st.sampled_from([None, True, False])),
)


@st.composite
def logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The events of a session, some of which supersede earlier ones."""
    bodies = draw(st.lists(_bodies, max_size=14))
    events = [dict(body, seq=seq) for seq, body in enumerate(bodies, start=1)]
    for event in events:
        if draw(st.integers(0, 5)) == 0:
            event["supersedesFrom"] = draw(st.integers(1, event["seq"]))
    if draw(st.booleans()):
        end: dict[str, Any] = {"eventType": draw(st.sampled_from(["done", "error"])), "seq": len(events) + 1}
        events.append(end | {"content": draw(st.sampled_from(["", "a", fold(events).text]))})
    return events


def _surviving(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for event in events:
        if event.get("supersedesFrom") is not None:
            kept = [each for each in kept if each["seq"] < event["supersedesFrom"]]
        kept.append({name: value for name, value in event.items() if name != "supersedesFrom"})
    return kept


def _without_numbers(folded: Fold) -> list[dict[str, Any]]:
    return [{name: value for name, value in part.to_json().items() if name != "n"} for part in folded.parts]


@given(logs())
def test_superseded_events_are_as_if_they_had_never_been(events: list[dict[str, Any]]) -> None:
    assert _without_numbers(fold(events)) == _without_numbers(fold(_surviving(events)))


@given(logs())
def test_whoever_follows_the_moves_has_the_parts_at_every_event(events: list[dict[str, Any]]) -> None:
    folded = Fold()
    shown: dict[int, str] = {}

    for event in events:
        for move in folded.add(event):
            _follow(shown, move, folded)

        assert shown == {part.n: part.text if part.kind != "tool" else _state(part.result) for part in folded.parts}


def _follow(shown: dict[int, str], move: Move, folded: Fold) -> None:
    part = move.part
    if move.kind == "reset":
        for lost in move.lost:
            del shown[lost.n]
        # Older parts may have lost pieces or a result: they are read anew.
        kept = [each for each in folded.parts if each.n in shown]
        shown.update({each.n: each.text if each.kind != "tool" else _state(each.result) for each in kept})
    elif part is not None and move.kind == "open":
        assert part.n not in shown
        shown[part.n] = ""
    elif part is not None and move.kind == "piece":
        shown[part.n] = shown[part.n] + move.text if part.n in shown else move.text
        # A reset and the piece after it may come from one event; the part was read anew with the piece in it.
        shown[part.n] = part.text
    elif part is not None and move.kind == "tool":
        shown[part.n] = _state(None)
    elif part is not None and move.kind == "tool_end":
        shown[part.n] = _state(part.result)


def _state(result: Any) -> str:
    return "open" if result is None else str(result["toolSuccess"])


@given(logs())
def test_numbers_are_given_in_order_and_never_again(events: list[dict[str, Any]]) -> None:
    folded = Fold()

    begun = [
        move.part.n for event in events for move in folded.add(event) if move.kind in ("open", "tool") and move.part
    ]

    assert begun == list(range(len(begun)))


@given(logs())
def test_one_part_is_open_at_most_and_after_a_reset_it_is_the_last_that_remains(events: list[dict[str, Any]]) -> None:
    folded = Fold()
    begun: list[Part] = []
    is_open = False

    for event in events:
        for move in folded.add(event):
            if move.kind == "reset":
                begun = [part for part in begun if part not in move.lost]
                is_open = bool(begun) and begun[-1].kind != "tool"
            elif move.kind in ("open", "tool") and move.part is not None:
                assert not is_open
                begun.append(move.part)
                is_open = move.kind == "open"
            elif move.kind in ("piece", "close"):
                assert is_open
                assert move.part is begun[-1]
                is_open = move.kind == "piece"

    assert not (is_open and folded.ended_by is not None)
