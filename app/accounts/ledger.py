"""The ledger: rows are added here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import peewee

from app import db
from app.db.account_models import AccountRow, LedgerRow
from app.db.cursors import Cursor
from app.db.models import Session
from app.db.paging import Page, cut
from app.db.statements import Insert
from app.db.times import iso, utc_now
from app.errors import Invalid, NotFound
from app.events import Usage

Unit = Literal["tokens", "money"]
Kind = Literal["credit", "debit", "adjust"]

#: Rows that are not in the sum yet before reading the balance puts them there, and how many at once.
TAIL = 64
SUMMED_AT_ONCE = 1000
#: The largest amount of one row: thousands of them still fit a BIGINT.
MOST = 2**53 - 1
_REFERENCE_CHARACTERS = 64
_NOTE_CHARACTERS = 255
#: Of the name that the account of an erased owner is kept under.
_KEPT_CHARACTERS = 43
_CURSOR = Cursor("l", 1)


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it was read."""

    id: int
    owner: str
    unit: Unit
    #: The sum of its ledger, in tokens or micro-units.
    balance: int
    #: Of the owner's own; 0: any number; None: as the settings say.
    max_running: int | None
    max_sessions: int | None


@dataclass(frozen=True, slots=True)
class Charge:
    """What one session used."""

    #: None: its owner has no account.
    account_id: int | None
    session_id: str
    usage: Usage | None


def amount_of(unit: str, usage: Usage) -> int:
    """What *usage* takes from an account in *unit*."""
    return usage.cost if unit == "money" else usage.total_tokens


_insert = Insert(
    LedgerRow.account_id, LedgerRow.kind, LedgerRow.amount, LedgerRow.reference, LedgerRow.note, LedgerRow.created_at
)


def debit(charges: Sequence[Charge]) -> None:
    """Debit what sessions used, in the transaction that ends them; one row each, none for nothing.

    Runs inside the caller's transaction. It asks the database nothing where nobody has an account.
    """
    due = {charge.session_id: charge for charge in charges if charge.account_id is not None and charge.usage}
    if not due:
        return
    ids = sorted({charge.account_id for charge in due.values() if charge.account_id is not None})
    # Not locked: the unit of an account never changes.
    units = dict(db.sql(f"SELECT id, unit FROM chatAccounts WHERE id IN ({db.marks(len(ids))})", ids).fetchall())
    now = LedgerRow.created_at.db_value(utc_now())
    amounts = [
        (charge, amount_of(units[charge.account_id], charge.usage))
        for charge in due.values()
        if charge.usage is not None and charge.account_id in units
    ]
    _insert((charge.account_id, "debit", -amount, charge.session_id, "", now) for charge, amount in amounts if amount)


_OPEN = "FROM chatLedger AS l WHERE l.accountId = a.id AND l.inSummary = 0"
#: SQL for the balance of the account `a`, and for how many rows of its ledger are not in its sum.
# In one statement, and so of one moment: a row is marked and added to the sum in one transaction.
BALANCE = f"a.balance + COALESCE((SELECT SUM(l.amount) {_OPEN}), 0)"
TAIL_ROWS = f"(SELECT COUNT(*) {_OPEN})"
_FIND = f"SELECT id, owner, unit, {BALANCE}, maxRunning, maxSessions, {TAIL_ROWS} FROM chatAccounts AS a WHERE"


def find(owner: str) -> Account | None:
    """The account of *owner*; None: there is none. Moves its sum on when many rows are not in it.

    Raises:
        DatabaseUnavailable: no connection.
    """
    found = db.reading(lambda: db.sql(f"{_FIND} owner = ?", [owner]).fetchone())
    if found is None:
        return None
    account_id, owner, unit, balance, max_running, max_sessions, tail = found
    move_on(account_id, tail)
    return Account(account_id, owner, unit, int(balance), max_running, max_sessions)


def move_on(account_id: int, tail: int) -> None:
    """Put rows of an account into its sum if *tail*, how many are not, has become many; not within a transaction."""
    if tail >= TAIL and not db.database.in_transaction():
        summarise(account_id)


def summarise(account_id: int) -> int:
    """Put some rows of an account into its sum; how many. Does nothing while another process does the same."""
    return db.transaction(lambda: _summarise(account_id))


def _summarise(account_id: int) -> int:
    mine = AccountRow.select(AccountRow.id).where(AccountRow.id == account_id)
    if db.locked(mine, wait=False).first() is None:
        return 0
    open_rows = LedgerRow.select(LedgerRow.id, LedgerRow.amount).where(
        (LedgerRow.account_id == account_id) & (LedgerRow.in_summary == 0)
    )
    rows = db.tuples(open_rows.limit(SUMMED_AT_ONCE))
    if rows:
        ids = [row_id for row_id, _ in rows]
        LedgerRow.update(in_summary=1).where(LedgerRow.id.in_(ids)).execute()
        total = sum(amount for _, amount in rows)
        AccountRow.update(balance=AccountRow.balance + total).where(AccountRow.id == account_id).execute()
    return len(rows)


