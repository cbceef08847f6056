"""Notes of a worker: whose code ran when it died, and the proof that it did."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from uuid import uuid4

import pytest

from app import notes
from app.notes import BLOCKED, LOOP, Left, Notes


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def dies_noting(name: str, numbers: dict[int, int], cause: str | None = None) -> None:
    """A process that notes these and is killed."""
    if (pid := os.fork()) == 0:
        made = Notes(name)
        for place, number in numbers.items():
            made.numbers[place] = number
        if cause is not None:
            made.ends_because(cause)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def test_what_a_killed_process_noted_is_there() -> None:
    name = f"host-1-{uuid4()}"

    dies_noting(name, {LOOP: 7, 5: 2**40, 9: 7})

    assert notes.left_by(name) == Left((7, 2**40), None)
    notes.forget(name)
    assert notes.left_by(name) is None


def test_a_process_that_blocked_its_loop_says_so() -> None:
    name = f"host-1-{uuid4()}"

    dies_noting(name, {LOOP: 7}, BLOCKED)

    assert notes.left_by(name) == Left((7,), BLOCKED)


def test_of_a_living_process_nobody_can_say_that_it_died() -> None:
    name = f"host/../1-{uuid4()}"
    made = Notes(name)
    made.numbers[LOOP] = 3

    assert notes.left_by(name) is None
    assert notes.suspects_of(name) == (3,)
    assert (made.on_loop, made.suspects()) == (3, [3])

    made.close()
    assert notes.suspects_of(name) is None


def test_a_worker_of_another_machine_has_no_notes_here() -> None:
    assert notes.left_by("elsewhere") is None
    assert notes.suspects_of("elsewhere") is None


def test_without_a_folder_of_its_own_a_worker_notes_for_nobody(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"backchat-{os.getuid()}").symlink_to(elsewhere)

    made = Notes("host-1")
    made.numbers[LOOP] = 3

    assert (notes.left_by("host-1"), made.on_loop) == (None, 3)
    assert list(elsewhere.iterdir()) == []
    made.close()


def test_a_place_is_used_again_and_more_threads_than_places_are_no_fault() -> None:
    made = Notes("host-1")

    places = [made.take_place() for _ in range(600)]

    assert places.count(None) > 0
    first = places[0]
    assert first is not None
    made.numbers[first] = 9
    made.give_back(first)
    assert (made.suspects(), made.take_place()) == ([], first)
    made.close()
