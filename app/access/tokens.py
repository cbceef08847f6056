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
from datetime import UTC, datetime
from urllib.parse import quote

from pymacaroons import Macaroon, Verifier

from app.errors import Invalid, Unauthorized

from . import keys
from .caveats import Caveats, number
from .principal import OWNER_RIGHTS, RIGHTS, Principal, is_owner

#: How long the token of one session holds.
SESSION_TOKEN_S = 86_400

_LOCATION = "backchat"
_VERSION = "2"
#: Plain in names: an identifier holds ASCII only, of other characters the library drops the end without a word.
_PLAIN = "".join(character for character in map(chr, range(0x20, 0x7F)) if character != "%")
#: What the id of a token may be.
TOKEN_ID = re.compile(r"[A-Za-z0-9._~:+/=-]{1,128}")


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
    if not TOKEN_ID.fullmatch(token_id):
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
    caveats = Caveats(frozenset(filter(None, rights.split(","))))
    _check(token, keys.parse(secret).by_id[key_id], caveats)
    return caveats.principal(token_id, number(issued_ms))


def _of_a_plain_secret(secret: str, token: Macaroon, identifier: str) -> Principal:
    prefix, _, name = identifier.partition(" = ")
    if prefix != "owner":
        raise ValueError(prefix)
    for tried in keys.parse(secret).plain:
        caveats = Caveats(OWNER_RIGHTS)
        caveats.meet(f"owner = {name}")
        try:
            _check(token, tried, caveats)
        except Exception:  # noqa: BLE001,S112 - another secret may have signed it
            continue
        return caveats.principal(None, 0)
    raise ValueError("signed by none of the secrets")


def _check(token: Macaroon, key: str, caveats: Caveats) -> None:
    verifier = Verifier()
    verifier.satisfy_general(caveats.meet)
    verifier.verify(token, key)
