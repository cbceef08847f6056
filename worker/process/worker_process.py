"""What runs in a worker process beside RQ: heartbeat, event writer, sweeper and the runs themselves."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

from app import db
from app.agents import Agents
from app.broker.client import open_redis
from app.broker.heads import Heads
from app.broker.queue import TurnQueue
from app.conversations import search
from app.db import schema
from app.errors import DatabaseUnavailable
from app.history.retention import Pruner
from app.observability import metrics
from app.sessions import claims, expiry
from app.sessions.claims import Claim
from app.sessions.doorbell import Doorbell
from app.settings import Settings
from worker import noting

from . import memory
from .budgets import Budgets
from .claimer import Claimer
from .event_writer import EventWriter
from .liveness import Liveness
from .pruning import prune_for_ever
from .run import Answer, Run, Stop
from .strays import Strays
from .supervision import Supervision, WorkerBroken
from .sweeper import Sweeper
from .traced import traced
from .turns import Turns

logger = logging.getLogger(__name__)

#: Threads for claims, ends and reads; the event writer has one of its own.
_DATABASE_THREADS = 4
#: How long sessions may take to be handed back.
HAND_BACK_S = 8.0


class WorkerProcess:
    """Everything that a worker process needs to run sessions, on one asyncio loop.

    Args:
        name: RQ name of the worker, so that others can tell it to stop a session.
        answer: The orchestrator; by default what the settings say.
        sweeps: Whether this process sweeps, prunes, and takes over from workers that died.
        of_group: Others have made its row, and reserved sessions for it.
        fork: Starts the worker of a group, by name; see `worker.nursery`.
        give_up: Ends the process at once, called on a thread: the loop is blocked for too long. None: it goes on.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str = "",
        answer: Answer | None = None,
        sweeps: bool = True,
        of_group: bool = False,
        fork: Callable[[str], object] | None = None,
        give_up: Callable[[], object] | None = None,
    ) -> None:
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._settings = settings
        self._answer = answer
        self._sweeps = sweeps
        self._of_group = of_group
        self._fork = fork
        self._give_up_process = give_up
        self._agents = Agents.load(settings.agents_file)
        configured = {agent.id for agent in self._agents} if settings.forgets_removed_agents else None
        repairs, expire = (search.mark,), expiry.delete_some
        self._pruner = Pruner(self.name, settings, repairs=repairs, agents=configured, expire=expire)
        self._heads = Heads(open_redis(settings.redis_url))
        self._queue = TurnQueue(settings.redis_url)
        self._doorbell = Doorbell(self._heads, self._queue)
        self._threads = ThreadPoolExecutor(_DATABASE_THREADS, thread_name_prefix="database")
        self._sweep_thread = ThreadPoolExecutor(1, thread_name_prefix="sweeper")
        self._prune_thread = ThreadPoolExecutor(1, thread_name_prefix="retention")
        #: Of the tasks that all sessions depend on.
        self._tell_broken: Callable[[WorkerBroken], object] = lambda _: None
        self.supervision = Supervision(on_broken=self._give_up)
        self._claimer = Claimer(self.name, settings, self._in_thread, supervision=self.supervision)
        self._runs: dict[int, Run] = {}
        self._turns = Turns(settings, self._in_thread, self._runs, self._doorbell.ring, supervision=self.supervision)
        self._budgets = Budgets(self._in_thread)
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    async def start(self) -> None:
        """Open the database and start the loops.

        Raises:
            SchemaOutdated: the database must be migrated first.
            DatabaseUnavailable: it can't be reached.
            Invalid: a setting can't be used.
        """
        metrics.MODELS.know(self._agents.models(self._settings))
        db.open_database(self._settings.database_url, connections=_DATABASE_THREADS + 6)
        await self._in_thread(schema.require_current)
        self._max_content_bytes = await self._in_thread(db.max_content_bytes, self._settings.max_content_bytes)
        state_bytes = await self._in_thread(db.max_content_bytes, self._settings.max_checkpoint_bytes)
        self._settings = replace(self._settings, max_checkpoint_bytes=state_bytes)
        if self._answer is None:
            # It imports the engine: seconds that a test's own answer need not take.
            from worker.process.orchestrators import load

            self._answer = cast(Answer, load(self._settings))
        self._writer = EventWriter(self._heads, flush_s=self._settings.flush_ms / 1000, supervision=self.supervision)
        self._writer.start()
        await self._begin_to_live()
        start = self.supervision.start
        strays = Strays(self.name, self._doorbell, lambda: [run.claim for run in list(self._runs.values())])
        start("strays", self._for_ever("strays", self._settings.lease_s / 2, self._sweep_thread, strays.free))
        if self._sweeps:
            sweeper = Sweeper(self.name, self._settings, self._queue, self._doorbell)
            start("sweeper", self._for_ever("sweeper", self._settings.sweep_s, self._sweep_thread, sweeper.sweep))
            start("retention", prune_for_ever(self._pruner, self._prune_thread, self._settings.cleanup_interval_s))
        start("memory", memory.watch())
        start("supervision", self.supervision.watch())

    async def _begin_to_live(self) -> None:
        loop = asyncio.get_running_loop()
        noting.install(loop)
        self._liveness = Liveness(
            self.name,
            self._settings,
            on_dead=lambda: loop.call_soon_threadsafe(self._fence),
            on_broken=lambda error: loop.call_soon_threadsafe(self.supervision.fail, "no groups can be started", error),
            watches=self._sweeps,
            of_group=self._of_group,
            fork=self._fork,
            session_of=lambda row_id: run.claim.session_id if (run := self._runs.get(row_id)) else None,
            give_up=self._give_up_process,
        )
        await self._in_thread(self._liveness.start)

    def _fence(self) -> None:
        """Others took this worker for dead, and its sessions: it hands back nothing, and ends."""
        for run in list(self._runs.values()):
            run.give_up(hand_back=False)
        self.supervision.fail("this worker was taken for dead")

    def when_broken(self, tell: Callable[[WorkerBroken], object]) -> None:
        """Call *tell* when a task that all sessions depend on has failed. Its sessions are handed back by then."""
        self._tell_broken = tell
        if self.supervision.broken is not None:
            tell(self.supervision.broken)

    def _give_up(self, error: WorkerBroken) -> None:
        self._draining = True
        for run in list(self._runs.values()):
            run.give_up()
        self._tell_broken(error)

    async def answer(self, session_id: str) -> None:
        """Answer a ring: run the session that it names if it is its turn, as `run` does."""
        if not self._stopping():
            await self._turns.answer(session_id, self._claim, self._work)

    async def run(self, session_id: str) -> None:
        """Run a session if it can be claimed; returns when it has ended or is no longer ours."""
        if self._stopping():
            return
        claim = await self._claim(session_id)
        if claim is not None:
            await self._work(claim)

    async def _work(self, claim: Claim) -> None:
        session_id = claim.session_id
        if self._stopping():
            # Also when this task is cancelled while it waits for a thread: others would be kept off.
            await asyncio.shield(self._in_thread(claims.hand_back, claim))
            await self._in_thread(self._doorbell.ring, session_id, claim.attempt)
            return
        assert self._answer is not None
        run = Run(
            claim,
            answer=self._answer,
            writer=self._writer,
            agents=self._agents,
            budgets=self._budgets,
            settings=self._settings,
            max_content_bytes=self._max_content_bytes,
            in_thread=self._in_thread,
            context=noting.context_of(self._liveness.notes, claim.row_id),
        )
        self._runs[claim.row_id] = run
        metrics.WORKER_SESSIONS.set(len(self._runs))
        self._idle.clear()
        try:
            async with traced(run, self._agents, self._in_thread):
                stopped = await run.work()
        except DatabaseUnavailable:
            logger.warning("session is handed back later", extra={"session_id": session_id, "attempt": claim.attempt})
            return
        finally:
            if self._runs.get(claim.row_id) is run:
                del self._runs[claim.row_id]
                metrics.WORKER_SESSIONS.set(len(self._runs))
            if not self._runs:
                self._idle.set()
        if stopped is Stop.HAND_BACK:
            await self._in_thread(self._doorbell.ring, session_id, claim.attempt)
        elif claim.conversation_id is not None:
            await self._in_thread(self._doorbell.ring_next, claim.owner, claim.conversation_id)

    async def run_reserved(self) -> None:
        """Run what is reserved for this worker; returns when all of it has ended or is no longer ours.

        Raises:
            DatabaseUnavailable: no connection.
        """
        session_ids = await self._in_thread(claims.reserved_for, self.name)
        await asyncio.gather(*(self.run(session_id) for session_id in session_ids))

    def _stopping(self) -> bool:
        return self._draining

    async def _claim(self, session_id: str) -> Claim | None:
        try:
            return await self._claimer.claim(session_id)
        except DatabaseUnavailable:
            # The doorbell is lost with it; the sweeper rings again.
            logger.warning("session can't be claimed now", extra={"session_id": session_id})
            return None

    async def drain(self, grace_s: float) -> None:
        """Claim nothing more, let sessions finish for *grace_s* seconds, hand the rest back with their checkpoints.

        Called again meanwhile, with a shorter grace, it hands back sooner. What can't be handed back within
        `HAND_BACK_S` is left to the sweeper.
        """
        self._draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            for run in list(self._runs.values()):
                run.stop(Stop.HAND_BACK)
            await self._until_idle()

    async def _until_idle(self) -> None:
        try:
            async with asyncio.timeout(HAND_BACK_S):
                await self._idle.wait()
        except TimeoutError:
            # The database is away: what has ended can't be stored, and what runs can't be handed back.
            logger.warning("sessions left to the sweeper", extra={"sessions": len(self._runs)})

    async def close(self) -> None:
        """Stop the loops and free what was opened. Sessions still running are left to the sweeper."""
        self._pruner.stop()
        await self.supervision.close()
        await self._claimer.close()
        if hasattr(self, "_writer"):
            await self._writer.close()
        close_answer = getattr(self._answer, "aclose", None)
        if close_answer is not None:
            await close_answer()
        if hasattr(self, "_liveness"):
            await asyncio.to_thread(self._liveness.stop)
        for threads in (self._threads, self._sweep_thread, self._prune_thread):
            # A stalled one would be waited for in vain.
            threads.shutdown(wait=self.supervision.broken is None)

    async def _for_ever(
        self, name: str, pause_s: float, thread: ThreadPoolExecutor, work: Callable[[], object]
    ) -> None:
        while True:
            # First thing: the worker that this one replaces may have left sessions behind.
            try:
                with self.supervision.at_work(name):
                    await asyncio.get_running_loop().run_in_executor(thread, work)
            except Exception:
                # The loop is what keeps sessions alive: it must outlive any one failure.
                metrics.BACKGROUND_FAILURES.labels(name).inc()
                logger.exception("background work failed", extra={"work": getattr(work, "__qualname__", "")})
            await asyncio.sleep(pause_s)

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*arguments))
