"""One idea has one name: those that were given up do not come back."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.unit.test_import_rules import SOURCES

#: Name that was given up → the name of the idea.
GIVEN_UP = {
    "News": "Hub",
    "Waiter": "Subscriber",
    "Standing": "Head",
    "_Standing": "Head",
    "Standings": "Head",
    "standings": "heads",
    "newest": "heads",
    "Runtime": "WorkerProcess",
    "runtime": "process",
    "Bookkeeper": "Registries",
    "bookkeeper": "registries",
    "books": "registries",
    "clearing": "removal",
    "collector": "gc",
    "moments": "times",
    "_tell_starts": "_record_starts",
    "told": "summary",
    "did": "steps",
    "TOLD_CALLS_CHARACTERS": "SUMMARY_CALL_CHARACTERS",
    "LAST_WORDS_S": "CANCEL_GRACE_S",
    "_turn": "_slots; a turn is a chat turn",
    "boarding": "pending",
    "_boarding": "pending",
    "landed": "done",
}


def names(source: str) -> Iterator[str]:
    """Every identifier in *source*: bound, used, imported, passed by keyword; modules by each part of their path."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name
            case ast.alias():
                yield from node.name.split(".")
                if node.asname:
                    yield node.asname
            case ast.ImportFrom(module=str(module)):
                yield from module.split(".")


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_a_module_uses_no_name_that_was_given_up(module: str) -> None:
    used = set(names(SOURCES[module])) | set(module.split("."))

    assert {name: GIVEN_UP[name] for name in used & GIVEN_UP.keys()} == {}


@pytest.mark.parametrize(
    "line", ["class News: ...", "from app import clearing", "x.newest()", "f(told=1)", "def _turn(): ...", "did = 1"]
)
def test_a_name_that_comes_back_is_seen(line: str) -> None:
    assert set(names(line)) & GIVEN_UP.keys() != set()
