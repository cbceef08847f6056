"""The demo model understands what the page proposes, and what people write in its place."""

from __future__ import annotations

import asyncio
import re
import time
import zoneinfo
from collections.abc import Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import ROOT
from worker.calculator import CannotCalculate, evaluate
from worker.engine.demo.arithmetic import expressions
from worker.engine.demo.places import ALSO, places
from worker.engine.demo.reading import read
from worker.tools import current_time


@pytest.mark.parametrize(
    ("question", "values"),
    [
        ("What is 17 % of 2,340, plus 8?", ["405.8"]),
        ("Compute 17 percent of 2,340 and add 8.", ["405.8"]),
        ("Add 8 to 17% of 2340", ["405.8"]),
        ("What's 12.5% of 80?", ["10"]),
        ("12.5 per cent of $80, please", ["10"]),
        ("How much is 15% of 15% of 1,000?", ["22.5"]),
        ("$1,200 plus 15%", ["1380"]),
        ("What is 200 - 10%?", ["180"]),
        ("80 increased by 10 % and then divided by 2", ["44"]),
        ("20% off 1,250.50", ["1000.4"]),
        ("50% + 25%", ["0.75"]),
        ("What is 10 % 3?", ["1"]),
        ("3 times 4,500", ["13500"]),
        ("3x4 and 5 x 6", ["12", "30"]),
        ("multiply 3 by 4,500", ["13500"]),
        ("1,234,567.89 divided by 3", ["411522.63"]),
        ("12 000 / 3", ["4000"]),
        ("Divide 10,000 by 4, then subtract 7", ["2493"]),
        ("subtract 5 from 12", ["7"]),
        ("the sum of 2, 3 and 4", ["9"]),
        ("What is the difference between 10 and 4?", ["6"]),
        ("(2+3)^2", ["25"]),
        ("(2 plus 3) squared", ["25"]),
        ("2 to the power of 10", ["1024"]),
        ("2 plus 3 times 4", ["14"]),
        ("100 - (7 - 3) - 1", ["95"]),
        ("2^3^2", ["512"]),
        ("-2 + 5", ["3"]),
        ("What is 3 + 4? And 5 * 6?", ["7", "30"]),
        ("0.1 + 0.2", ["0.3"]),
        ("Сколько будет 17 % от 2340, плюс 8?", ["405.8"]),
        ("Сколько будет 12,5 % от 80?", ["10"]),
        ("Умножь 3 на 4 500", ["13500"]),
        ("10 разделить на 4 минус 0,5", ["2"]),
        ("I have 2 cats plus 3 dogs", []),
        ("24/7 support for GPT-5 since 2026-11-25 at 10:30, Python 3.11.7", []),
        ("one of 5 examples, about 17 %", []),
    ],
)
def test_arithmetic_is_understood_as_people_write_it(question: str, values: list[str]) -> None:
    assert [evaluate(expression) for expression in expressions(question)] == values


@given(st.text(st.sampled_from("0123456789.,+-*/%()^ x=\n"), max_size=40))
def test_what_is_found_in_any_text_was_read_right(text: str) -> None:
    for expression in expressions(text):
        reason = ""
        try:
            evaluate(expression)
        except CannotCalculate as error:
            reason = str(error)
        # Only a value can be at fault.
        assert not reason or re.search("zero|too large|whole exponents", reason), expression


@pytest.mark.parametrize("text", [piece * 9_000 for piece in ("(", "-", "2^", "1-(", "1% of ", "1,")])
def test_no_text_takes_long_to_read(text: str) -> None:
    started = time.process_time()

    read(text)

    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("question", "zones"),
    [
        ("What time is it in Tokyo and in Lisbon?", ["Asia/Tokyo", "Europe/Lisbon"]),
        ("time in New York, Berlin and Sydney", ["America/New_York", "Europe/Berlin", "Australia/Sydney"]),
        ("how late is it in são paulo?", ["America/Sao_Paulo"]),
        ("San Francisco and Los Angeles", ["America/Los_Angeles"] * 2),
        ("Is it today in St. Petersburg or in Mumbai?", ["Europe/Moscow", "Asia/Kolkata"]),
        ("The clock in Zürich, the UK, EST and Europe/Kyiv", ["Europe/Zurich", "Europe/London", "EST", "Europe/Kyiv"]),
        ("Eastern Time and Pacific time", ["America/New_York", "America/Los_Angeles"]),
        ("Который час в Токио, Нью-Йорке и Москве?", ["Asia/Tokyo", "America/New_York", "Europe/Moscow"]),
        ("We met in the east, act one, est. 1990, about Romeo", []),
    ],
)
def test_places_are_known_with_their_time_zones(question: str, zones: list[str]) -> None:
    assert list(places(question).values()) == zones


@pytest.fixture
def _no_tz_database_of_the_system() -> Iterator[None]:
    zoneinfo.reset_tzpath(to=[])
    ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    ZoneInfo.clear_cache()


@pytest.mark.usefixtures("_no_tz_database_of_the_system")
def test_time_zones_are_known_where_the_system_has_none() -> None:
    assert asyncio.run(current_time("Asia/Tokyo")).endswith("JST (UTC+0900)")
    assert ZoneInfo("Europe/Lisbon").utcoffset(None) != timedelta(hours=9)


def test_every_zone_that_a_place_stands_for_exists() -> None:
    assert set(ALSO) <= zoneinfo.available_timezones()


def test_the_cards_of_the_page_are_among_the_questions_that_are_tested() -> None:
    texts = "".join(path.read_text("utf-8") for path in sorted((ROOT / "app/web/texts").glob("*.js")))
    lists = re.findall(r"^  examples: \[(.*)\],$", texts, re.MULTILINE)
    cards = [card for cards in lists for card in re.findall(r"'([^']+)'", cards)]

    answered = (ROOT / "tests/integration/test_engine_answers.py").read_text("utf-8")
    assert len(cards) == 6
    assert [card for card in cards if card not in answered] == []
