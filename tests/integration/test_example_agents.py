"""The agents, tools and servers of `examples/`, which docs/agents.md quotes, work as they are written there."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.agents import Agent, Agents
from tests.model_server import ModelServer
from tests.servers import ROOT
from tests.turns import Recorded, answer, make_settings


@pytest.fixture
def planner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """Agent 2 of the file, in a folder where the Python of the tests is that of the clone."""
    folder = shutil.copytree(ROOT / "examples", tmp_path / "examples")
    agents = folder / "agents.toml"
    agents.write_text(agents.read_text("utf-8").replace(".venv/bin/python", sys.executable), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield Agents.load("examples/agents.toml").get(2)
    for name in [name for name in sys.modules if name.partition(".")[0] == "examples"]:
        del sys.modules[name]


def turn_with(model_server: ModelServer, agent: Agent, tool: str, **arguments: Any) -> Recorded:
    """A turn whose model calls *tool* once, as `a`."""
    call = {"index": 0, "id": "a", "name": tool, "arguments": json.dumps(arguments)}
    model = model_server.add({"answers": [{"steps": [{"tool": call}]}, {"steps": [{"text": "So it is."}]}]})
    return answer(make_settings(model_server), f"openai-chat:{model}", agent=agent)


def test_the_plain_tool_answers(model_server: ModelServer, planner: Agent) -> None:
    in_a_week = datetime.now(UTC).astimezone().date() + timedelta(days=7)

    turn = turn_with(model_server, planner, "days_until", day=in_a_week.isoformat())

    assert turn.calls("a")[1].tool_success is True
    # It may be midnight meanwhile.
    assert turn.calls("a")[1].tool_result in {"7", "6"}


def test_the_plain_tool_says_how_to_call_it_right(model_server: ModelServer, planner: Agent) -> None:
    turn = turn_with(model_server, planner, "days_until", day="tomorrow")

    assert turn.calls("a")[1].tool_success is False
    assert "write it as 2027-01-31" in str(turn.calls("a")[1].tool_result)


def test_the_async_tool_knows_its_turn(model_server: ModelServer, planner: Agent) -> None:
    turn = turn_with(model_server, planner, "note", text="milk")

    assert turn.calls("a")[1].tool_result == "Noted."
    assert sys.modules["examples.calendar_tools"].NOTES == ["Planner: milk"]


def test_the_server_throws_a_die(model_server: ModelServer, planner: Agent) -> None:
    turn = turn_with(model_server, planner, "dice_roll", sides=1)

    assert turn.calls("a")[1].tool_result == "1"
