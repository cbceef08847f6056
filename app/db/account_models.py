"""Tables of accounts and their ledgers."""

from __future__ import annotations

from peewee import BigAutoField, BigIntegerField, CharField, IntegerField

from .base import Base
from .fields import Owned, UtcField
from .times import utc_now


class AccountRow(Base):
    """The account of an owner; see `app.accounts`."""

    owned = Owned.HASHED

    id = BigAutoField()
    owner = CharField(64, unique=True)
    #: `tokens` or `money`; never changes.
    unit = CharField(8)
    #: Sum of the rows of its ledger that are marked as being in it.
    balance = BigIntegerField(default=0)
    #: Sessions that run at once, and that run and wait; 0: any number; null: as the settings say.
    max_running = IntegerField(column_name="maxRunning", null=True)
    max_sessions = IntegerField(column_name="maxSessions", null=True)
    created_at = UtcField(column_name="createdAt", default=utc_now)

    class Meta:
        table_name = "chatAccounts"


class LedgerRow(Base):
    """One credit, debit or adjustment. Of a row only `in_summary` ever changes."""

    owned = Owned.NOT

    id = BigAutoField()
    account_id = BigIntegerField(column_name="accountId")
    #: `credit`, `debit` or `adjust`.
    kind = CharField(8)
    #: What the balance grows by: tokens or micro-units, less than 0 of a debit.
    amount = BigIntegerField()
    #: Of a debit its session; else what the operator names. Unique for each account.
    reference = CharField(64, null=True)
    note = CharField(255, default="")
    #: 1: the account's row counts it.
    in_summary = IntegerField(column_name="inSummary", default=0)
    created_at = UtcField(column_name="createdAt", default=utc_now)

    class Meta:
        table_name = "chatLedger"
