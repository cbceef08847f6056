"""The route of the caller's account: what is left, what runs, the limits, the ledger."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from pydantic import Field

from app import accounts
from app.accounts import ledger
from app.db.paging import Page
from app.sessions import spending

from .access import needs, owner
from .schemas import Camel, Shown, page_json
from .services import services

blueprint = APIBlueprint("account", __name__, url_prefix="/api", tag="Account")


class AccountQuery(Camel):
    limit: int = Field(50, ge=1, le=200, description="Rows of the ledger.")
    cursor: str | None = Field(None, max_length=64)


class LimitsOut(Shown):
    """null: any number."""

    running: int | None = Field(description="Sessions that run at once; others wait.")
    sessions: int | None = Field(description="Sessions that run and wait.")
    sessions_per_conversation: int | None
    posts_per_minute: int | None = Field(description="Of each web process.")
    held: int | None = Field(description="Polls and streams that are held at once, of each web process.")


class LedgerRowOut(Shown):
    id: int
    kind: str = Field(description="`credit`, `debit` or `adjust`.")
    amount: int = Field(description="What the balance grew by.")
    session_id: str | None
    reference: str | None
    note: str
    created_at: str


class AccountOut(Shown):
    unit: str | None = Field(description="`tokens`, or `money` in micro-units; null: there is no account.")
    balance: int | None = Field(description="The sum of the ledger.")
    left: int | None = Field(description="The balance less what running sessions have used so far.")
    running: int = Field(description="Sessions that a worker has begun.")
    waiting: int
    limits: LimitsOut
    ledger: list[LedgerRowOut] = Field(description="Newest first.")
    next_cursor: str | None
    has_more: bool


@blueprint.get("/account")
@needs("read")
@blueprint.input(AccountQuery, location="query", arg_name="query")
@blueprint.output(AccountOut)
@blueprint.doc(summary="Balance, limits, what runs, and the ledger")
def show(query: AccountQuery) -> dict[str, Any]:
    me, here = owner(), services()
    running, waiting = spending.load(me)
    limits = here.limits_of(me)
    answer: dict[str, Any] = {
        "unit": None,
        "balance": None,
        "left": None,
        "running": running,
        "waiting": waiting,
        "limits": {
            "running": limits.running_per_owner or None,
            "sessions": limits.sessions_per_owner or None,
            "sessionsPerConversation": limits.sessions_per_conversation or None,
            "postsPerMinute": limits.posts_per_minute or None,
            "held": limits.held_per_owner or None,
        },
    }
    account = accounts.find(me)
    rows: Page[dict[str, Any]] = Page([], None)
    if account is not None:
        funds = spending.funds(account.id, me)
        rows = ledger.page(account.id, limit=query.limit, cursor=query.cursor)
        answer |= {"unit": account.unit, "balance": account.balance, "left": funds and funds.left}
        for name, most in (("running", account.max_running), ("sessions", account.max_sessions)):
            if most is not None:
                answer["limits"][name] = most
    return answer | page_json("ledger", rows)
