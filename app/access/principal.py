"""Who calls: an owner, what they may do, to what, and until when. Knows no token and no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Right = Literal["read", "write", "cancel", "operate"]
RIGHTS: frozenset[str] = frozenset(get_args(Right))
#: What an owner's token may do unless it was issued with more or less; `operate` must be asked for.
OWNER_RIGHTS: frozenset[str] = RIGHTS - {"operate"}

#: The owner of everything where no secret is configured.
LOCAL_OWNER = "local"

_OWNER_CHARACTERS = 64


def is_owner(name: str) -> bool:
    """*name* can be the owner of something, and be told from every other one by people and databases."""
    return 0 < len(name) <= _OWNER_CHARACTERS and name.isprintable() and name == name.strip()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. A scope that is None is not limited; an empty one allows nothing."""

    #: None: an issuer, whose token must be narrowed to an owner before it can do anything.
    owner: str | None
    rights: frozenset[str] = OWNER_RIGHTS
    #: Ids of sessions.
    sessions: frozenset[str] | None = None
    #: Ids of conversations.
    conversations: frozenset[str] | None = None
    agents: frozenset[int] | None = None
    #: Models that sessions may be started with.
    models: frozenset[str] | None = None
    #: Seconds since 1970; None: never.
    expires: float | None = None
    #: What revocation names it by; None: it was issued without one.
    token_id: str | None = None
    #: When it was issued, in milliseconds since 1970; 0: not known.
    issued_ms: int = 0

    @property
    def scopes(self) -> frozenset[str]:
        """The kinds of scope that limit what it may see."""
        limits = {"session": self.sessions, "conversation": self.conversations, "agent": self.agents}
        return frozenset(kind for kind, allowed in limits.items() if allowed is not None)


#: Who calls from this machine where no secret is configured.
LOCAL = Principal(LOCAL_OWNER, RIGHTS)
