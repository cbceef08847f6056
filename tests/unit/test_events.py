"""Text is joined and cut without changing it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events import Delta, Done, Error, Event, Thinking, ToolCall, Usage, coalesce, split_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ANY_TEXT = st.one_of(TEXT, st.text(st.sampled_from("aж🙂\ud83d\ude42\n"), max_size=40))
LIMIT = st.integers(4, 64)
EVENT = st.one_of(
    st.builds(Delta, ANY_TEXT),
    st.builds(Thinking, ANY_TEXT),
    st.builds(Thinking, TEXT, st.integers(1, 9)),
    st.builds(ToolCall, TEXT, TEXT),
)


def size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def runs(events: list[Event]) -> list[object]:
    """Kinds in their order, with the joined text of each run."""
    out: list[list[object]] = []
    for event in events:
        if not isinstance(event, (Delta, Thinking)):
            out.append([event])
        elif out and out[-1][0] is type(event):
            out[-1][1] = str(out[-1][1]) + event.content
        else:
            out.append([type(event), event.content])
    return [run for run in out if run[-1] != ""]


@given(ANY_TEXT, LIMIT)
def test_pieces_join_to_the_text_and_none_is_too_large(text: str, limit: int) -> None:
    pieces = list(split_text(text, limit))

    assert "".join(pieces) == text
    assert all(size(piece) <= limit for piece in pieces)
    assert all(pieces) or pieces == [""]


@given(st.text(min_size=200, max_size=300))
def test_pieces_are_as_large_as_they_may_be(text: str) -> None:
    pieces = list(split_text(text, 64))

    assert all(size(piece) > 64 - 4 for piece in pieces[:-1])


@given(st.lists(EVENT, max_size=20), LIMIT)
def test_coalescing_keeps_text_and_order_and_the_size_bound(events: list[Event], limit: int) -> None:
    joined = coalesce(events, limit)

    assert runs(joined) == runs(events)
    assert all(size(e.content) <= limit for e in joined if isinstance(e, (Delta, Thinking)))


@given(st.lists(EVENT, max_size=20))
def test_coalescing_twice_changes_nothing_more(events: list[Event]) -> None:
    joined = coalesce(events, 64)

    assert coalesce(joined, 64) == joined


@given(st.lists(EVENT, max_size=20), LIMIT)
def test_what_opens_an_attempt_stays_where_it_is(events: list[Event], limit: int) -> None:
    opened = [e.supersedes_from for e in coalesce(events, limit) if isinstance(e, Thinking) and e.supersedes_from]

    assert opened == [e.supersedes_from for e in events if isinstance(e, Thinking) and e.supersedes_from]


def test_neighbours_of_one_kind_become_one_event() -> None:
    events = [Thinking("a"), Thinking("b"), Delta("c"), Delta("d"), ToolCall("1", "t"), Delta("e")]

    assert coalesce(events) == [Thinking("ab"), Delta("cd"), ToolCall("1", "t"), Delta("e")]


@pytest.mark.parametrize(
    ("event", "terminal"),
    [(Thinking(), False), (Delta("x"), False), (ToolCall("1", "t"), False), (Done(), True), (Error("c", "m"), True)],
)
def test_only_done_and_error_end_a_session(event: Event, terminal: bool) -> None:
    assert event.terminal is terminal


def test_usage_adds_up() -> None:
    assert Usage(10, 5, 3, 1).to_json() == {
        "inputTokens": 10,
        "outputTokens": 5,
        "cacheReadTokens": 3,
        "cacheWriteTokens": 1,
        "totalTokens": 15,
    }
