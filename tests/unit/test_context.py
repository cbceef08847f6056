"""What of a conversation fits the model's window."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conversations.exchanges import Exchange
from tests.turns import make_agent
from worker.process import model_context

AT = datetime(2026, 3, 1, tzinfo=UTC)


def exchange(user: str, assistant: str = "") -> Exchange:
    return Exchange(user, assistant, AT)


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abc", 1), ("abcd", 2), ("жж", 2), ("東京", 2), ("🙂", 2)]
)
def test_a_token_is_three_bytes(text: str, tokens: int) -> None:
    assert model_context.estimate_tokens(text) == tokens


def test_half_a_surrogate_pair_is_counted_too() -> None:
    assert model_context.estimate_tokens("\ud800") == 1


def test_the_budget_is_the_agents_share_less_what_is_always_sent() -> None:
    agent = make_agent(context_tokens=1000, instructions="x" * 300)

    assert model_context.budget_tokens(agent, "y" * 30) == 800 - 100 - 10 - 2 * model_context.MESSAGE_TOKENS
    assert model_context.budget_tokens(make_agent(context_tokens=1000, context_percent=50, instructions=""), "") == 492
    assert model_context.budget_tokens(agent, "y" * 30_000) == 0


def test_the_newest_exchanges_are_kept_in_their_order() -> None:
    each = 2 * (1 + model_context.MESSAGE_TOKENS)
    newest_first = [exchange(f"u{n}", f"a{n}") for n in (3, 2, 1)]

    kept, whole = model_context.fit(newest_first, 2 * each)

    assert [(message.role, message.content) for message in kept] == [
        ("user", "u2"), ("assistant", "a2"), ("user", "u3"), ("assistant", "a3"),
    ]  # fmt: skip
    assert kept[0].created_at == "2026-03-01T00:00:00.000Z"
    assert not whole
    assert model_context.fit(newest_first, 3 * each)[1]


def test_nothing_older_is_kept_than_what_did_not_fit() -> None:
    newest_first = [exchange("new"), exchange("x" * 3000), exchange("old")]

    kept, whole = model_context.fit(newest_first, 500)

    assert [message.content for message in kept] == ["new", ""]
    assert not whole


def test_no_more_is_read_than_what_fits() -> None:
    read = []

    def newest_first():  # type: ignore[no-untyped-def]
        for number in range(100):
            read.append(number)
            yield exchange("x" * 300)

    model_context.fit(newest_first(), 330)

    assert read == [0, 1, 2, 3]


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), max_size=12), st.integers(0, 400))
def test_whole_exchanges_are_kept_and_as_many_as_fit(said: list[tuple[str, str]], tokens: int) -> None:
    newest_first = [exchange(user, assistant) for user, assistant in said]

    kept, whole = model_context.fit(newest_first, tokens)

    def cost(messages: list[str]) -> int:
        return sum(model_context.estimate_tokens(text) + model_context.MESSAGE_TOKENS for text in messages)

    assert len(kept) % 2 == 0
    assert whole == (len(kept) // 2 == len(said))
    assert cost([message.content for message in kept]) <= tokens
    turns = len(kept) // 2
    assert [message.content for message in kept] == [text for pair in reversed(said[:turns]) for text in pair]
    if turns < len(said):
        assert cost([message.content for message in kept] + list(said[turns])) > tokens
