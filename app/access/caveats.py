"""What limits a token: its caveats, or the claims of the same names. All must hold; one that is not known does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

from .principal import RIGHTS, Principal, is_owner

#: Each leaves of what a token reaches only that which it names.
SCOPES = frozenset({"session", "conversation", "agent", "model"})
_LONGEST_NUMBER = 15


@dataclass
class Caveats:
    """What is left of a token's rights after its caveats."""

    rights: frozenset[str]
    owners: set[str] = field(default_factory=set)
    scopes: dict[str, frozenset[str]] = field(default_factory=dict)
    expires: int | None = None

    def meet(self, caveat: str) -> bool:
        """Take one caveat into account.

        Raises:
            ValueError: it is not known, or says what can't be. The library would pass over one that is merely not met
                when its signature leaves it out as well.
        """
        name, separator, quoted = caveat.partition(" = ")
        if not separator:
            raise ValueError(caveat)
        self.limit(name, unquote(quoted, errors="strict"))
        return True

    def limit(self, name: str, value: str) -> None:
        """Leave what this one allows. Raises ValueError as `meet`."""
        if not value:
            raise ValueError(name)
        if name == "can":
            self.rights &= frozenset(value.split(" "))
        elif name == "expires":
            expires = number(value)
            self.expires = expires if self.expires is None else min(self.expires, expires)
        elif name == "owner":
            self.owners.add(value)
            if not is_owner(value) or len(self.owners) > 1:
                raise ValueError(value)
        elif name in SCOPES:
            if name == "agent":
                value = str(number(value))
            one = frozenset({value.lower() if name == "conversation" else value})
            self.scopes[name] = self.scopes.get(name, one) & one
        else:
            raise ValueError(name)

    def principal(self, token_id: str | None, issued_ms: int) -> Principal:
        agents = self.scopes.get("agent")
        return Principal(
            owner=next(iter(self.owners), None),
            rights=self.rights & RIGHTS,
            sessions=self.scopes.get("session"),
            conversations=self.scopes.get("conversation"),
            agents=None if agents is None else frozenset(map(int, agents)),
            models=self.scopes.get("model"),
            expires=self.expires,
            token_id=token_id,
            issued_ms=issued_ms,
        )


def number(text: str) -> int:
    """What *text* says in plain digits. Raises ValueError."""
    if not text.isascii() or not text.isdecimal() or len(text) > _LONGEST_NUMBER:
        raise ValueError(text)
    return int(text)
