from collections import Counter
from collections.abc import Iterator

from app.events import ToolCall
from worker.orchestrator import Turn, TurnFailed, Yielded


def answer(turn: Turn) -> Iterator[Yielded]:
    words = turn.message.lower().split()
    if not words:
        raise TurnFailed("nothing_to_count", "The message has no words.")
    yield ToolCall("count-1", "count_words", {"words": len(words)})
    counts = Counter(words).most_common(3)
    yield ToolCall("count-1", "count_words", {"words": len(words)}, tool_result=str(counts), tool_success=True)
    for word, count in counts:
        if turn.cancel.wait(0.02):  # sleeps, and returns at once when the user cancels
            return
        yield f"{word}: {count}\n"
