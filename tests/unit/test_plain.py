"""Anybody's values become plain data, or are refused, and no code of theirs runs."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable, Iterator
from enum import IntEnum
from itertools import count
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from worker.plain import MOST, NotPlain, TooLarge, number_of, text_of, to_json


def explode(*_: object) -> NoReturn:
    raise KeyboardInterrupt


BOOBY_TRAPS = dict.fromkeys(
    (
        *("__str__", "__repr__", "__eq__", "__ne__", "__hash__", "__len__", "__iter__", "__bool__", "__format__"),
        *("__getitem__", "__contains__", "__int__", "__float__", "__index__", "encode", "items", "keys", "values"),
    ),
    explode,
)


def trapped(kind: type, *value: Any) -> Any:
    """*value* as an instance of a subclass of *kind* of which everything that can be called raises."""
    return type(f"Trapped{kind.__name__}", (kind,), BOOBY_TRAPS)(*value)


class Disguised:
    """Says that it is a text."""

    @property
    def __class__(self) -> type:
        return str

    @__class__.setter
    def __class__(self, kind: type) -> None: ...


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


@example_settings(max_examples=40)
@given(json_values, st.booleans())
def test_what_is_plain_already_is_said_as_json_says_it(value: Any, ascii_only: bool) -> None:
    made = to_json(value, 1_000_000, ascii_only=ascii_only)

    assert made.text == json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))
    assert made.finite


def test_keys_are_what_json_makes_of_them() -> None:
    value = {1: "a", None: "b", False: "c", 1.5: "d"}

    assert json.loads(to_json(value, 1000).text) == json.loads(json.dumps(value))


class Level(IntEnum):
    HIGH = 3


# Made within the tests: pytest looks at parameters, which would run their code.
SUBCLASSES: dict[str, Callable[[], Any]] = {
    '"a\\"b"': lambda: trapped(str, 'a"b'),
    "7": lambda: trapped(int, 7),
    "1.5": lambda: trapped(float, 1.5),
    '{"a":1}': lambda: trapped(dict, {"a": 1}),
    "[1,2]": lambda: trapped(list, [1, 2]),
    "[3,4]": lambda: trapped(tuple, (3, 4)),
    '{"b":1}': lambda: OrderedDict(b=1),
    "3": lambda: Level.HIGH,
    '["x",{"k":1}]': lambda: [trapped(str, "x"), {"k": trapped(int, 1)}],
}


@pytest.mark.parametrize("text", SUBCLASSES)
def test_of_a_subclass_the_value_counts_and_its_own_code_never_runs(text: str) -> None:
    assert to_json(SUBCLASSES[text](), 1000).text == text


def endless() -> Iterator[int]:
    yield from count()


SELF: list[Any] = []
SELF.append(SELF)
CYCLE: dict[str, Any] = {}
CYCLE["a"] = [CYCLE]


REFUSED: dict[str, Callable[[], Any]] = {
    "object": object,
    "endless iterator": count,
    "endless generator": endless,
    "set": lambda: {1, 2},
    "bytes": lambda: b"bytes",
    "deque": lambda: deque([1]),
    "mapping": lambda: UserDict(a=1),
    "disguised": Disguised,
    "thousands of digits": lambda: 10**5000,
    "trapped set": lambda: trapped(set, ()),
    "trapped object": lambda: trapped(object),
    "key": lambda: {(1, 2): 3},
    "within": lambda: {"a": [object()]},
    "type": lambda: type,
    "function": lambda: explode,
    "list in itself": lambda: SELF,
    "dictionary in itself": lambda: CYCLE,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_json_can_say_is_refused(name: str) -> None:
    value = REFUSED[name]()

    with pytest.raises(NotPlain):
        to_json(value, 1_000_000)


@pytest.mark.parametrize(
    "value", ["x" * 1001, ["x"] * 251, {"x" * 1001: 1}, "ж" * 501, [[[["y" * 1000]]]], [0] * 501, {"k": 10**1001}]
)
def test_what_is_over_the_limit_is_refused(value: Any) -> None:
    with pytest.raises(TooLarge):
        to_json(value, 1000)


def test_a_text_that_is_far_over_the_limit_is_not_even_encoded() -> None:
    with pytest.raises(TooLarge):
        to_json(["\n" * 100_000_000], 1000)


def test_numbers_that_are_none_are_told_apart() -> None:
    assert not to_json({"a": [1, float("inf")]}, 1000).finite
    assert not to_json(float("nan"), 1000).finite
    assert to_json("NaN", 1000).finite


def test_depth_is_counted() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]

    assert to_json(deep, 1_000_000).depth == 5000
    assert to_json([[], {"a": []}], 1000).depth == 3


def test_a_count_is_clipped_to_what_a_column_holds() -> None:
    given = [5, -1, 10**20, True, 2.9, float("inf"), -1e300, trapped(int, 4)]

    assert [number_of(value) for value in given] == [5, 0, MOST, 1, 2, MOST, 0, 4]
    assert [number_of(value) for value in (float("nan"), "5", None, object(), Disguised())] == [None] * 5


def test_a_text_is_exactly_one() -> None:
    text = text_of(trapped(str, "abc"))

    assert type(text) is str
    assert text == "abc"
    assert text_of(Disguised()) is None
    assert text_of(b"abc") is None
