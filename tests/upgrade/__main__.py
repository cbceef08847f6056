"""python -m tests.upgrade [--from COMMIT] [--sessions N] [--python PATH] [--keep]"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from .run import upgrade


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="commit", default="535d0e0", help="the older version")
    parser.add_argument("--sessions", type=int, default=20_000, help="that it has stored")
    parser.add_argument("--python", default=sys.executable, help="of an environment for the older version")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and data")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="upgrade-"))
    print(f"logs are in {folder}")
    wrong = upgrade(arguments.commit, arguments.sessions, str(Path(arguments.python).absolute()), folder)
    for line in wrong[:50]:
        print(f"WRONG: {line}")
    if not wrong:
        print("nothing was lost, nothing was refused for long")
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
