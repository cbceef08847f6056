"""How soon a cancel ends everything, in each state that a session can be in.

    python -m benchmarks.cancel_latency [--count 100] [--embedded]

Counted from sending the request until it is answered and the model server has seen the connection closed (or the tool
was stopped). An orphaned session's worker is frozen meanwhile: there it counts from when it runs again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.cancels import STATES, measure
from tests.chaos.deployment import Deployment
from tests.model_server import ModelServer
from tests.servers import EmbeddedBroker, MariaDB, RedisServer, guard


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cancel_latency")
    parser.add_argument("--count", type=int, default=100, help="cancels in each state")
    parser.add_argument("--embedded", action="store_true", help="SQLite and the embedded broker")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cancel-latency-") as name:
        folder = Path(name)
        database = None if options.embedded else MariaDB(folder / "mariadb").start()
        broker = (EmbeddedBroker if options.embedded else RedisServer)(folder / "broker").start()
        try:
            late = _measure_all(folder, database, broker, options.count)
        finally:
            broker.kill9()
            if database is not None:
                database.kill9()
            guard.close()
    sys.exit(late)


def _measure_all(folder: Path, database: MariaDB | None, broker: EmbeddedBroker | RedisServer, count: int) -> int:
    late = 0
    with (
        ModelServer.start() as model_server,
        Deployment(folder, database=database, broker=broker, model_server=model_server, lease_s=4) as deployment,
    ):
        deployment.start_web()
        deployment.start_web()
        print(f"{'state':24}{'cancels':>8}{'p50':>10}{'p99':>10}{'slowest':>10}")
        for state in STATES:
            result = measure(deployment, state, count)
            median, p99, slowest = (result.percentile(share) for share in (0.5, 0.99, 1.0))
            print(f"{state:24}{count:8}{median * 1000:7.0f} ms{p99 * 1000:7.0f} ms{slowest * 1000:7.0f} ms", flush=True)
            for broken in result.broken:
                print(f"    BROKEN {broken}", flush=True)
            late += p99 >= 1.0 or bool(result.broken)
    return late


if __name__ == "__main__":
    main()
