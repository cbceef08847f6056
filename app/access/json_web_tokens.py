"""JSON Web Tokens of an issuer that a setting trusts. They are verified here, never made; see docs/access.md.

sub            the owner          exp    when it expires; both are required
can            its rights, as a list or separated by spaces; JWT_RIGHTS_CLAIM names another claim
session, conversation, agent, model      what it is limited to, as the caveats of the same names
iat, jti       when it was issued, and its id: what revocation goes by
"""

from __future__ import annotations

import functools
from typing import Any

import jwt

from app.errors import IssuerUnavailable, Unauthorized
from app.settings import Settings

from .caveats import SCOPES, Caveats
from .principal import OWNER_RIGHTS, RIGHTS, Principal
from .published_keys import KeySet, PublishedKeys
from .tokens import TOKEN_ID

#: How much the clocks of the issuer and of this machine may differ.
_LEEWAY_S = 30
_REMEMBERED = 2048


class JsonWebTokens:
    """Verifies the tokens of one issuer, for one audience."""

    def __init__(self, keys: PublishedKeys, *, issuer: str, audience: str, rights_claim: str = "can") -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._rights_claim = rights_claim
        # Under the keys of the time: what was signed with one that is published no longer is verified anew, and fails.
        self._verify = functools.lru_cache(maxsize=_REMEMBERED)(self._verified)

    @classmethod
    def of(cls, settings: Settings) -> JsonWebTokens | None:
        """As the settings say; None: they accept no such tokens. Raises Invalid as `PublishedKeys`."""
        if not settings.jwt_jwks:
            return None
        return cls(
            PublishedKeys(settings.jwt_jwks),
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            rights_claim=settings.jwt_rights_claim,
        )

    def verify(self, token: str) -> Principal:
        """Whom *token* speaks for; the caller sees whether it has expired since, or was revoked.

        Raises:
            Unauthorized: it is not valid.
            IssuerUnavailable: the issuer's keys are not known yet.
        """
        if self._keys.current is None:
            raise IssuerUnavailable("the keys of the tokens' issuer can't be read now")
        return self._verify(self._keys.current, token)

    def _verified(self, published: KeySet, token: str) -> Principal:
        try:
            header = jwt.get_unverified_header(token)
            # The algorithm is the key's, whatever the token says: a public key is no secret to sign with.
            key = published.keys.get((header["alg"], header.get("kid")))
            if key is None:
                self._keys.miss()
                raise Unauthorized("the token was signed with a key that its issuer does not publish")
            claims = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                issuer=self._issuer,
                audience=self._audience,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "sub", "iss", "aud"]},
            )
            return self._principal(claims)
        except Unauthorized:
            raise
        except Exception as error:  # the library raises errors of others on garbage
            raise Unauthorized("the token is not valid") from error

    def _principal(self, claims: dict[str, Any]) -> Principal:
        caveats = Caveats(self._rights(claims))
        caveats.limit("owner", claims["sub"])
        for name in SCOPES & claims.keys():
            caveats.limit(name, str(claims[name]))
        caveats.expires = int(claims["exp"])
        token_id = claims.get("jti")
        # The session's token that a start gives has this id too, so that both are revoked together.
        if token_id is not None and not TOKEN_ID.fullmatch(token_id):
            raise ValueError(token_id)
        return caveats.principal(token_id, int(float(claims.get("iat", 0)) * 1000))

    def _rights(self, claims: dict[str, Any]) -> frozenset[str]:
        said = claims.get(self._rights_claim)
        if said is None:
            return OWNER_RIGHTS
        # Names of other systems may stand there too.
        return RIGHTS & frozenset(said.split(" ") if isinstance(said, str) else said)
