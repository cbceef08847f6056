"""python -m tests.chaos --seed 7 [--runs 10] [--sessions 200] [--short] [--loud]"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.chaos.plan import LONG, SHORT
from tests.chaos.run import dump, run
from tests.servers import guard


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Break everything, and see that nothing is lost."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1, help="this many seeds in a row")
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--short", action="store_true", help="the form that runs with the tests")
    parser.add_argument("--loud", action="store_true", help="tell what happens as it happens")
    options = parser.parse_args()
    scale = SHORT if options.short else LONG
    if options.sessions:
        scale = replace(scale, sessions=options.sessions)
    failed = []
    for seed in range(options.seed, options.seed + options.runs):
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
        print(f"seed {seed}, logs in {folder}", flush=True)
        report = run(seed, scale, folder, loud=options.loud)
        dump(report)
        print(report, flush=True)
        if report.passed:
            shutil.rmtree(folder)
        else:
            failed.append(seed)
    guard.close()
    if failed:
        sys.exit(f"failed: seeds {', '.join(map(str, failed))}")


if __name__ == "__main__":
    main()
