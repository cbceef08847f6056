"""Work that one process does at a time across all of them: sweeping, pruning."""

from __future__ import annotations

import peewee

from app import db

from .models import Lease


def take(name: str, holder: str, seconds: float) -> bool:
    """Take or keep the lease *name* until *seconds* from now (database time); False: another holds it.

    Raises:
        DatabaseUnavailable: no connection.
    """

    def work() -> bool:
        until = db.now_ms(int(seconds * 1000))
        free = (Lease.holder == holder) | (Lease.until_ms < db.now_ms())
        if Lease.update(holder=holder, until_ms=until).where((Lease.name == name) & free).execute() == 1:
            return True
        if Lease.select().where(Lease.name == name).exists():
            return False
        try:
            with db.database.atomic():
                Lease.insert(name=name, holder=holder, until_ms=until).execute()
        except peewee.IntegrityError:
            # Another process was first.
            return False
        return True

    return db.transaction(work)


def is_held(name: str) -> bool:
    """Whether somebody holds the lease *name* now."""
    return Lease.select().where((Lease.name == name) & (Lease.until_ms >= db.now_ms())).exists()


def give_back(name: str, holder: str) -> None:
    """Let others take the lease *name* at once; nothing of it is left."""
    db.transaction(Lease.delete().where((Lease.name == name) & (Lease.holder == holder)).execute)
