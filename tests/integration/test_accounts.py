"""Accounts: the ledger is exact, whatever happens to the sessions that are charged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

import pytest

from app import accounts, db, sessions
from app.accounts import ledger
from app.db.account_models import AccountRow, LedgerRow
from app.errors import Invalid, NotFound
from app.events import Done, Error, OpenRequest, Thinking, ToolCall, Usage
from app.sessions import removal, spending
from app.sessions.commit import Batch, Committed
from tests.factories import (
    OWNER,
    at_once,
    change,
    exists,
    failures,
    make_claim,
    make_session,
    orphan,
    record,
    row,
    statements,
    try_claim,
    write,
)
from tests.stage import Stage, Worker, saying, working
from worker.orchestrator import Asked, Checkpoint, Turn

pytestmark = pytest.mark.usefixtures("store")


def credit(amount: int = 1_000_000, owner: str = OWNER, **fields: Any) -> None:
    ledger.add(owner, "credit", amount, **({"unit": "tokens"} | fields))


def balance(owner: str = OWNER) -> int:
    account = accounts.find(owner)
    assert account is not None
    return account.balance


def debits() -> dict[str, int]:
    """What each session was debited."""
    query = LedgerRow.select(LedgerRow.reference, LedgerRow.amount).where(LedgerRow.kind == "debit")
    rows = db.reading(lambda: db.tuples(query))
    assert len({session_id for session_id, _ in rows}) == len(rows)
    return {session_id: -amount for session_id, amount in rows}


def used_tokens(session_id: str) -> int:
    return int(row(session_id).total_tokens)


# debits: whoever ends a session, between any two commits of its run


async def _answer(turn: Turn) -> AsyncIterator[Any]:
    """Two requests with a tool call between them; 100 and 200 tokens."""
    if turn.checkpoint is None:
        yield Asked(50)
        yield Checkpoint(None)
        yield "The first answer. "
        yield Usage(80, 20)
        yield ToolCall("c", "tool", {})
        yield Checkpoint({"answered": 1})
        yield ToolCall("c", "tool", {}, "result", True)
        yield Checkpoint({"answered": 1, "ran": 1})
    yield Asked(120)
    yield "The second answer, of which much was said before it "
    # Comes back once everything until here is stored.
    yield Checkpoint({"answered": 1, "ran": 1})
    yield "was whole."
    yield Usage(150, 50)
    yield Done(model="m")


class Interrupted:
    """Does *fault* after the commit number *at* of the run."""

    def __init__(self, worker: Worker, session_id: str, at: int, fault: Callable[[str], object]) -> None:
        self._writer = worker.process._writer
        self._session_id = session_id
        self._at = at
        self._fault = fault
        self.commits = 0
        #: What the session had used by then.
        self.used: Usage | None = None

    def __enter__(self) -> Interrupted:
        self._record = self._writer._record
        self._writer._record = self
        return self

    def __exit__(self, *_: object) -> None:
        self._writer._record = self._record

    def __call__(self, batches: Sequence[Batch]) -> list[Committed]:
        outcomes = self._record(batches)
        self.commits += 1
        if self.commits == self._at:
            self.used = db.reading(lambda: spending.of(row(self._session_id)))
            self._fault(self._session_id)
        return outcomes


def kill(session_id: str) -> None:
    """Another worker takes it over, as after the death of its own, and dies as well before it has done anything."""
    orphan(session_id)
    if row(session_id).status == "running":
        assert try_claim(session_id, max_attempts=9)


def interrupt(session_id: str) -> None:
    sessions.create(
        sessions.NewSession(OWNER, "Stop!", 1, "demo", row(session_id).conversation_id, on_busy="interrupt")
    )


def time_out(session_id: str) -> None:
    change(session_id, deadline_ms=db.now_ms(-1000))
    sessions.end_overdue(session_id, row(session_id).attempt, Error("timeout", "late"))


FAULTS: dict[str, Callable[[str], object]] = {
    "kill -9": kill,
    "cancel": lambda session_id: sessions.end(session_id, Error("cancelled", "stopped")),
    "interrupt": interrupt,
    "timeout": time_out,
    "delete": lambda session_id: removal.delete(OWNER, session_id),
}


@pytest.fixture
def worker(make_stage: Callable[..., Stage]) -> Iterator[Worker]:
    with working(make_stage(flush_ms=5, lease_s=60, max_attempts=9).settings, _answer) as worker:
        yield worker


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_is_debited_once_what_it_used_wherever_it_is_stopped(worker: Worker, name: str) -> None:
    credit()
    spent: dict[str, int] = {}

    for at in count(1):
        session_id = make_session()
        with Interrupted(worker, session_id, at, FAULTS[name]) as run:
            worker.run(session_id)
            if name == "kill -9" and run.used is not None:
                assert session_id not in debits() or row(session_id).status == "done"
                orphan(session_id)
                worker.run(session_id)
        if run.used is None:
            # The run had fewer commits: it was not touched.
            assert used_tokens(session_id) == 300
            break
        spent[session_id] = run.used.total_tokens if name == "delete" else used_tokens(session_id)
        assert spent[session_id] >= run.used.total_tokens
        if name == "kill -9":
            assert row(session_id).status == "done"
            assert spent[session_id] >= 300

    assert len(spent) >= 6
    assert max(spent.values()) >= 220
    assert {session_id: amount for session_id, amount in debits().items() if session_id in spent} == {
        session_id: amount for session_id, amount in spent.items() if amount
    }
    assert balance() == 1_000_000 - sum(debits().values())


def test_an_end_that_is_committed_twice_is_debited_once() -> None:
    credit()
    claim = make_claim()
    batch = Batch(claim, 0, [Thinking(""), Done("x", usage=Usage(10, 5))])

    record(batch)
    record(Batch(claim, 0, batch.events, retried=True))

    assert debits() == {claim.session_id: 15}


def test_a_worker_that_was_taken_over_debits_nothing() -> None:
    credit()
    claim = make_claim()
    orphan(claim.session_id)
    try_claim(claim.session_id)

    write(claim, Done("x", usage=Usage(10, 5)))

    assert debits() == {}


def test_of_many_who_end_a_session_at_once_one_debits_it() -> None:
    credit()
    claim = make_claim()
    write(claim, Thinking(""))
    record(Batch(claim, 1, [], used=(Usage(10, 5), None)))

    cancel = [lambda: sessions.end(claim.session_id, Error("cancelled", "stopped"))] * 8
    outcomes = at_once([*cancel, lambda: removal.delete(OWNER, claim.session_id)])

    assert all(isinstance(error, NotFound) for error in failures(outcomes))
    assert debits() == {claim.session_id: 15}
    assert not exists(claim.session_id)


def test_a_conversation_that_is_deleted_while_it_runs_is_charged() -> None:
    credit()
    claim = make_claim()
    record(Batch(claim, 0, [Thinking("")], used=(Usage(10, 5), OpenRequest(7))))

    removal.delete_conversation(OWNER, claim.conversation_id or "")

    assert debits() == {claim.session_id: 22}


def test_money_is_debited_in_micro_units_by_the_model_that_was_asked(
    make_stage: Callable[..., Stage], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agents.toml"
    prices = "".join(
        f'[[prices]]\nmodel = "{model}"\nfrom = 2020-01-01\ninput = {price}\noutput = 0\n'
        for model, price in (("demo", "0.5"), ("dear", "2"))
    )
    path.write_text(prices, "utf-8")
    credit(5_000_000, unit="money")
    stage = make_stage(agents_file=str(path))
    with working(stage.settings, saying(Asked(1), Usage(1_000_000), Asked(1, "dear"), Usage(1_000_001))) as worker:
        session = stage.ask(worker, "Hello?")

    assert session["cost"] == 500_000 + 2_000_002
    assert debits() == {session["sessionId"]: 2_500_002}
    assert balance() == 2_499_998


# owners without an account, and accounts that come while sessions run


def test_the_end_of_a_session_of_an_owner_without_an_account_asks_nothing_more() -> None:
    claim, without = make_claim(), make_claim()
    write(claim, Thinking(""))
    write(without, Thinking(""))
    end = Done("x", usage=Usage(10, 5))
    credit()
    change(without.session_id, account_id=None)

    with statements() as charged:
        write(claim, end)
    with statements() as plain:
        write(without, end)

    assert len(charged) == len(plain) + 2
    assert not [each for each in plain if "chatLedger" in each or "chatAccounts" in each]


def test_sessions_that_run_when_an_account_is_opened_are_charged_to_it() -> None:
    before, waiting = make_claim(), make_session()
    other = make_claim(make_session(owner="other"))
    credit()
    after = make_claim(waiting)

    for claim in (before, after, other):
        write(claim, Done("x", usage=Usage(10, 5)))

    assert debits() == {before.session_id: 15, after.session_id: 15}
    assert row(other.session_id).account_id is None


def test_accounts_that_are_opened_while_sessions_are_claimed_miss_none() -> None:
    for round_ in range(5):
        owner = f"owner {round_}"
        waiting = [make_session(owner=owner) for _ in range(8)]

        outcomes = at_once([*[partial(try_claim, each) for each in waiting], partial(credit, owner=owner)])

        assert not failures(outcomes)
        account = accounts.find(owner)
        assert account is not None
        assert {row(each).account_id for each in waiting} == {account.id}


# the ledger


def test_a_balance_is_the_sum_of_its_ledger_however_much_of_it_is_summed_up() -> None:
    credit(1_000)
    for _ in range(3 * ledger.TAIL):
        ledger.add(OWNER, "adjust", -3)
        assert balance() >= 1_000 - 9 * ledger.TAIL
    ledger.add("other", "credit", 5, unit="tokens")

    assert balance() == 1_000 - 9 * ledger.TAIL
    open_rows = LedgerRow.select().where(LedgerRow.in_summary == 0)
    assert db.reading(lambda: open_rows.count()) < 2 * ledger.TAIL
    assert balance("other") == 5


def test_readers_beside_writers_see_each_row_once() -> None:
    credit(1)
    account = accounts.find(OWNER)
    assert account is not None

    def write_rows() -> list[int]:
        for _ in range(40):
            ledger.add(OWNER, "credit", 1)
        return []

    def read_balances() -> list[int]:
        found = []
        for _ in range(40):
            accounts.summarise(account.id)
            found.append(balance())
        return found

    outcomes = at_once([write_rows, write_rows, read_balances, read_balances])

    assert not failures(outcomes)
    assert all(found == sorted(found) for found in outcomes if isinstance(found, list))
    assert balance() == 81


def test_a_reference_is_added_once() -> None:
    for _ in range(2):
        credit(100, reference="invoice 17")
    credit(7, owner="other", reference="invoice 17")

    assert (balance(), balance("other")) == (100, 7)
    with pytest.raises(Invalid, match="another amount"):
        credit(99, reference="invoice 17")


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": 0},
        {"amount": 2**53},
        {"reference": "r" * 65},
        {"note": "n" * 256},
        {"note": "a\nb"},
        {"unit": "money"},
    ],
)
def test_what_a_ledger_does_not_take_is_refused(fields: dict[str, Any]) -> None:
    credit(10)

    with pytest.raises(Invalid):
        credit(**({"amount": 1} | fields))
    assert balance() == 10


def test_nothing_is_added_where_there_is_no_account() -> None:
    with pytest.raises(NotFound):
        ledger.add(OWNER, "credit", 1)


def test_a_ledger_is_paged_newest_first_while_rows_are_added() -> None:
    credit(1)
    for amount in range(2, 8):
        ledger.add(OWNER, "credit", amount)
    account = accounts.find(OWNER)
    assert account is not None

    first = ledger.page(account.id, limit=3)
    ledger.add(OWNER, "credit", 100)
    second = ledger.page(account.id, limit=3, cursor=first.next_cursor)
    third = ledger.page(account.id, limit=3, cursor=second.next_cursor)

    pages = [[each["amount"] for each in page.rows] for page in (first, second, third)]
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    assert third.next_cursor is None


def test_the_account_of_an_erased_owner_is_kept_without_words() -> None:
    for _ in range(2):
        credit(10, reference="Anna's card", note="for Anna")
        claim = make_claim()
        write(claim, Done("x", usage=Usage(1, 1)))

        account = accounts.find(OWNER)
        assert account is not None
        assert db.transaction(partial(ledger.rename, [account.id], "f" * 64)) == 1

        assert accounts.find(OWNER) is None
    kept = db.reading(lambda: db.tuples(AccountRow.select(AccountRow.owner, AccountRow.unit)))
    assert len({owner for owner, _ in kept}) == 2
    words = db.reading(
        lambda: db.tuples(LedgerRow.select(LedgerRow.note, LedgerRow.reference).where(LedgerRow.kind == "credit"))
    )
    assert set(words) == {("", None)}
    assert sum(debits().values()) == 4
