"""Clients that can take nothing back end with the right text, however often the answer is superseded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.api.compat.append_only import AppendOnly

AGAIN = "\n[again]\n"


def shown(steps: list[tuple[str, str]]) -> tuple[str, str]:
    """What a client shows after *steps*, and what the answer is."""
    client = AppendOnly(AGAIN)
    sent, text = "", ""
    for kind, value in steps:
        if kind == "add":
            text += value
            sent += client.add(value, lambda now=text: now)  # type: ignore[misc]
        else:
            text = text[: int(value)]
            sent += client.reset(text)
    return sent + client.finish(text), text


def test_text_that_comes_again_is_not_sent_again() -> None:
    steps = [("add", "Hello "), ("add", "wor"), ("reset", "0"), ("add", "Hel"), ("add", "lo world"), ("add", "!")]

    assert shown(steps) == ("Hello world!", "Hello world!")


def test_at_the_first_difference_all_of_the_new_text_is_sent_after_a_line() -> None:
    assert shown([("add", "Hello"), ("reset", "2"), ("add", "l"), ("add", "p me")])[0] == f"Hello{AGAIN}Help me"


def test_an_answer_that_ends_before_what_was_sent_is_sent_again() -> None:
    assert shown([("add", "Hello"), ("reset", "0"), ("add", "He")])[0] == f"Hello{AGAIN}He"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.text("ab", min_size=1, max_size=3)),
            st.tuples(st.just("reset"), st.integers(0, 5).map(str)),
        ),
        max_size=30,
    )
)
def test_what_stands_after_the_last_line_is_the_answer(steps: list[tuple[str, str]]) -> None:
    sent, text = shown(steps)

    assert sent.split(AGAIN)[-1] == text
