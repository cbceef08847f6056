"""The clients of a chaos run: they post, poll and cancel over web processes that die, and never give up."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.chaos.plan import Post, Script
from tests.chaos.verdict import Observed, Transcript

#: What a client takes for "try again": no answer, or 503.
_PATIENCE = aiohttp.ClientTimeout(total=15)


@dataclass
class Timeline:
    """What happened when, to be printed when a run fails."""

    begun: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    loud: bool = False

    @property
    def now(self) -> float:
        return time.monotonic() - self.begun

    def add(self, text: str) -> None:
        self.lines.append(f"{self.now:7.2f} s  {text}")
        if self.loud:
            print(self.lines[-1], flush=True)


class Clients:
    """All clients of a run.

    Args:
        urls: Of the web processes, dead or alive.
        models: Model name of each script.
        deadline: On the timeline's clock; after it nobody tries again.
    """

    def __init__(
        self,
        seed: int,
        urls: list[str],
        scripts: tuple[Script, ...],
        models: list[str],
        timeline: Timeline,
        deadline: float,
    ) -> None:
        self.observed = Observed()
        #: Sessions in the order in which they were accepted.
        self.accepted: list[str] = []
        self._seed = seed
        self._urls = urls
        self._scripts = scripts
        self._models = models
        self._timeline = timeline
        self._deadline = deadline
        self._news = asyncio.Event()
        self._all_posted = False
        self._taken = 0
        self._strange_seen: set[str] = set()

    async def work(self, posts: tuple[Post, ...], pollers: int) -> None:
        """Post all sessions, follow each to its end, cancel some; returns when all that is done or the time is up."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=_PATIENCE) as self._http:
            following = [asyncio.create_task(self._poller(number)) for number in range(pollers)]
            await asyncio.gather(*(self._post(post) for post in posts))
            self._all_posted = True
            self._news.set()
            self._timeline.add(f"all {len(self.accepted)} sessions are accepted")
            await asyncio.gather(*following)

    def _strange(self, what: str) -> None:
        self._timeline.add(f"STRANGE {what}")
        self.observed.strange.append(what)

    async def _call(
        self, chance: random.Random, method: str, path: str, what: str, **options: Any
    ) -> tuple[int, Any] | None:
        """Ask any web process until one gives an answer that is not 503; None: the time is up."""
        while self._timeline.now < self._deadline:
            url = chance.choice(self._urls)
            try:
                async with self._http.request(method, url + path, **options) as response:
                    body = await response.json(content_type=None) if response.status != 304 else None
                    if response.status < 500:
                        return response.status, body
                    if response.status != 503:
                        self._strange(f"{what}: {response.status} {body}")
                    elif "Retry-After" not in response.headers:
                        self._strange(f"{what}: 503 without Retry-After")
            except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
                # A request that nobody answers for this long would leave a person without an answer too.
                if isinstance(error, TimeoutError):
                    self._timeline.add(f"no answer in {_PATIENCE.total} s: {what} at {url}")
            await asyncio.sleep(chance.uniform(0.05, 0.8))
        return None

    async def _post(self, post: Post) -> None:
        await asyncio.sleep(post.at - self._timeline.now)
        chance = random.Random(f"{self._seed} {post.key}")
        self.observed.scripts[post.key] = self._scripts[post.script]
        body: dict[str, Any] = {"message": f"Question {post.key}", "model": f"openai-chat:{self._models[post.script]}"}
        if post.conversation is not None:
            body["conversationId"] = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._seed} {post.conversation}"))

        async def send() -> str | None:
            answer = await self._call(
                chance,
                "POST",
                "/api/chat/session",
                f"POST of {post.key}",
                json=body,
                headers={"Idempotency-Key": post.key},
            )
            if answer is None:
                self._strange(f"{post.key} was never accepted")
                return None
            status, accepted = answer
            if status != 202:
                self._strange(f"POST of {post.key}: {status} {accepted}")
                return None
            self.observed.accepted[post.key].add(accepted["sessionId"])
            return str(accepted["sessionId"])

        [session_id, *_] = await asyncio.gather(*(send() for _ in range(post.copies)))
        if session_id is None:
            return
        self.accepted.append(session_id)
        self._news.set()
        if post.cancel_after is not None:
            await asyncio.sleep(post.cancel_after)
            await self._cancel(chance, session_id)

    async def _cancel(self, chance: random.Random, session_id: str) -> None:
        answer = await self._call(chance, "POST", f"/api/chat/session/{session_id}/cancel", f"cancel of {session_id}")
        if answer is None:
            return
        status, row = answer
        if status != 200 or row["status"] == "running":
            self._strange(f"cancel of {session_id}: {status} {row}")
        elif row["errorCode"] == "cancelled":
            self.observed.cancelled[session_id] = row["lastSeq"]

    async def _poller(self, number: int) -> None:
        chance = random.Random(f"{self._seed} poller {number}")
        while True:
            # Each session in turn to the next free poller, so that none is missed; then any again.
            if self._taken < len(self.accepted):
                session_id = self.accepted[self._taken]
                self._taken += 1
            elif self._all_posted or self._timeline.now > self._deadline:
                return
            elif self.accepted and chance.random() < 0.5:
                session_id = chance.choice(self.accepted)
            else:
                self._news.clear()
                try:
                    async with asyncio.timeout(1.0):
                        await self._news.wait()
                except TimeoutError:
                    pass
                continue
            await self._follow(chance, f"poller {number}", session_id)

    async def _follow(self, chance: random.Random, poller: str, session_id: str) -> None:
        """Poll a session to its end, now and then from an earlier place, as a page that was reloaded would."""
        seen: list[dict[str, Any]] = []
        pause_s = chance.choice([0.05, 0.2, 0.5, 1.5])
        while True:
            after = len(seen) if chance.random() < 0.9 else chance.randint(0, len(seen))
            limit = chance.choice([1, 2, 5, 20, 100, 500])
            wait = chance.choice([0, 0, 0, 2])
            path = f"/api/chat/session/{session_id}/events?after={after}&limit={limit}&wait={wait}"
            answer = await self._call(chance, "GET", path, f"poll of {session_id}")
            if answer is None:
                self._strange(f"{poller} never saw the end of {session_id}")
                return
            status, page = answer
            if status != 200:
                self._strange(f"{poller}: {status} {page} from {path}")
                return
            self._check_page(poller, path, page, seen, after, limit)
            seen = seen[:after] + page["events"] + seen[after + len(page["events"]) :]
            ended = bool(seen) and seen[-1]["eventType"] in ("done", "error")
            if page["status"] != "running" and not page["hasMore"] and page["nextAfter"] >= len(seen):
                if not ended:
                    self._strange(f"{poller}: {session_id} is {page['status']} before its terminal event")
                self.observed.transcripts.append(Transcript(poller, session_id, seen, page["status"]))
                return
            await asyncio.sleep(0 if page["hasMore"] else pause_s * chance.uniform(0.5, 1.5))

    def _check_page(
        self, poller: str, path: str, page: dict[str, Any], seen: list[dict[str, Any]], after: int, limit: int
    ) -> None:
        seqs = [event["seq"] for event in page["events"]]
        if seqs != list(range(after + 1, after + 1 + len(seqs))) or len(seqs) > limit:
            self._strange(f"{poller}: {seqs} from {path}")
        if page["nextAfter"] != after + len(seqs):
            self._strange(f"{poller}: nextAfter {page['nextAfter']} after {seqs} from {path}")
        known = seen[after : after + len(seqs)]
        if page["events"][: len(known)] != known:
            self._strange(f"{poller}: events have changed since they were first read from {path}")
        if page["status"] != "running" and page["hasMore"]:
            self._strange(f"{poller}: {page['status']} with more to come from {path}")
