"""Owners that are being erased: nothing new is stored for them meanwhile."""

from __future__ import annotations

import hashlib

from app.db import leases
from app.errors import OwnerErased

#: An erasure that died holds its owner up for so long.
LEASE_S = 60.0


def begin(owner: str, holder: str) -> bool:
    """Begin to erase *owner*, or go on with it; False: somebody else does. Call it again every `LEASE_S / 4`."""
    return leases.take(_name(owner), holder, LEASE_S)


def end(owner: str, holder: str) -> None:
    """The owner may begin anew."""
    leases.give_back(_name(owner), holder)


def refuse_during(owner: str) -> None:
    """Within the transaction that stores something for *owner*.

    Raises:
        OwnerErased: it is being erased.
    """
    if leases.is_held(_name(owner)):
        raise OwnerErased("everything of this owner is being erased")


def _name(owner: str) -> str:
    return f"erase {hashlib.sha256(owner.encode()).hexdigest()[:48]}"
