"""What a streamed token costs through each adapter, against the events as they are.

    python -m benchmarks.clients [--tokens 3000] [--rounds 5]

A session with so many deltas is read as a live stream reads it, one event at a time, and said in the words of each
client; the CPU time of the best round counts, and the kinds take turns. Prints each as a ratio to the native stream and
fails above 1.5. `--render` leaves the reading out, which all have in common.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from app import db
from app.api.compat.chat_chunks import ChatChunks
from app.api.compat.response_events import ResponseEvents
from app.api.compat.ui_chunks import UiChunks
from app.api.polling.following import Events, Render
from app.api.polling.pages import SharedPage
from app.db import schema
from app.events import Delta, Done, Thinking, log
from app.events.log import EventPage
from tests.factories import OWNER, make_claim, write

MOST = 1.5
KINDS: dict[str, Callable[[], Render]] = {
    "native": Events,
    "chat completions": lambda: ChatChunks({"id": "chatcmpl-1", "created": 1, "model": "agent-1"}, with_usage=True),
    "responses": lambda: ResponseEvents({"id": "resp_1", "object": "response", "status": "queued", "output": []}),
    "ai sdk": lambda: UiChunks("session-1", can_reset=True),
    "ai sdk 6": lambda: UiChunks("session-1", can_reset=False),
}


def cost_s(make: Callable[[], Render], session_id: str, pages: list[EventPage] | None) -> float:
    """CPU seconds of one stream from its first event to its last; with *pages* nothing is read."""
    render = make()
    started = time.process_time()
    if pages is not None:
        for page in pages:
            render.page(SharedPage(page))
        return time.process_time() - started
    after, status = 0, "running"
    while status == "running":
        page = log.read(OWNER, session_id, after, 1)
        after, status = page.next_after, page.status
        render.page(SharedPage(page))
    return time.process_time() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db.open_database(f"sqlite:///{Path(folder) / 'backchat.db'}")
        schema.migrate()
        claim = make_claim()
        write(claim, Thinking("hm"), *(Delta(f"word {n} ") for n in range(options.tokens)), Done())
        whole = log.read(OWNER, claim.session_id, 0, options.tokens + 2)
        pages = [replace(whole, events=[event], status="running") for event in whole.events] if options.render else None
        best = dict.fromkeys(KINDS, float("inf"))
        for _ in range(options.rounds):
            for name, make in KINDS.items():
                best[name] = min(best[name], cost_s(make, claim.session_id, pages))
    for name, seconds in best.items():
        print(f"{name:17} {seconds / options.tokens * 1e6:6.1f} µs a token  {seconds / best['native']:.2f}")
    return 0 if options.render or max(best.values()) <= MOST * best["native"] else 1


if __name__ == "__main__":
    sys.exit(main())
