"""Spending is bounded: by the balance of the account, and by what an agent may spend on a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app import accounts, db
from app.accounts import ledger
from app.db.account_models import LedgerRow
from app.db.models import Session
from app.errors import BalanceExhausted, ConversationFull, QueueFull, TooManySessions
from app.events import Done, Error, OpenRequest, Thinking, Usage
from app.sessions import admission, end
from app.sessions.admission import Limits
from app.sessions.commit import Batch
from tests.factories import (
    OWNER,
    at_once,
    make_claim,
    make_created,
    make_session,
    orphan,
    record,
    statements,
    write,
)
from tests.stage import Stage, saying, working
from worker.orchestrator import Asked, Turn

pytestmark = pytest.mark.usefixtures("store")

#: What one request takes: its input is known before, its output is not.
INPUT, OUTPUT = 8, 2
#: Sessions that run at once.
AT_ONCE = 20


def balance() -> int:
    account = accounts.find(OWNER)
    assert account is not None
    return account.balance


def credit(amount: int) -> None:
    ledger.add(OWNER, "credit", amount, unit="tokens")


async def one_request(turn: Turn) -> AsyncIterator[Any]:
    yield Asked(INPUT)
    await asyncio.sleep(0)
    yield "answer"
    yield Usage(INPUT, OUTPUT)
    yield Done(model="m")


def test_a_post_without_balance_is_refused_before_anything_is_stored(stage: Stage) -> None:
    credit(10)
    claim = make_claim()
    record(Batch(claim, 0, [Thinking("")], used=(Usage(7, 3), None)))

    problem = stage.post("Hello?", 402)

    assert problem["code"] == "balance_exhausted"
    assert db.reading(lambda: Session.select().count()) == 1
    credit(1)
    stage.post("Hello?")


def test_five_hundred_posts_on_a_balance_for_a_hundred_overspend_by_no_more_than_is_said(
    make_stage: Callable[..., Stage], store: str
) -> None:
    if store.startswith("sqlite"):
        pytest.skip("it writes one at a time")
    stage = make_stage(flush_ms=5, lease_s=60)
    credit(100 * (INPUT + OUTPUT))

    posted = at_once([lambda: [make_session() for _ in range(25)]] * 20)
    session_ids = [session_id for some in posted if isinstance(some, list) for session_id in some]
    # Some had a worker that was killed: one between two requests, one in a request.
    for n, used in enumerate([(Usage(INPUT, OUTPUT), None), (Usage(), OpenRequest(INPUT))]):
        claim = make_claim(session_ids[n])
        record(Batch(claim, 0, [Thinking("")], used=used))
        orphan(claim.session_id)

    with working(stage.settings, one_request) as worker:

        async def run_all() -> None:
            places = asyncio.Semaphore(AT_ONCE)

            async def run(session_id: str) -> None:
                async with places:
                    await worker.process.run(session_id)

            await asyncio.gather(*[run(session_id) for session_id in session_ids])

        worker.do(run_all())

    ended = db.reading(lambda: db.tuples(Session.select(Session.session_id, Session.error_code, Session.total_tokens)))
    codes = [code for _, code, _ in ended]
    assert len(codes) == 500
    assert codes.count("budget_exhausted") == 500 - codes.count(None)
    # Each request that is under way may say more than its estimate.
    assert -AT_ONCE * OUTPUT <= balance() < INPUT + OUTPUT
    debits = LedgerRow.select(LedgerRow.reference, LedgerRow.amount).where(LedgerRow.kind == "debit")
    assert dict(db.reading(lambda: db.tuples(debits))) == {each: -tokens for each, _, tokens in ended if tokens}


def test_a_turn_whose_balance_is_used_up_ends_with_what_it_had_said(stage: Stage) -> None:
    credit(25)
    steps = ["The first. ", Asked(10), Usage(10, 5), Asked(10), "not said"]
    with working(stage.settings, saying(*steps[:1], *steps[1:])) as worker:
        session = stage.ask(worker, "Hello?")

    assert session["errorCode"] is None
    assert balance() == 25 - session["totalTokens"]

    credit(20 - balance())
    with working(stage.settings, saying(*steps)) as worker:
        session = stage.ask(worker, "Hello?")

    assert (session["status"], session["errorCode"]) == ("error", "budget_exhausted")
    assert (session["finalResponse"], session["totalTokens"]) == ("The first. ", 15)
    assert balance() == 5


def test_a_turn_takes_no_more_than_its_agent_allows(make_stage: Callable[..., Stage], tmp_path: Any) -> None:
    path = tmp_path / "agents.toml"
    path.write_text('[[agents]]\nid = 1\nname = "A"\nmax_turn_tokens = 30\n', "utf-8")
    stage = make_stage(agents_file=str(path))
    steps = [Asked(10), "one ", Usage(10, 5), Asked(10), "two ", Usage(10, 2), Asked(10), "three "]
    with working(stage.settings, saying(*steps)) as worker:
        session = stage.ask(worker, "Hello?")

    assert (session["errorCode"], session["finalResponse"]) == ("budget_exhausted", "one two ")
    assert session["totalTokens"] == 27


def test_the_engine_does_not_ask_a_model_without_a_budget(stage: Stage) -> None:
    credit(1)
    with working(stage.settings) as worker:
        session = stage.ask(worker, "What is 2 + 2?")

    assert (session["errorCode"], session["totalTokens"]) == ("budget_exhausted", 0)


# limits of what runs and waits

LIMITS: dict[str, tuple[Limits, type[Exception]]] = {
    "of one owner": (Limits(sessions_per_owner=3), TooManySessions),
    "in one conversation": (Limits(sessions_per_conversation=3), ConversationFull),
    "in all": (Limits(sessions=3), QueueFull),
}


@pytest.mark.parametrize("name", LIMITS)
def test_no_more_sessions_run_and_wait_than_may(name: str) -> None:
    limits, error = LIMITS[name]
    conversation_id = make_created(owner="other" if name == "in all" else OWNER).conversation_id
    fields = {"limits": limits} | ({} if name == "in all" else {"conversation_id": conversation_id})
    make_session(**fields)
    last = make_session(**fields)

    with pytest.raises(error) as refused:
        make_session(**fields)

    assert refused.value.retry_s > 0  # type: ignore[attr-defined]
    end(last, Error("cancelled", "stopped"))
    make_session(**fields)


def test_others_are_not_limited_by_what_one_owner_has() -> None:
    limits = Limits(sessions_per_owner=1, sessions_per_conversation=1)
    make_session(limits=limits)

    make_session(owner="other", limits=limits)


def test_a_key_that_was_used_is_its_session_also_at_the_limit() -> None:
    fields = {"idempotency_key": "k", "limits": Limits(sessions_per_owner=1)}

    assert make_session(**fields) == make_session(**fields)


def test_admission_is_one_statement_for_owners_without_an_account() -> None:
    limits = Limits(10, 10, 10)
    with db.connected(), statements() as asked:
        admission.admit(OWNER, "c", limits)

    assert len(asked) == 1
    credit(1)
    admission.admit(OWNER, "c", limits)


def test_a_balance_that_others_use_up_is_none_of_mine() -> None:
    ledger.add("other", "credit", 1, unit="tokens")
    claim = make_claim(make_session(owner="other"))
    write(claim, Done("x", usage=Usage(10, 5)))

    make_session()
    with pytest.raises(BalanceExhausted):
        make_session(owner="other")
