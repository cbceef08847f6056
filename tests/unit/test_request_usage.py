"""What model requests took: counts, prices, estimates."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agents import Agents
from app.errors import Invalid
from app.events import OpenRequest, Usage
from app.prices import Prices
from worker.orchestrator import Asked
from worker.process.spending import Spending

PRICES = Prices(input=250_000, output=2_000_000, cache_read=25_000, cache_write=300_000)

counts = st.integers(0, 2**31 - 1)
prices = st.builds(Prices, *[st.integers(0, 10**9)] * 4)


@given(st.builds(OpenRequest, counts, st.none() | prices, counts))
def test_an_open_request_comes_back_from_its_column_as_it_was(request_: OpenRequest) -> None:
    text = request_.to_text()

    assert len(text) <= 255
    assert OpenRequest.from_text(text) == request_


@given(st.lists(st.builds(Usage, counts, counts, counts, counts, counts, st.booleans())))
def test_sums_stay_within_what_the_columns_hold(usages: list[Usage]) -> None:
    total = sum(usages, Usage())

    assert max(*total.counts, total.total_tokens) <= 2**31 - 1
    assert total.estimated is any(each.estimated for each in usages)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(1_000_000, 1_000_000), 2_250_000),
        (Usage(1_000_000, 0, 400_000, 100_000), 125_000 + 10_000 + 30_000),
        # A part of a micro-unit is one: nothing that has a price is free.
        (Usage(1, 0), 1),
        (Usage(0, 0), 0),
        # Some providers count what was read from the cache beside the input.
        (Usage(0, 0, 1_000_000), 25_000),
    ],
)
def test_a_count_costs_what_the_prices_say(usage: Usage, cost: int) -> None:
    assert usage.priced(PRICES).cost == cost


def test_without_prices_tokens_cost_nothing() -> None:
    assert Usage(10, 10).priced(None).cost == 0


def make_spending(used: Usage | None = None) -> Spending:
    return Spending(used or Usage(), {"dear": PRICES}.get, "cheap")


def test_each_request_counts_with_the_prices_of_its_model() -> None:
    spending = make_spending()

    for step in (Asked(1, "dear"), Usage(1_000_000), Asked(1), Usage(1_000_000)):
        spending.take(step, 0)

    assert spending.used(0) == Usage(2_000_000, cost=250_000)


def test_a_request_that_is_cut_off_counts_its_input_and_what_it_had_said() -> None:
    spending = make_spending(Usage(5, 5))

    spending.take(Asked(100), 40)

    assert spending.used(40 + 8) == Usage(105, 5 + 2, estimated=True)
    assert spending.stored == (Usage(5, 5), OpenRequest(100))


def test_a_request_of_which_nothing_was_said_is_estimated_when_the_next_one_begins() -> None:
    spending = make_spending()

    for step, said in ((Asked(100), 0), (Asked(200), 4), (Usage(7, 7), 9)):
        spending.take(step, said)

    assert spending.used(9) == Usage(107, 8, estimated=True)


def test_a_request_that_was_refused_counts_nothing() -> None:
    spending = make_spending()

    spending.take(Asked(100), 0)
    spending.take(Usage(), 0)

    assert spending.of_end(None, 0) is None


def test_what_was_counted_on_the_way_is_never_taken_back_by_the_end() -> None:
    spending = make_spending()
    spending.take(Usage(10, 4), 0)

    assert spending.of_end(Usage(12, 1), 0) == Usage(12, 4)
    assert make_spending().of_end(Usage(12, 1), 0) == Usage(12, 1)


FILE = """
[[prices]]
model = "m"
from = 2026-01-01
input = 0.25
output = 2

[[prices]]
model = "m"
from = 2026-08-01
input = 0.000001
output = 1.10
cache_read = 0
cache_write = 0.5
"""


def load(folder: Path, text: str) -> Agents:
    path = folder / "agents.toml"
    path.write_text(text, "utf-8")
    return Agents.load(str(path))


def test_a_price_holds_from_its_date_on(tmp_path: Path) -> None:
    agents = load(tmp_path, FILE)

    assert agents.prices("m", date(2025, 12, 31)) is None
    assert agents.prices("m", date(2026, 7, 31)) == Prices(250_000, 2_000_000, 250_000, 250_000)
    assert agents.prices("m", date(2026, 8, 1)) == Prices(1, 1_100_000, 0, 500_000)
    assert agents.prices("another") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.25", "0.0000001"),
        ("0.25", "-1"),
        ("0.25", "inf"),
        ("0.25", "nan"),
        ("0.25", "true"),
        ("0.25", '"free"'),
        ("2026-08-01", "2026-01-01"),
        ("output = 2\n", ""),
    ],
)
def test_prices_that_make_no_sense_are_refused(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(Invalid):
        load(tmp_path, FILE.replace(old, new, 1))
