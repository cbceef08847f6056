"""The edge: who calls, and what they may. Decided in one place, before a body is read; what nothing allows is refused.

Each route declares what it needs, next to its view: `@needs("read")`, or `@public`. A route without one stops the
application from starting.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from apiflask import APIFlask
from flask import current_app, g, request

from app import audit
from app.access import LOCAL, Authenticator, Principal, Revocations, Right, report_short
from app.conversations import queries as conversation_queries
from app.errors import Forbidden, Invalid, NotFound, Unauthorized
from app.sessions import queries as session_queries
from app.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# A poll asks the same of the same few names.
_remembered = functools.lru_cache(maxsize=1024)

View = TypeVar("View", bound=Callable[..., Any])
Scope = Literal["session", "conversation", "agent"]

_NEED = "backchat_need"
#: Under these paths a caller without a valid token learns nothing, not even that a path does not exist.
GUARDED = ("/api/", "/v1/")
#: Headers that proxies add: with them the connection's address is not the caller's.
_FORWARDED = re.compile(
    r"forwarded|via|x-forwarded(-.+)?|x-(original|real|client|cluster).*|(true-client|cf-connecting)-ip"
)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(
    rf"(?:(localhost|(?:{_LABEL}\.)+localhost)|(\d{{1,3}}(?:\.\d{{1,3}}){{3}})|\[([0-9a-f:.]+)\])(?::\d{{1,5}})?"
)
#: Pairs of owner and session whose place is remembered: it never changes.
_PLACES = 10_000


@dataclass(frozen=True, slots=True)
class Need:
    """What a route asks of its caller."""

    #: None: nothing; the route is for everybody.
    right: Right | None
    #: Scopes that the view keeps to, beside what is decided here from the path. A token with another one is refused.
    within: frozenset[Scope] = frozenset()


def needs(right: Right, *, within: tuple[Scope, ...] = ()) -> Callable[[View], View]:
    """Declare the right that a route needs, and the scopes that its view keeps to by itself."""
    return _declared(Need(right, frozenset(within)))


def public(view: View) -> View:
    """Declare that a route is for everybody, or decides by itself."""
    return _declared(Need(None))(view)


def _declared(need: Need) -> Callable[[View], View]:
    def declare(view: View) -> View:
        setattr(view, _NEED, need)
        return view

    return declare


def install(app: APIFlask, settings: Settings) -> Callable[[WSGIEnvironment], Principal]:
    """Guard every route of *app*, those as well that come later.

    Returns:
        Who makes a request. It raises Unauthorized where nobody is served, and DatabaseUnavailable as `Authenticator`.
    """
    authenticator = _authenticator(settings) if settings.chat_secret else None
    place_of = functools.lru_cache(maxsize=_PLACES)(session_queries.place)

    def principal_of(environ: WSGIEnvironment) -> Principal:
        if authenticator is not None:
            return authenticator.principal(_bearer(environ))
        if fault := local_fault(environ):
            raise Unauthorized(f"without CHAT_SECRET only this machine is served: {fault}")
        return LOCAL

    def principal() -> Principal:
        return principal_of(request.environ)

    @app.before_request
    def authorise() -> None:
        rule = request.url_rule
        need = None if rule is None else getattr(current_app.view_functions[rule.endpoint], _NEED, None)
        if rule is None and not request.path.startswith(GUARDED):
            return  # the framework says what is wrong
        if need is not None and need.right is None:
            g.authenticate = principal
            return
        who = g.principal = principal()
        if rule is not None:
            _check(who, need, request.view_args or {}, place_of)

    return principal_of


def _authenticator(settings: Settings) -> Authenticator:
    report_short(settings.chat_secret)
    json_web_tokens = None
    if settings.jwt_jwks:
        # What it imports takes a tenth of a second that others need not wait for.
        from app.access.json_web_tokens import JsonWebTokens

        json_web_tokens = JsonWebTokens.of(settings)
    return Authenticator(settings.chat_secret, Revocations(settings.chat_secret), json_web_tokens)


def _bearer(environ: WSGIEnvironment) -> str:
    header: str = environ.get("HTTP_AUTHORIZATION", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("send a token: Authorization: Bearer …")
    return token.strip()


def _check(who: Principal, need: Need | None, path: dict[str, Any], place_of: Callable[[str, str], Any]) -> None:
    if need is None or need.right is None:
        raise Forbidden("nobody may call this")
    if who.owner is None:
        raise Forbidden("the token is an issuer's: it must name an owner first")
    if need.right not in who.rights:
        raise Forbidden(f"the token lacks the right {need.right!r}")
    named: set[str] = set()
    if "session_id" in path:
        named = {"session", "conversation", "agent"}
        _check_session(who, path["session_id"], place_of)
    if "conversation_id" in path:
        named |= {"conversation", "agent"}
        _check_conversation(who, path["conversation_id"].lower())
    if "agent_id" in path:
        named.add("agent")
        if who.agents is not None and path["agent_id"] not in who.agents:
            raise NotFound("no such agent")
    if beyond := who.scopes - named - need.within:
        raise Forbidden(f"the token is limited to one {sorted(beyond)[0]}, which this is not")


def _check_session(who: Principal, session_id: str, place_of: Callable[[str, str], Any]) -> None:
    """Raise NotFound unless the session is in scope; the row is looked at only where its id does not tell."""
    if who.sessions is not None and session_id not in who.sessions:
        raise NotFound("no such session")
    if who.conversations is None and who.agents is None:
        return
    conversation_id, agent_id = place_of(who.owner or "", session_id)
    if who.conversations is not None and conversation_id not in who.conversations:
        raise NotFound("no such session")
    if who.agents is not None and agent_id not in who.agents:
        raise NotFound("no such session")


def _check_conversation(who: Principal, conversation_id: str) -> None:
    if who.conversations is not None and conversation_id not in who.conversations:
        raise NotFound("no such conversation")
    if who.agents is not None and conversation_queries.agent_of(who.owner or "", conversation_id) not in who.agents:
        raise NotFound("no such conversation")


def caller() -> Principal:
    """Who calls, in a route that needs a right."""
    who: Principal = g.principal
    return who


def owner() -> str:
    """The owner that this request speaks for."""
    name = caller().owner
    if name is None:
        raise Forbidden("the token names no owner")
    return name


def require_right(right: Right) -> None:
    """Raise Forbidden unless the caller has this right beside the one that the route needs."""
    if right not in caller().rights:
        raise Forbidden(f"the token lacks the right {right!r}")


def require_session(session_id: str) -> None:
    """Raise NotFound where the session of a request that names it elsewhere than in its path is not in scope."""
    _check_session(caller(), session_id, session_queries.place)


def require_conversation(conversation_id: str) -> None:
    """Raise NotFound where the conversation of such a request is not in scope."""
    _check_conversation(caller(), conversation_id)


def require_operator(*, recorded: bool = True) -> None:
    """Return if who calls may operate the server: by their token, or from this machine and not through a proxy.

    Args:
        recorded: The audit log has a line of it; not for what is asked for all the time and changes nothing.

    Raises:
        Unauthorized, Forbidden: they may not.
    """
    if local_fault(request.environ) is None:
        return
    who: Principal = g.authenticate()
    if "operate" not in who.rights:
        raise Forbidden("the token lacks the right 'operate'")
    if recorded:
        audit.record(f"{request.method} {request.path}", by=f"owner {who.owner}", token=who.token_id)


def require_every_route_declared(app: APIFlask) -> None:
    """Raise Invalid unless each route of *app* declares what it needs."""
    silent = {rule.rule for rule in app.url_map.iter_rules() if not hasattr(app.view_functions[rule.endpoint], _NEED)}
    if silent:
        raise Invalid(f"routes that declare no right: {', '.join(sorted(silent))}")


def require_guard(settings: Settings) -> None:
    """Raise Invalid where others than this machine would be served without a secret, or tokens accepted by half."""
    named = {"JWT_JWKS": settings.jwt_jwks, "JWT_ISSUER": settings.jwt_issuer, "JWT_AUDIENCE": settings.jwt_audience}
    if any(named.values()):
        # The tokens of single sessions are signed with it, and revocations keyed.
        missing = [name for name, value in (named | {"CHAT_SECRET": settings.chat_secret}).items() if not value]
        if missing:
            raise Invalid(f"JSON Web Tokens need {', '.join(missing)} as well")
    if settings.chat_secret:
        return
    advice = "set CHAT_SECRET, such as `openssl rand -hex 32` prints"
    if settings.host != "localhost" and not _is_loopback(settings.host):
        raise Invalid(f"HOST={settings.host} would serve everybody without a token; {advice}")
    if "*" in (origin.strip() for origin in settings.cors_origins.split(",")):
        raise Invalid(f"CORS_ORIGINS=* would let every site read it without a token; {advice}")


def local_fault(environ: WSGIEnvironment) -> str | None:
    """Why the request is not one of this machine; None: it is."""
    address = environ.get("REMOTE_ADDR", "")
    if address and not _is_loopback(address):
        return "the client is another host"
    for name in environ:
        if _is_forwarded(name):
            return f"the request came through a proxy ({name.removeprefix('HTTP_').replace('_', '-').title()})"
    # The name as well: a foreign one that leads to 127.0.0.1 comes from loopback too. As it was sent: the framework
    # makes an empty one of what it can't read.
    host = environ.get("HTTP_HOST", "")
    if not host:
        return "the request names no host" if address else None
    return None if _is_local_name(host) else "the request is for another host name"


@_remembered
def _is_forwarded(name: str) -> bool:
    header = name.removeprefix("HTTP_")
    return header != name and _FORWARDED.fullmatch(header.lower().replace("_", "-")) is not None


@_remembered
def _is_local_name(host: str) -> bool:
    match = _HOST.fullmatch(host.lower())
    return match is not None and (match[1] is not None or _is_loopback(match[2] or match[3]))


@_remembered
def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
