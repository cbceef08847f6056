"""python -m tests.chaos.soak [--minutes 20] [--seed 1]: does a deployment take more with time?

Sessions, cancels, sessions that kill or hold their worker, and deploys of workers and web processes, at random from the
seed. What the processes take after the first minute and at the end is compared, and the verdict is that of a chaos run.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import redis

from tests import preloaded
from tests.chaos.deployment import Deployment
from tests.chaos.plan import Scale
from tests.chaos.run import Measure, dump, run
from tests.servers import guard, memory, wait_until

#: The minute after which is measured first, and how long what it began may take to end.
FIRST_S, QUIET_S = 60.0, 45.0
ALLOWED = {
    "MiB": (1.2, 0.0),
    # A pool may have grown by some connections, and threads come as they are needed first.
    "descriptors": (1.0, 12.0),
    "threads": (1.0, 8.0),
    # Heartbeats and the registries of what runs.
    "redis keys": (1.0, 5.0),
    "connections": (1.0, 12.0),
}


def scale_of(minutes: float) -> Scale:
    """What happens in so many minutes."""
    return Scale(
        sessions=int(90 * minutes),
        lasts=60 * minutes,
        pollers=12,
        faults=(("deploy worker", max(int(minutes / 2), 1)), ("deploy web", max(int(minutes / 4), 1))),
        culprits=max(int(minutes * 2), 2),
        quiet_from=FIRST_S,
        quiet=QUIET_S,
    )


def measures(deployment: Deployment) -> Measure:
    """What each process takes now, and what is in Redis that does not go by itself."""
    processes = (*deployment.webs, *deployment.workers)
    wait_until(lambda: all(process.alive for process in processes), "every process runs")
    taken: dict[str, dict[str, float]] = {kind: {} for kind in ALLOWED}
    for process in processes:
        family = process.family()
        name = process.log.stem
        taken["MiB"][name] = round(sum(each.memory_info().rss for each in family) / 2**20)
        taken["descriptors"][name] = sum(each.num_fds() for each in family)
        taken["threads"][name] = sum(each.num_threads() for each in family)
    with redis.Redis.from_url(deployment.broker.url) as client:
        lasting = [key for key in client.scan_iter() if client.ttl(key) == -1]
        kinds = Counter(key.decode("utf-8", "replace").rpartition(":")[0] for key in lasting)
        taken["redis keys"] = {"that last": len(lasting)}
        print(f"keys that last: {dict(kinds)}; others: {client.dbsize() - len(lasting)}", flush=True)  # type: ignore[operator]
        taken["connections"] = {"redis": len(client.client_list())}  # type: ignore[arg-type]
    if deployment.database is not None:
        with deployment.database.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM information_schema.processlist")
            taken["connections"]["mariadb"] = cursor.fetchone()[0]  # type: ignore[index]
    return Measure(taken, ALLOWED)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loud", action="store_true", help="tell what happens as it happens")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=memory()))
    guard.remove(folder)
    print(f"seed {options.seed}, {options.minutes:g} minutes, logs in {folder}", flush=True)
    report = run(options.seed, scale_of(options.minutes), folder, loud=options.loud, measures=measures)
    dump(report)
    print(report, flush=True)
    preloaded.close()
    guard.close()
    if not report.passed:
        sys.exit("failed")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
