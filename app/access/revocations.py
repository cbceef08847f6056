"""Revocation: tokens that hold no longer, by their id or by their owner and when they were issued.

Every web process holds all of them in memory and reads them again every few seconds, so that no request looks them up.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterable

from app import db
from app.db.models import Revocation
from app.errors import DatabaseUnavailable

from . import keys
from .principal import Principal

logger = logging.getLogger(__name__)

#: How late a process may learn of a revocation.
REFRESH_S = 5.0
_FOR_EVER_MS = 2**62


def revoke_token(token_id: str) -> None:
    """Let the token of this id, and those that come from it, hold no longer. Raises DatabaseUnavailable."""
    _store(f"token {token_id}", _FOR_EVER_MS)


def revoke_owner(secret: str, owner: str) -> None:
    """Let the tokens of *owner* that were issued until now hold no longer. Raises DatabaseUnavailable."""
    # Not the next request of the same millisecond: whoever gets a new token after this must not be refused.
    _store(_subjects(secret, owner)[0], time.time_ns() // 1_000_000 - 1)


def _store(subject: str, until_ms: int) -> None:
    def work() -> None:
        moved = Revocation.update(until_ms=until_ms).where(Revocation.subject == subject).execute()
        if not moved:
            Revocation.insert(subject=subject, until_ms=until_ms).execute()

    db.transaction(work)


def _subjects(secret: str, owner: str) -> list[str]:
    """What revocation names *owner* by under each key, that which signs first; without keys one for all deployments."""
    known: Iterable[str] = keys.parse(secret).by_id.values() if secret else ("",)
    return [f"owner {hmac.new(key.encode(), owner.encode(), hashlib.sha256).hexdigest()}" for key in known]


def pseudonym(secret: str, owner: str) -> str:
    """What rows that outlive *owner* name it by: no owner can have this name, and only the keys tell whose it is."""
    # Owners begin with no space.
    return " " + _subjects(secret, owner)[0][:63]


class Revocations:
    """All that is revoked, as of a few seconds ago.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, secret: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._secret = secret
        self._clock = clock
        self._until_ms: dict[str, int] = {}
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._tried_at = float("-inf")

    def covers(self, principal: Principal) -> bool:
        """The token of *principal* is revoked.

        Raises:
            DatabaseUnavailable: it can't be reached, and nothing has been read yet.
        """
        self._keep_fresh()
        if not self._until_ms:
            return False
        subjects = [] if principal.owner is None else _subjects(self._secret, principal.owner)
        if principal.token_id is not None:
            subjects.append(f"token {principal.token_id}")
        return any(principal.issued_ms <= self._until_ms.get(subject, -1) for subject in subjects)

    def _keep_fresh(self) -> None:
        """Have them read again when they are old. Only after a pause without questions does the asker wait for it."""
        now = self._clock()
        if self._read_at is None:
            self.read()
            return
        if now < max(self._read_at, self._tried_at) + REFRESH_S:
            return
        with self._lock:
            if now < self._tried_at + REFRESH_S:
                return
            self._tried_at = now
        if now < self._read_at + 2 * REFRESH_S:
            threading.Thread(target=self._read_again, name="revocations", daemon=True).start()
        else:
            self._read_again()

    def _read_again(self) -> None:
        try:
            self.read()
        except DatabaseUnavailable:
            # What is known still holds; a later question tries again.
            logger.warning("revocations can't be read now")
        except Exception:
            logger.exception("revocations could not be read")

    def read(self) -> None:
        """Read all of them now. Raises DatabaseUnavailable."""
        asked_at = self._clock()
        query = Revocation.select(Revocation.subject, Revocation.until_ms)
        self._until_ms = dict(db.reading(lambda: db.tuples(query)))
        self._read_at = asked_at
