"""Tokens: macaroons. Their holders narrow them by appending caveats, offline and in any language; see docs/access.md.

    identifier     2 KEY-ID TOKEN-ID ISSUED-MS RIGHTS      one space between each; RIGHTS joined by commas
    caveats        owner = NAME        can = read cancel     expires = SECONDS-SINCE-1970
                   session = ID        conversation = ID     agent = NUMBER      model = NAME

Names are percent-encoded. All caveats must hold: the same one twice allows what both allow. One that is not known does
not hold. Before keys had ids an identifier was `owner = NAME`; such tokens stay valid.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from pymacaroons import Macaroon, Verifier

from app.errors import Invalid, Unauthorized

from . import keys
from .principal import OWNER_RIGHTS, RIGHTS, Principal, is_owner

#: How long the token of one session holds.
SESSION_TOKEN_S = 86_400

_LOCATION = "backchat"
_VERSION = "2"
#: Plain in names: an identifier holds ASCII only, of other characters the library drops the end without a word.
_PLAIN = "".join(character for character in map(chr, range(0x20, 0x7F)) if character != "%")
_LONGEST_NUMBER = 15
_TOKEN_ID = re.compile(r"[A-Za-z0-9._~:+/=-]{1,128}")
_SCOPES = frozenset({"session", "conversation", "agent", "model"})


def issue(
    secret: str,
    owner: str | None,
    *,
    expires: datetime | float | None = None,
    can: Iterable[str] | None = None,
    session: str | None = None,
    conversation: str | None = None,
    agent: int | None = None,
    model: str | None = None,
    token_id: str | None = None,
) -> str:
    """A token that speaks for *owner*, or an issuer's without one, signed by the first key of *secret*.

    Args:
        can: Its rights; None: what an owner may do, which is not `operate`.
        token_id: The id of the token that it comes from, so that both are revoked together; None: a new one.

    Raises:
        Invalid: the owner is empty, too long or has unprintable characters; a right is not known.
    """
    if owner is not None and not is_owner(owner):
        raise Invalid("an owner has 1 to 64 printable characters")
    rights = OWNER_RIGHTS if can is None else frozenset(can)
    if not rights <= RIGHTS:
        raise Invalid(f"a right is one of {', '.join(sorted(RIGHTS))}")
    key_id, key = keys.parse(secret).first
    token_id = token_id or secrets.token_urlsafe(12)
    if not _TOKEN_ID.fullmatch(token_id):
        raise Invalid("the id of a token has 1 to 128 letters, digits and signs")
    identifier = f"{_VERSION} {key_id} {token_id} {time.time_ns() // 1_000_000} {','.join(sorted(rights))}"
    token = Macaroon(location=_LOCATION, identifier=identifier, key=key)
    if isinstance(expires, datetime):
        expires = expires.astimezone(UTC).timestamp()
    caveats = {
        "owner": owner,
        "session": session,
        "conversation": conversation,
        "agent": agent,
        "model": model,
        "expires": None if expires is None else int(expires),
    }
    for name, value in caveats.items():
        if value is not None:
            token.add_first_party_caveat(f"{name} = {quote(str(value), safe=_PLAIN)}")
    return str(token.serialize())


def issue_for_session(secret: str, caller: Principal, session_id: str) -> str:
    """A token for just this session, to read and cancel it as far as *caller* may; it is revoked with the caller's."""
    in_a_day = time.time() + SESSION_TOKEN_S
    return issue(
        secret,
        caller.owner,
        can=caller.rights & {"read", "cancel"},
        session=session_id,
        expires=in_a_day if caller.expires is None else min(caller.expires, in_a_day),
        token_id=caller.token_id,
    )


def verify(secret: str, serialized: str) -> Principal:
    """Whom a token speaks for. Whether it has expired or was revoked is for the caller to see: both change with time.

    Raises:
        Unauthorized: it is no token of ours, was changed, or a caveat is not known.
    """
    try:
        token = Macaroon.deserialize(serialized)
        identifier = token.identifier
        if not isinstance(identifier, str):
            identifier = identifier.decode("ascii")
        if identifier.startswith(f"{_VERSION} "):
            return _of_a_key(secret, token, identifier)
        return _of_a_plain_secret(secret, token, identifier)
    except Exception as error:  # pymacaroons raises exceptions of several packages, and bare ones, on garbage
        raise Unauthorized("the token is not valid") from error


def _of_a_key(secret: str, token: Macaroon, identifier: str) -> Principal:
    _, key_id, token_id, issued_ms, rights = identifier.split(" ")
    caveats = _Caveats(frozenset(filter(None, rights.split(","))))
    _check(token, keys.parse(secret).by_id[key_id], caveats)
    return caveats.principal(token_id, _number(issued_ms))


def _of_a_plain_secret(secret: str, token: Macaroon, identifier: str) -> Principal:
    prefix, _, name = identifier.partition(" = ")
    if prefix != "owner":
        raise ValueError(prefix)
    for tried in keys.parse(secret).plain:
        caveats = _Caveats(OWNER_RIGHTS)
        caveats.meet(f"owner = {name}")
        try:
            _check(token, tried, caveats)
        except Exception:  # noqa: BLE001,S112 - another secret may have signed it
            continue
        return caveats.principal(None, 0)
    raise ValueError("signed by none of the secrets")


def _check(token: Macaroon, key: str, caveats: _Caveats) -> None:
    verifier = Verifier()
    verifier.satisfy_general(caveats.meet)
    verifier.verify(token, key)


@dataclass
class _Caveats:
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
        value = unquote(quoted, errors="strict")
        if not separator or not value:
            raise ValueError(caveat)
        if name == "can":
            self.rights &= frozenset(value.split(" "))
        elif name == "expires":
            expires = _number(value)
            self.expires = expires if self.expires is None else min(self.expires, expires)
        elif name == "owner":
            self.owners.add(value)
            if not is_owner(value) or len(self.owners) > 1:
                raise ValueError(caveat)
        elif name in _SCOPES:
            if name == "agent":
                value = str(_number(value))
            one = frozenset({value.lower() if name == "conversation" else value})
            self.scopes[name] = self.scopes.get(name, one) & one
        else:
            raise ValueError(caveat)
        return True

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


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > _LONGEST_NUMBER:
        raise ValueError(text)
    return int(text)
