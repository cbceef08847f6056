"""Built-in tools, and tools by name."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic_ai import ModelRetry

from app.agents import DEFAULT_TOOLS
from app.errors import Invalid
from worker.tools import BUILT_IN, calculate, current_time, load_tool


def test_the_default_tools_exist_and_may_run_again() -> None:
    assert set(DEFAULT_TOOLS) == set(BUILT_IN)
    for name in DEFAULT_TOOLS:
        assert load_tool(name).metadata == {"repeatable": True}


def test_the_time_is_told_in_the_zone_that_was_asked_for() -> None:
    told = asyncio.run(current_time("Asia/Tokyo"))

    day, rest = told.split(", ")
    moment = datetime.strptime(rest.split(" JST")[0], "%Y-%m-%d %H:%M:%S")
    assert day == moment.strftime("%A")
    assert told.endswith("JST (UTC+0900)")
    passed = (datetime.now(UTC).replace(tzinfo=None) - moment).total_seconds() + 9 * 3600
    assert 0 <= passed < 60


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", "a\0b", "Europe"])
def test_a_zone_that_does_not_exist_is_told(zone: str) -> None:
    with pytest.raises(ModelRetry, match="time zone"):
        asyncio.run(current_time(zone))


def test_what_has_no_value_is_told() -> None:
    assert asyncio.run(calculate("6*7")) == "42"
    with pytest.raises(ModelRetry, match="Division by zero"):
        asyncio.run(calculate("1/0"))


def test_a_function_is_loaded_by_its_dotted_name() -> None:
    tool = load_tool("tests.sample_tools:large")

    assert (tool.name, tool.metadata) == ("large", {"repeatable": False})
    assert load_tool("tests.sample_tools:counted_repeatable").metadata == {"repeatable": True}


@pytest.mark.parametrize(
    "name", ["nothing", "no_such_module:f", "tests.sample_tools:missing", "tests.sample_tools:release", ":", "a:", ":b"]
)
def test_a_name_that_leads_to_no_function_is_invalid_and_named(name: str) -> None:
    with pytest.raises(Invalid) as raised:
        load_tool(name)

    assert repr(name) in raised.value.detail


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def tool(:", "SyntaxError: "),
        ("nothing", "NameError: name 'nothing' is not defined"),
        ("import nothing_there", "No module named 'nothing_there'"),
        ("[].tool", "AttributeError: 'list' object has no attribute 'tool'"),
    ],
)
def test_a_module_that_can_not_be_imported_is_invalid_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    (tmp_path / "broken_tools.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(Invalid) as raised:
        load_tool("broken_tools:tool")

    assert f"'broken_tools:tool' can't be imported: {reason}" in raised.value.detail
