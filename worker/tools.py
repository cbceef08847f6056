"""Tools: the built-in ones, and how an agent's tools are found by name.

A tool is a function with type hints; its docstring tells the model what it does and what its parameters mean.
It may be async. If its first parameter is a `RunContext[Turn]`, it gets the turn as `context.deps`. A plain function
runs on a thread, which goes on when the turn is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic_ai import ModelRetry, RunContext, Tool

from app.errors import Invalid

from .calculator import CannotCalculate, evaluate
from .names import resolve
from .orchestrator import Turn
from .tool_names import function_name

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Messages that one search returns, and how much of each.
SEARCH_RESULTS = 10
SEARCH_EXCERPT_CHARS = 1_000


def repeatable(function: _Function) -> _Function:
    """Declare that a tool may run again when a resumed turn does not know how its first run ended."""
    function.repeatable = True  # type: ignore[attr-defined]
    return function


@repeatable
async def current_time(zone: str = "UTC") -> str:
    """The current date and time.

    Args:
        zone: IANA name of a time zone, such as Europe/Berlin.
    """
    try:
        now = datetime.now(UTC).astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ModelRetry(f"There is no time zone {zone!r}; use an IANA name such as Europe/Berlin.") from None
    return now.strftime("%A, %Y-%m-%d %H:%M:%S %Z (UTC%z)")


@repeatable
async def calculate(expression: str) -> str:
    """Calculate exactly.

    Args:
        expression: Numbers with + - * / // % ** and parentheses, such as (2.5 + 1/3) * 6.
    """
    try:
        return evaluate(expression)
    except CannotCalculate as error:
        raise ModelRetry(str(error)) from None


@repeatable
async def search_conversation(context: RunContext[Turn], query: str) -> str:
    """Find earlier messages of this conversation.

    Args:
        query: Words that the message contains.
    """
    found = await context.deps.search(query, SEARCH_RESULTS)
    if not found:
        return "No earlier message matches."
    return "\n\n".join(f"[{m.role}, {m.created_at}] {m.content[:SEARCH_EXCERPT_CHARS]}" for m in found)


BUILT_IN: dict[str, Callable[..., Any]] = {
    "current_time": current_time,
    "calculate": calculate,
    "search_conversation": search_conversation,
}


def load_tool(name: str) -> Tool[Turn]:
    """The tool that an agent's file calls *name*.

    Raises:
        Invalid: there is none.
    """
    if ":" not in name and name not in BUILT_IN:
        raise Invalid(f"there is no tool {name!r}; built in are {', '.join(BUILT_IN)}")
    function = BUILT_IN[name] if name in BUILT_IN else resolve(name)
    named = getattr(function, "__name__", None)
    return Tool(
        function,
        name=function_name(named) if named else None,
        metadata={"repeatable": getattr(function, "repeatable", False)},
    )
