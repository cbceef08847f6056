"""Who counts as dead, and who resumes with whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db.heartbeats import Heartbeat
from app.sessions.takeover import GROUPS, MOST_ALONE, plan
from worker.process.liveness import Watch

LEASE_S = 10.0


class Workers:
    """Two others besides the one that watches, and the time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.beats = {"own": 0, "one": 0, "other": 0}
        self.watch = Watch(LEASE_S, clock=lambda: self.now)

    def look(self, *moved: str, after_s: float = 1.0) -> list[str]:
        """Who is found dead at a look so long after the last one, before which these have moved."""
        self.now += after_s
        for name in moved:
            self.beats[name] += 1
        return [each.name for each in self.watch.look([Heartbeat(*each, None) for each in self.beats.items()])]


def test_a_heartbeat_that_stands_still_for_a_lease_is_a_death() -> None:
    workers = Workers()
    workers.look("own", "one", "other")

    found = [workers.look("own", "one") for _ in range(11)]

    assert found == [[]] * 9 + [["other"], ["other"]]


def test_a_worker_that_was_just_seen_first_has_a_whole_lease() -> None:
    workers = Workers()
    del workers.beats["other"]
    for _ in range(20):
        workers.look("own", "one")
    workers.beats["other"] = 0

    found = [workers.look("own", "one") for _ in range(11)]

    assert found == [[]] * 10 + [["other"]]


@pytest.mark.parametrize("pause_s", [6.0, 9.0, 30.0, 3600.0])
def test_after_a_time_in_which_nobody_could_look_all_leases_begin_anew(pause_s: float) -> None:
    workers = Workers()
    workers.look("own", "one", "other")
    for _ in range(8):
        workers.look("own", "one")

    first = workers.look("own", after_s=pause_s)
    found = [workers.look("own", "one") for _ in range(10)]

    assert (first, found) == ([], [[]] * 9 + [["other"]])


def test_a_worker_that_moves_again_is_alive() -> None:
    workers = Workers()
    workers.look("own")
    for _ in range(9):
        workers.look("own", "one")

    assert workers.look("own", "one", "other") == []
    assert [workers.look("own", "one") for _ in range(9)] == [[]] * 9


def test_the_one_suspect_is_alone_and_its_attempt_alone_counts() -> None:
    planned = plan(range(1, 26), {7}, started_for=None)

    assert planned.groups[0] == [7]
    assert planned.counted == {7}
    assert len(planned.groups) == 1 + GROUPS
    assert max(len(group) for group in planned.groups) == 6


def test_several_suspects_are_alone_each_and_none_of_them_counts() -> None:
    planned = plan(range(1, 26), {7, 8, 99}, started_for=None)

    assert planned.groups[:2] == [[7], [8]]
    assert planned.counted == set()


def test_without_suspects_nobody_counts_and_a_second_death_halves_the_group() -> None:
    assert [len(group) for group in plan(range(24), (), started_for=None).groups] == [6] * GROUPS
    assert [len(group) for group in plan(range(6), (), started_for=6).groups] == [3, 3]
    assert [len(group) for group in plan(range(3), (), started_for=3).groups] == [2, 1]
    assert plan(range(24), (), started_for=None).counted == plan(range(2), (), started_for=2).counted == set()


@pytest.mark.parametrize("started_for", [None, 1, 6])
def test_who_died_alone_has_used_up_an_attempt(started_for: int | None) -> None:
    planned = plan([5], (), started_for=started_for)

    assert (planned.groups, planned.counted) == ([[5]], {5})


def test_what_was_left_because_it_was_locked_did_not_die_alone() -> None:
    assert plan([5], (), started_for=0).counted == set()


@given(
    held=st.lists(st.integers(1, 500), unique=True, max_size=300),
    suspects=st.sets(st.integers(1, 500)),
    started_for=st.none() | st.integers(0, 300),
)
def test_everybody_resumes_in_one_of_a_few_groups(held: list[int], suspects: set[int], started_for: int | None) -> None:
    planned = plan(held, suspects, started_for=started_for)

    assert sorted(row_id for group in planned.groups for row_id in group) == sorted(held)
    assert all(planned.groups)
    assert len(planned.groups) <= MOST_ALONE + GROUPS
    assert planned.counted <= set(held)
    assert len(planned.counted) <= 1
    if len(held) > 1:
        assert all(len(group) < len(held) for group in planned.groups)
