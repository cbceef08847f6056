"""The part of a conversation that the model sees: the newest exchanges that fit, whole ones only.

An exchange is a user's message and the complete answer to it, as text: tool calls stay in the history of the agent, so
none can be torn from its result. Failed and cancelled turns are no exchanges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.agents import Agent
from app.conversations.exchanges import Exchange
from app.db.times import iso
from worker.orchestrator import Message

#: What roles and separators of one message cost.
MESSAGE_TOKENS = 4
_BYTES_PER_TOKEN = 3


def estimate_tokens(text: str) -> int:
    """Tokens of *text*, rather too many than too few: one for each three bytes of UTF-8.

    Counting exactly would need the tokenizer of each model. English prose has about four bytes to a token, code and
    Cyrillic about three, Chinese and Japanese three to four.
    """
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)


def budget_tokens(agent: Agent, message: str, instructions: str = "") -> int:
    """Tokens that earlier exchanges may take: the agent's share of its window, less what is always sent."""
    share = agent.context_tokens * agent.context_percent // 100
    always = sum(map(estimate_tokens, (agent.instructions, instructions, message))) + 2 * MESSAGE_TOKENS
    return max(0, share - always)


def fit(newest_first: Iterable[Exchange], tokens: int) -> tuple[list[Message], bool]:
    """Messages of the newest exchanges that fit into *tokens*, oldest first, and whether these are all.

    Stops at the first that does not fit.
    """
    kept: list[Exchange] = []
    whole = True
    for exchange in newest_first:
        tokens -= estimate_tokens(exchange.user) + estimate_tokens(exchange.assistant) + 2 * MESSAGE_TOKENS
        if tokens < 0:
            whole = False
            break
        kept.append(exchange)
    messages = [
        Message(role, content, iso(exchange.created_at) or "")
        for exchange in reversed(kept)
        for role, content in (("user", exchange.user), ("assistant", exchange.assistant))
    ]
    return messages, whole


def fit_messages(said: Sequence[Message], tokens: int) -> tuple[list[Message], int]:
    """The newest messages that fit into *tokens*, from one of the user's on, and how many of the user's do not.

    Those of the role `system` are always kept.
    """
    tokens -= sum(_cost(each) for each in said if each.role == "system")
    first = len(said)
    for index in range(len(said) - 1, -1, -1):
        if said[index].role != "system":
            tokens -= _cost(said[index])
        if tokens < 0:
            break
        first = index
    # An answer whose question was cut off would look like the assistant's first word.
    while 0 < first < len(said) and said[first].role == "assistant":
        first += 1
    kept = [each for index, each in enumerate(said) if index >= first or each.role == "system"]
    return kept, sum(each.role == "user" for each in said[:first])


def _cost(message: Message) -> int:
    return estimate_tokens(message.content) + MESSAGE_TOKENS
