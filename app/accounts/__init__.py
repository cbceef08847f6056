"""Accounts: the balance of an owner, and the ledger of what was credited and debited.

The ledger is the truth: rows are only added, and the balance is the sum of their amounts. So that a long ledger need
not be added up, the account's row has the sum of those that are marked as being in it; reading a balance moves it on,
and ending a session never touches it. Ids of rows say nothing of the order of their commits: that is why each row is
marked, instead of a line that is drawn under the newest.

An account may be opened while sessions run: they are given to it in a second transaction, after the account's own. A
claim that did not see the account was committed before that, so that none is missed; see `ledger.open_account`.
"""

from .ledger import Account, Charge, Unit, amount_of, debit, find, summarise

__all__ = ["Account", "Charge", "Unit", "amount_of", "debit", "find", "summarise"]
