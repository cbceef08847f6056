"""python -m tests.crash [--every 10] [--seed 1] [--database sqlite|mariadb] [--scenario run|post|…] [--lanes 4]"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import preloaded
from tests.chaos.deployment import Deployment
from tests.crash.lane import Lane
from tests.crash.points import REQUESTS, Point, sample
from tests.model_server import ModelServer
from tests.servers import EmbeddedBroker, MariaDB, RedisServer, guard, memory

#: Short, so that a takeover takes seconds; all workers of a lane die again and again.
SETTINGS = {"lease_s": 1.5, "sweep_s": 0.5, "stop_grace_s": 1}
#: No session may use them up: each is harmed once, and a slow machine may cost it another attempt.
MAX_ATTEMPTS = 20
SCENARIOS = ("run", *REQUESTS)


@contextmanager
def lanes(folder: Path, database: str, count: int, model_server: ModelServer) -> Iterator[list[Lane]]:
    """So many deployments beside each other."""
    with ExitStack() as stack:
        maria = None
        if database == "mariadb":
            maria = MariaDB(folder / "mariadb").start()
            stack.callback(maria.kill9)
        made = []
        for number in range(count):
            own = folder / f"{database}-{number}"
            broker = (EmbeddedBroker if maria is None else RedisServer)(own / "broker").start()
            stack.callback(broker.kill9)
            deployment = Deployment(
                own,
                database=maria,
                broker=broker,
                model_server=model_server,
                name=f"lane{number}",
                max_attempts=MAX_ATTEMPTS,
                **SETTINGS,
            )
            stack.enter_context(deployment)
            deployment.start_web()
            deployment.start_web()
            made.append(Lane(deployment, MAX_ATTEMPTS))
        yield made


def tell(lane_list: Sequence[Lane], took_s: float) -> bool:
    """Print how many points there were, how many fired, and what broke; whether nothing did."""
    fired = [point for lane in lane_list for point in lane.fired]
    missed = [point for lane in lane_list for point in lane.not_fired]
    print(f"  {len(fired) + len(missed)} points, {len(fired)} fired, in {took_s:.0f} s")
    for scenario in SCENARIOS:
        counts = Counter(f"{point.fault} {point.kind}" for point in fired if point.scenario == scenario)
        total = sum(point.scenario == scenario for point in (*fired, *missed))
        if total:
            print(f"    {scenario}: {counts.total()} of {total}: {dict(sorted(counts.items()))}")
    slowest_s, where = max(lane.slowest for lane in lane_list)
    print(f"  longest from a fault to the end of its session: {slowest_s:.1f} s ({where})")
    broken: dict[str, list[str]] = defaultdict(list)
    for lane in lane_list:
        for promise, breaches in lane.broken().items():
            broken[promise] += breaches
    for promise, breaches in broken.items():
        print(f"  {'BROKEN' if breaches else 'held  '}  {promise}")
        for breach in breaches[:20]:
            print(f"            {breach[:600]}")
    sys.stdout.flush()
    # A few calls come in the first run only; were it most of them, nothing would have been tried.
    return not any(broken.values()) and len(fired) > 9 * len(missed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="one of so many points, of each kind and fault in turn")
    parser.add_argument("--seed", type=int, default=0, help="which of them")
    parser.add_argument("--database", choices=("sqlite", "mariadb"), action="append")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--lanes", type=int, default=6, help="deployments beside each other")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a run that passes")
    parser.add_argument("--loud", action="store_true", help="tell of each point")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crash-", dir=memory()))
    print(f"logs in {folder}", flush=True)
    guard.remove(folder)
    held = True
    with ModelServer.start() as model_server:
        for database in options.database or ("sqlite", "mariadb"):
            with lanes(folder, database, options.lanes, model_server) as made:
                begun = time.monotonic()
                points: list[Point] = []
                for scenario in options.scenario or SCENARIOS:
                    found = made[0].record(scenario)
                    print(f"{database}, {scenario}: {len(found)} points", flush=True)
                    points += sample(found, -(-len(found) // options.every), options.seed)
                # Each lane gets some of all: those of a kind are as slow as each other.
                shares = [points[number :: len(made)] for number in range(len(made))]
                with ThreadPoolExecutor(len(made)) as threads:
                    list(threads.map(lambda lane, share: lane.try_each(share, loud=options.loud), made, shares))
                held &= tell(made, time.monotonic() - begun)
    preloaded.close()
    guard.close()
    if held and not options.keep:
        shutil.rmtree(folder)
    if not held:
        sys.exit(f"broken; logs in {folder}")


if __name__ == "__main__":
    main()
