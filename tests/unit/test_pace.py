"""The pause in which deltas gather follows the load."""

from __future__ import annotations

from worker.engine.transport import LONGEST_S, SHORTEST_S, Pace


class Machine:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0
        self.pace = Pace(lambda: self.now, lambda: self.cpu)

    def run(self, seconds: float, busy: float, late_s: float = 0.0) -> float:
        for _ in range(int(seconds / 0.1)):
            self.now += 0.1
            self.cpu += 0.1 * busy
            self.pace.slept(0.1, 0.1 + late_s)
        return self.pace.pause_s


def test_it_is_short_while_there_is_time() -> None:
    assert Machine().run(10, busy=0.1) == SHORTEST_S


def test_it_grows_while_the_loop_is_busy_up_to_a_limit() -> None:
    machine = Machine()

    assert SHORTEST_S < machine.run(1, busy=0.9) < LONGEST_S
    assert machine.run(20, busy=0.9) == LONGEST_S


def test_it_grows_when_pauses_end_late_although_this_process_is_idle() -> None:
    assert Machine().run(5, busy=0.1, late_s=0.5) > SHORTEST_S


def test_it_shrinks_when_the_load_is_gone() -> None:
    machine = Machine()
    machine.run(20, busy=0.9)

    assert machine.run(20, busy=0.1) == SHORTEST_S
