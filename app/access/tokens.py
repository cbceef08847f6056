"""Tokens: macaroons that name an owner and may expire. Holders can narrow their own (see pymacaroons)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from pymacaroons import Macaroon, Verifier

from app.errors import Invalid, Unauthorized

#: The owner of everything where no secret is configured.
LOCAL_OWNER = "local"

_LOCATION = "backchat"
_OWNER_CHARACTERS = 64
_PLAIN = "".join(character for character in map(chr, range(0x20, 0x7F)) if character != "%")


def issue(secret: str, owner: str, *, expires: datetime | None = None) -> str:
    """A token that speaks for *owner*, until *expires* if given.

    Raises:
        Invalid: the owner is empty, too long or has unprintable characters.
    """
    if not 0 < len(owner) <= _OWNER_CHARACTERS or not owner.isprintable() or owner != owner.strip():
        raise Invalid(f"an owner has 1 to {_OWNER_CHARACTERS} printable characters")
    # An identifier holds ASCII only: of other characters the library drops the end without a word.
    token = Macaroon(location=_LOCATION, identifier=f"owner = {quote(owner, safe=_PLAIN)}", key=secret)
    if expires is not None:
        token.add_first_party_caveat(f"expires = {int(expires.astimezone(UTC).timestamp())}")
    return str(token.serialize())


def owner_of(secret: str, serialized: str) -> str:
    """The owner that a token speaks for.

    Raises:
        Unauthorized: it is no token of ours, was changed, or has expired.
    """
    try:
        token = Macaroon.deserialize(serialized)
        verifier = Verifier()
        verifier.satisfy_general(_not_expired)
        verifier.verify(token, secret)
        prefix, _, quoted = str(token.identifier).partition(" = ")
        owner = unquote(quoted, errors="strict")
    except Exception as error:  # pymacaroons raises exceptions of several packages, and bare ones, on garbage
        raise Unauthorized("the token is not valid") from error
    if prefix != "owner" or not owner:
        raise Unauthorized("the token is not valid")
    return owner


def _not_expired(caveat: str) -> bool:
    name, _, value = caveat.partition(" = ")
    return name == "expires" and value.isdecimal() and time.time() < int(value)
