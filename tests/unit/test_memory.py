"""What is free goes back to the system when a process has grown."""

from __future__ import annotations

from worker.process.memory import Memory, give_back, resident_bytes

MIB = 1024 * 1024


class Process:
    """What a process has in memory, and how much of it is in use."""

    def __init__(self, mib: int) -> None:
        self.resident = self.used = mib * MIB
        self.given_back = 0

    def give_back(self) -> None:
        self.resident = self.used
        self.given_back += 1


def watching(process: Process) -> Memory:
    memory = Memory(resident=lambda: process.resident, give_back=process.give_back)
    memory.look()
    process.given_back = 0
    return memory


def test_what_a_large_session_had_goes_back() -> None:
    process = Process(100)
    memory = watching(process)

    process.resident = 300 * MIB
    memory.look()

    assert (process.resident, process.given_back) == (100 * MIB, 1)


def test_nothing_is_given_back_while_nothing_grows() -> None:
    process = Process(100)
    memory = watching(process)

    for mib in (101, 103, 99, 104):
        process.resident = mib * MIB
        memory.look()

    assert process.given_back == 0


def test_what_is_in_use_is_not_given_back_again_and_again() -> None:
    process = Process(100)
    memory = watching(process)

    process.resident = process.used = 300 * MIB
    for _ in range(5):
        memory.look()

    assert process.given_back == 1


def test_growth_counts_from_the_least_that_was_seen() -> None:
    process = Process(300)
    memory = watching(process)

    for mib in (100, 150):
        process.resident = mib * MIB
        process.used = 100 * MIB
        memory.look()

    assert (process.resident, process.given_back) == (100 * MIB, 1)


class Circle:
    """Something large that refers to itself."""

    def __init__(self) -> None:
        self.pieces = [bytes(1000) for _ in range(100_000)]
        self.itself = self


def test_what_a_circle_holds_goes_back_too() -> None:
    circle = Circle()
    kept = circle.pieces[::1000]
    before = resident_bytes()

    del circle
    give_back()

    assert len(kept) == 100
    assert 0 < resident_bytes() < before - 50 * MIB