def open_account(owner: str, unit: Unit) -> int:
    """The id of the account of *owner*, opened if there is none; sessions that run are given to it.

    Raises:
        Invalid: it is in another unit.
        DatabaseUnavailable: no connection; call it again.
    """
    account_id, kept_in = db.transaction(lambda: _open(owner, unit))
    if kept_in != unit:
        raise Invalid(f"the account is kept in {kept_in}")
    # In a transaction of its own: claims that did not see the account were committed before this look.
    running = (Session.owner == owner) & (Session.status == "running") & Session.account_id.is_null()
    db.transaction(lambda: Session.update(account_id=account_id).where(running).execute())
    return account_id


def _open(owner: str, unit: Unit) -> tuple[int, str]:
    found = AccountRow.select(AccountRow.id, AccountRow.unit).where(AccountRow.owner == owner)
    for row_id, kept_in in db.tuples(found):
        return row_id, kept_in
    try:
        with db.database.atomic():
            return int(AccountRow.insert(owner=owner, unit=unit).execute()), unit
    except peewee.IntegrityError:
        # Another process was first.
        [(row_id, kept_in)] = db.tuples(found)
        return row_id, kept_in


def add(owner: str, kind: Kind, amount: int, *, unit: Unit | None = None, reference: str = "", note: str = "") -> None:
    """Add a row to the ledger of *owner*.

    Args:
        amount: What the balance grows by; less than 0: it shrinks.
        unit: Open an account in it if there is none.
        reference: What this row stands for, such as a payment: with the same one nothing is added again.
        note: For people.

    Raises:
        NotFound: there is no account, and no *unit* to open one in.
        Invalid: an amount, a reference or a note is not allowed, the account is in another unit, or the reference
            stands for another amount.
        DatabaseUnavailable: no connection.
    """
    if not 0 < abs(amount) <= MOST:
        raise Invalid(f"an amount is 1 to {MOST}, or as much less than 0")
    if len(reference) > _REFERENCE_CHARACTERS or not reference.isprintable():
        raise Invalid(f"a reference has at most {_REFERENCE_CHARACTERS} printable characters")
    if len(note) > _NOTE_CHARACTERS or not note.isprintable():
        raise Invalid(f"a note has at most {_NOTE_CHARACTERS} printable characters")
    if unit is not None:
        account_id = open_account(owner, unit)
    else:
        account = find(owner)
        if account is None:
            raise NotFound("no such account")
        account_id = account.id

    def work() -> None:
        row = {"account_id": account_id, "kind": kind, "amount": amount, "reference": reference or None, "note": note}
        try:
            with db.database.atomic():
                LedgerRow.insert(row).execute()
        except peewee.IntegrityError:
            same = (LedgerRow.account_id == account_id) & (LedgerRow.reference == reference)
            if [(kind, amount)] != db.tuples(LedgerRow.select(LedgerRow.kind, LedgerRow.amount).where(same)):
                raise Invalid("this reference stands for another amount") from None

    db.transaction(work)


def limit(account_id: int, *, running: int | None, sessions: int | None) -> None:
    """Give an account limits of its own; see `Account`."""
    mine = AccountRow.id == account_id
    db.transaction(lambda: AccountRow.update(max_running=running, max_sessions=sessions).where(mine).execute())


def page(account_id: int, *, limit: int = 50, cursor: str | None = None) -> Page[dict[str, Any]]:
    """The ledger of an account, newest first.

    Raises:
        Invalid: the cursor is not one of ours.
        DatabaseUnavailable: no connection.
    """
    wanted = LedgerRow.account_id == account_id
    if cursor is not None:
        wanted &= LedgerRow.id < _CURSOR.decode(cursor)[0]
    query = LedgerRow.select().where(wanted).order_by(LedgerRow.id.desc()).limit(limit + 1)
    rows = db.reading(lambda: list(query))
    shown, next_cursor = cut(rows, limit, lambda row: _CURSOR.encode(row.id))
    return Page([_to_json(row) for row in shown], next_cursor)


def _to_json(row: LedgerRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "amount": row.amount,
        "sessionId": row.reference if row.kind == "debit" else None,
        "reference": None if row.kind == "debit" else row.reference,
        "note": row.note,
        "createdAt": iso(row.created_at),
    }


def rename(account_ids: Sequence[int], kept_as: str) -> int:
    """Keep the accounts of an owner, whose data is erased, under a keyed hash of the name; how many.

    Runs inside the caller's transaction. The ledger stays with amounts and ids of sessions; notes and references go.
    """
    words = LedgerRow.account_id.in_(account_ids) & (LedgerRow.kind != "debit")
    LedgerRow.update(note="", reference=None).where(words).execute()
    for account_id in account_ids:
        # With the id: an owner of this name may come again, have an account and be erased.
        name = f"{kept_as[:_KEPT_CHARACTERS]} {account_id}"
        AccountRow.update(owner=name).where(AccountRow.id == account_id).execute()
    return len(account_ids)
