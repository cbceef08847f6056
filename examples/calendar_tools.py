import asyncio
from datetime import date

from pydantic_ai import ModelRetry, RunContext

from worker.orchestrator import Turn
from worker.tools import repeatable

NOTES: list[str] = []


@repeatable
def days_until(day: str) -> int:
    """How many days it is until a day.

    Args:
        day: In ISO 8601, such as 2027-01-31.
    """
    try:
        return (date.fromisoformat(day) - date.today()).days
    except ValueError:
        raise ModelRetry(f"{day!r} is no day; write it as 2027-01-31.") from None


async def note(context: RunContext[Turn], text: str) -> str:
    """Write something down."""
    await asyncio.sleep(0.01)
    NOTES.append(f"{context.deps.agent.name}: {text}")
    return "Noted."
