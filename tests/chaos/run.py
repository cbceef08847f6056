"""One chaos run: clients, faults, and what must hold when all is over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.chaos.clients import Clients, Timeline
from tests.chaos.deployment import Deployment
from tests.chaos.plan import Fault, Plan, Scale, make_plan
from tests.chaos.verdict import judge
from tests.model_server import ModelServer
from tests.servers import MariaDB, Process, RedisServer

WEBS = 2
WORKERS = 3
#: Shorter than the defaults, as a deployment may choose: a run sees more takeovers.
LEASE_S = 4.0
SWEEP_S = 1.0
#: More than the default: here workers die every few seconds, and each death counts for all sessions that it held.
MAX_ATTEMPTS = 8
#: Exit status of a web process and of a worker that can't reach the database when they start …
GAVE_UP = (4, os.EX_UNAVAILABLE)
#: … which they may have tried so long ago.
STARTING_S = 10.0
#: What has ended is gone from Redis after so long.
SETTLING_S = 5.0
#: RQ forgets a dead worker's jobs after this: it is silent for 75 s, and somebody looks once a minute.
TIDY_S = 180.0
#: How long after the last fault everything may take to end.
HEALING_S = 60.0


@dataclass(frozen=True)
class Measure:
    """What a deployment takes, by what takes it."""

    taken: dict[str, dict[str, float]]
    #: How much more is allowed of each, as a factor and beside it.
    allowed: dict[str, tuple[float, float]]

    def compared_with(self, first: Measure) -> dict[str, list[str]]:
        """Each kind of what is taken, with what has grown too much since *first*."""
        return {
            f"{kind} at the end as after the first minute": [
                f"{who}: {first.taken[kind][who]:g}, then {now:g}"
                for who, now in taken.items()
                if now > first.taken[kind][who] * self.allowed[kind][0] + self.allowed[kind][1]
            ]
            for kind, taken in self.taken.items()
        }

    def __str__(self) -> str:
        return "; ".join(
            f"{kind}: {', '.join(f'{who} {amount:g}' for who, amount in taken.items())}"
            for kind, taken in self.taken.items()
        )


@dataclass(frozen=True)
class Report:
    """How a run went."""

    seed: int
    took_s: float
    broken: dict[str, list[str]]
    counts: dict[str, Any]
    timeline: list[str]
    logs: Path

    @property
    def passed(self) -> bool:
        return not any(self.broken.values())

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {'passed' if self.passed else 'FAILED'} in {self.took_s:.0f} s"]
        lines += [f"  {name}: {value}" for name, value in self.counts.items()]
        for promise, breaches in self.broken.items():
            lines.append(f"  {'BROKEN' if breaches else 'held  '}  {promise}")
            lines += [f"            {breach[:1000]}" for breach in breaches[:10]]
            lines += [f"            … and {len(breaches) - 10} more"] if len(breaches) > 10 else []
        if not self.passed:
            lines += ["timeline:", *(f"  {line}" for line in self.timeline), f"logs: {self.logs}"]
            lines.append(f"again: the same with --seed {self.seed}")
        return "\n".join(lines)


def run(
    seed: int,
    scale: Scale,
    folder: Path,
    *,
    template: Path | None = None,
    loud: bool = False,
    measures: Callable[[Deployment], Measure] | None = None,
) -> Report:
    """Start a deployment in *folder*, do to it what the seed says, and judge what is left.

    Args:
        measures: What it takes then is compared: in the scale's quiet seconds, and when all is over.
    """
    plan = make_plan(seed, scale, webs=WEBS, workers=WORKERS, lease_s=LEASE_S)
    folder.mkdir(parents=True, exist_ok=True)
    database = MariaDB(folder / "mariadb", template=template).start()
    broker = RedisServer(folder / "redis").start()
    try:
        with (
            ModelServer.start() as model_server,
            Deployment(
                folder,
                database=database,
                broker=broker,
                model_server=model_server,
                lease_s=LEASE_S,
                sweep_s=SWEEP_S,
                max_attempts=MAX_ATTEMPTS,
                stop_grace_s=2,
            ) as deployment,
        ):
            for _ in range(WEBS):
                deployment.start_web()
            for worker in [deployment.start_worker() for _ in range(WORKERS)]:
                worker.wait_for_line("worker started")
            return _Run(seed, scale, plan, deployment, database, broker, loud=loud, measures=measures).report()
    finally:
        broker.kill9()
        database.kill9()


class _Run:
    def __init__(
        self,
        seed: int,
        scale: Scale,
        plan: Plan,
        deployment: Deployment,
        database: MariaDB,
        broker: RedisServer,
        *,
        loud: bool,
        measures: Callable[[Deployment], Measure] | None,
    ) -> None:
        self._measures = measures
        self._measured: list[Measure] = []
        self._seed = seed
        self._scale = scale
        self._plan = plan
        self._deployment = deployment
        self._database = database
        self._broker = broker
        self._timeline = Timeline(loud=loud)
        self._models = [deployment.model_server.add(script.to_json()) for script in plan.scripts]
        # One fault at a time for each of them: a dead process can't be frozen.
        self._locks: dict[int, asyncio.Lock] = {}
        self._frozen: list[Process] = []

    def report(self) -> Report:
        clients = asyncio.run(self._run())
        stored = self._deployment.stored()
        broken = judge(clients.observed, stored, MAX_ATTEMPTS)
        if self._measures is not None:
            first, last = self._measured
            broken |= last.compared_with(first)
        attempts = Counter(row["attempt"] for row in stored.sessions)
        ends = Counter(row["errorCode"] or row["status"] for row in stored.sessions)
        counts = {
            "sessions": len(stored.sessions),
            "ended as": dict(sorted(ends.items())),
            "attempts": dict(sorted(attempts.items())),
            "events": len(stored.events),
            "tool executions": len(stored.calls),
            "polled to the end": len(clients.observed.transcripts),
            "faults": dict(Counter(fault.kind for fault in self._plan.faults)),
            "errors logged": self._logged(),
        }
        counts |= {f"took {when}": str(taken) for when, taken in zip(("first", "last"), self._measured, strict=False)}
        return Report(self._seed, self._timeline.now, broken, counts, self._timeline.lines, self._deployment.folder)

    async def _run(self) -> Clients:
        clients = Clients(
            self._seed,
            [web.url for web in self._deployment.webs],
            self._plan.scripts,
            self._models,
            self._timeline,
            deadline=self._scale.lasts + self._scale.quiet + HEALING_S,
        )
        watching = asyncio.create_task(self._watch(clients))
        faults = asyncio.gather(*(self._fault(fault) for fault in self._plan.faults))
        working = asyncio.create_task(clients.work(self._plan.posts, self._scale.pollers))
        await self._measure_in_quiet()
        await faults
        self._timeline.add("the last fault is mended")
        await working
        self._timeline.add("every client is done")
        await self._measure_at_the_end()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await asyncio.to_thread(self._stop, clients)
        return clients

    async def _measure_in_quiet(self) -> None:
        if self._measures is None:
            return
        await asyncio.sleep(self._scale.quiet_from + self._scale.quiet - SETTLING_S - self._timeline.now)
        self._measured.append(await asyncio.to_thread(self._measures, self._deployment))

    async def _measure_at_the_end(self) -> None:
        """What workers that died have left to Redis is tidied up in a while."""
        until = self._timeline.now + TIDY_S
        while self._measures is not None:
            await asyncio.sleep(SETTLING_S)
            first, last = self._measured[0], await asyncio.to_thread(self._measures, self._deployment)
            if not any(last.compared_with(first).values()) or self._timeline.now > until:
                self._measured.append(last)
                return

    async def _watch(self, clients: Clients) -> None:
        """Start what has ended, as whoever supervises a deployment does.

        A process may give up when it starts while the database is away, and a worker that was frozen when it finds that
        others took it for dead; any other end is a fault of ours.
        """
        away_until = 0.0
        while True:
            await asyncio.sleep(0.2)
            if self._lock(self._database).locked():
                away_until = self._timeline.now + STARTING_S
            for process in [*self._deployment.webs, *self._deployment.workers]:
                lock = self._lock(process)
                if lock.locked() or process.alive:
                    continue
                status = process.wait()
                self._timeline.add(f"{process.log.stem} ended with {status}")
                gave_up = status in GAVE_UP and self._timeline.now <= away_until
                taken_for_dead = status == os.EX_SOFTWARE and process in self._frozen
                # One of the sessions that kill their worker was here.
                killed = status == -signal.SIGKILL and self._scale.culprits
                if not (gave_up or taken_for_dead or killed):
                    clients.observed.strange.append(f"ended by itself with {status}: {process}")
                async with lock:
                    await asyncio.sleep(0.5)
                    process.start()

    def _stop(self, clients: Clients) -> None:
        """Everything has to end when it is asked to."""
        up = [(worker, "worker started") for worker in self._deployment.workers]
        up += [(web, "Booting worker") for web in self._deployment.webs]
        for process, line in up:
            try:
                # One that the last fault has brought back may not listen to signals yet.
                process.wait_for_line(line, 20.0)
                status = process.stop(20.0)
            except AssertionError:
                status = None
            if status != 0:
                clients.observed.strange.append(f"{process.log.stem} ended with {status} after SIGTERM")

    def _lock(self, process: object) -> asyncio.Lock:
        return self._locks.setdefault(id(process), asyncio.Lock())

    async def _fault(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at - self._timeline.now)
        victim: Any = self._broker
        if "worker" in fault.kind:
            victim = self._deployment.workers[fault.target]
        elif "web" in fault.kind:
            victim = self._deployment.webs[fault.target]
        elif "database" in fault.kind:
            victim = self._database
        async with self._lock(victim):
            name = victim.log.stem if isinstance(victim, Process) else ""
            self._timeline.add(f"{fault.kind} {name} for {fault.lasts:.1f} s")
            await getattr(self, "_" + fault.kind.replace(" ", "_"))(victim, fault.lasts)
            self._timeline.add(f"{fault.kind} {name}: mended")

    async def _kill_worker(self, worker: Process, lasts: float) -> None:
        await asyncio.to_thread(worker.kill9)
        await asyncio.sleep(lasts)
        worker.start()

    async def _freeze_worker(self, worker: Process, lasts: float) -> None:
        self._frozen.append(worker)
        worker.pause()
        await asyncio.sleep(lasts)
        worker.resume()

    async def _deploy_worker(self, worker: Process, lasts: float) -> None:
        worker.signal(signal.SIGTERM)
        await asyncio.to_thread(worker.wait, 30.0)
        await asyncio.sleep(lasts)
        worker.start()

    async def _kill_database(self, database: MariaDB, lasts: float) -> None:
        await asyncio.to_thread(database.kill9)
        await asyncio.sleep(lasts)
        await asyncio.to_thread(database.start)

    async def _freeze_database(self, database: MariaDB, lasts: float) -> None:
        database.pause()
        await asyncio.sleep(lasts)
        database.resume()

    _freeze_redis = _freeze_database

    async def _flush_redis(self, broker: RedisServer, lasts: float) -> None:
        with redis.Redis.from_url(broker.url) as client:
            await asyncio.to_thread(client.flushall)

    async def _kill_redis(self, broker: RedisServer, lasts: float) -> None:
        await asyncio.to_thread(broker.kill9)
        await asyncio.sleep(lasts)
        await asyncio.to_thread(broker.start)

    async def _deploy_web(self, web: Process, lasts: float) -> None:
        web.signal(signal.SIGTERM)
        await asyncio.to_thread(web.wait, 30.0)
        await asyncio.sleep(lasts)
        web.start()

    async def _kill_web(self, web: Process, lasts: float) -> None:
        await asyncio.to_thread(web.kill9)
        await asyncio.sleep(lasts)
        web.start()

    async def _kill_web_process(self, web: Process, lasts: float) -> None:
        """Only the process that serves: gunicorn's own brings another one."""
        for child in web.family()[1:]:
            child.kill()

    def _logged(self) -> dict[str, int]:
        """Exceptions in the logs of web and workers, by their last line."""
        found: Counter[str] = Counter()
        for log in sorted(self._deployment.folder.glob("w*.log")):
            for line in log.read_text("utf-8", "replace").splitlines():
                if "traceback=" in line:
                    trace = json.loads(line.partition("traceback=")[2]).rstrip()
                    found[trace.rpartition("\n")[2][:160]] += 1
        return dict(found.most_common(15))


def dump(report: Report) -> None:
    """Leave the report beside the logs."""
    (report.logs / "report.txt").write_text(f"{report}\n")
    (report.logs / "timeline.json").write_text(json.dumps(report.timeline, indent=1))
