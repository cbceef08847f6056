import asyncio
from collections.abc import AsyncIterator

from app.events import Delta, Done, Thinking
from worker.orchestrator import Checkpoint, Turn, Yielded

POEM = ["Roses are red,", "violets are blue,", "this text is streamed", "from a worker to you."]


async def answer(turn: Turn) -> AsyncIterator[Yielded]:
    line = turn.checkpoint["next_line"] if turn.checkpoint else 0
    yield Thinking(f"{len(POEM) - line} lines to go. ")
    for number in range(line, len(POEM)):
        for word in POEM[number].split():
            await asyncio.sleep(0.02)
            yield Delta(word + " ")
        yield "\n"
        yield Checkpoint({"next_line": number + 1})
    yield Done(model="poem")
