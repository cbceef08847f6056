"""The points of `make crash`: none is left out, and a sample has some of each kind."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.points import FAULTS, points_of, sample
from tests.servers import ROOT, environment_of

CALLS = ["begin BEGIN", "statement UPDATE a", "statement UPDATE b", "commit COMMIT", "committed COMMIT", "redis SET"]


def test_each_call_is_a_point_for_each_of_its_faults() -> None:
    points = list(points_of("run", CALLS))

    assert len(points) == sum(len(FAULTS[call.split()[0]]) for call in CALLS)
    assert len(set(points)) == len(points)
    assert {(point.at, point.label) for point in points if point.kind == "statement"} == {
        (1, "UPDATE a"),
        (2, "UPDATE b"),
    }


def test_a_sample_follows_from_its_seed_and_has_some_of_each_kind_and_fault() -> None:
    points = list(points_of("run", CALLS * 3))
    kinds = {(point.kind, point.fault) for point in points}

    chosen = sample(points, len(kinds), seed=1)

    assert {(point.kind, point.fault) for point in chosen} == kinds
    assert chosen == sample(points, len(kinds), seed=1) != sample(points, len(kinds), seed=2)
    assert len(sample(points, 1000)) == len(points)


PROCESS = """
import sys
from tests.crash import hook
hook.install("worker")
from app import db
db.open_database("sqlite:///" + sys.argv[1] + "/a.db")
try:
    db.transaction(lambda: db.sql("INSERT INTO a VALUES (1)"))
except Exception as error:
    print(type(error).__name__)
print(db.reading(lambda: db.sql("SELECT * FROM a").fetchall()))
"""


@pytest.mark.parametrize(
    ("order", "status", "says"),
    [
        ("1 worker statement 1 kill", -9, []),
        ("1 worker committed 1 break", 0, ["DatabaseUnavailable", "[(1,)]"]),
    ],
)
def test_a_process_is_harmed_at_the_call_that_is_named(
    tmp_path: Path, order: str, status: int, says: list[str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute("CREATE TABLE a (id INTEGER)")
    (tmp_path / "order").symlink_to(order)

    run = subprocess.run(
        [sys.executable, "-c", PROCESS, str(tmp_path)],
        cwd=ROOT,
        env=environment_of({"CRASH_FOLDER": str(tmp_path)}),
        capture_output=True,
        text=True,
    )

    assert (run.returncode, run.stdout.splitlines()) == (status, says), run
    assert (tmp_path / "fired-1").exists()
