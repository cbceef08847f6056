"""Fragments of tool calls become the calls that their model meant, whatever its server does with indices and names."""

from __future__ import annotations

from typing import Any

import pytest

from worker.engine.tool_fragments import ToolFragments


def f(index: Any = None, call_id: Any = None, name: Any = None, arguments: Any = None) -> dict[str, Any]:
    fragment: dict[str, Any] = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in fragment.items() if value is not None}


def joined(fragments: list[dict[str, Any]]) -> list[tuple[str | None, str, str]]:
    """What a client makes of the fragments, each in a chunk of its own: ids, names and arguments, joined by index."""
    mending = ToolFragments()
    calls: dict[int, list[Any]] = {}
    for sent in fragments:
        for fragment in mending.mend([sent])[0]:
            call = calls.setdefault(fragment["index"], [None, "", ""])
            function = fragment.get("function") or {}
            call[0] = fragment.get("id") or call[0]
            call[1] += function.get("name") or ""
            call[2] += function.get("arguments") or ""
    return [(call[0], call[1], call[2]) for _, call in sorted(calls.items())]


X, Y = '{"x": 1}', '{"y": 2}'


@pytest.mark.parametrize(
    "fragments",
    [
        [f(0, "a", "one", '{"x"'), f(0, None, None, ": 1}")],
        [f(0, "a", "one", '{"x"'), f(0, None, "one", ": 1}")],
        [f(0, "a", "one", '{"x"'), f(0, "a", "one", ": 1}")],
        [f(0, "a", "one", ""), f(0, None, "one", X)],
        [f(0, "a", "on", ""), f(0, None, "e", ""), f(0, None, None, X)],
        [f(0, "a", "on", ""), f(0, None, "one", ""), f(0, None, None, X)],
        [f(0, "a", "one", None), f(0, "", "", X)],
        [f(None, "a", "one", ""), f(None, None, None, '{"x"'), f(None, None, None, ": 1}")],
        [f(0, "a", "one", ""), f(1, None, None, '{"x"'), f(2, None, None, ": 1}")],
        [f("0", "a", "one", '{"x"'), f("0", None, None, ": 1}")],
        [f(0, "a", "one", {"x": 1})],
        [f(0, "a", "one<|channel|>commentary", X)],
        [f(0, "a", "one", '{"x"'), f(0, None, None, ": 1}"), f(0, "a", "one", X)],
        [f(0, "a", "one", '{"x"'), f(0, "b", "one", ": 1}")],
    ],
)
def test_one_call_is_one(fragments: list[dict[str, Any]]) -> None:
    assert joined(fragments) == [("a", "one", X)]


@pytest.mark.parametrize(
    "fragments",
    [
        [f(0, "a", "one", X), f(1, "b", "two", Y)],
        [f(0, "a", "one", X), f(0, "b", "two", Y)],
        [f(None, "a", "one", X), f(None, "b", "two", Y)],
        [f(0, "a", "one", '{"x"'), f(0, None, None, ": 1}"), f(0, "b", "two", '{"y"'), f(0, None, None, ": 2}")],
        [f(0, "a", "one", '{"x"'), f(1, "b", "two", '{"y"'), f(0, None, None, ": 1}"), f(1, None, None, ": 2}")],
        [f(0, "a", "one", X), f(0, "b", "two", ""), f(0, None, None, Y)],
        [f(1, "a", "one", X), f(1, "b", "two", Y)],
    ],
)
def test_two_calls_are_two(fragments: list[dict[str, Any]]) -> None:
    assert joined(fragments) == [("a", "one", X), ("b", "two", Y)]


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        ([f(0, None, "one", X), f(0, None, "one", Y)], [(None, "one", X), (None, "one", Y)]),
        ([f(None, None, "one", X), f(None, None, "two", Y)], [(None, "one", X), (None, "two", Y)]),
        ([f(0, None, "a", X), f(0, None, "a", '{"y"'), f(0, None, "a", ": 2}")], [(None, "a", X), (None, "a", Y)]),
        ([f(0, None, "one", X), f(0, None, None, Y)], [(None, "one", X), (None, "one", Y)]),
        ([f(0, "", "one", X), f(0, "", "two", Y)], [(None, "one", X), (None, "two", Y)]),
        ([f(0, "c", "one", X), f(1, "c", "two", Y)], [("c", "one", X), ("c", "two", Y)]),
        ([f(0, 7, "one", X)], [("7", "one", X)]),
    ],
)  # fmt: skip
def test_calls_without_ids_of_their_own_are_told_apart_by_their_whole_arguments(
    fragments: list[dict[str, Any]], calls: list[tuple[str | None, str, str]]
) -> None:
    assert joined(fragments) == calls


def test_two_calls_in_one_chunk_with_one_index_are_two() -> None:
    mended, changed = ToolFragments().mend([f(0, "a", "one", X), f(0, "b", "two", Y)])

    assert [(each["index"], each["id"]) for each in mended] == [(0, "a"), (1, "b")]
    assert changed


def test_what_is_right_is_left_as_it_is_with_all_that_belongs_to_it() -> None:
    signed = f(0, "a", "one", X) | {"type": "function", "extra_content": {"google": {"thought_signature": "c2ln"}}}

    assert ToolFragments().mend([signed]) == ([signed], False)


@pytest.mark.parametrize("fragment", [None, 7, {"index": 0, "function": "x"}, f(3, None, None, X)])
def test_what_belongs_to_no_call_is_left_as_it_is(fragment: Any) -> None:
    assert ToolFragments().mend([fragment]) == ([fragment], False)
