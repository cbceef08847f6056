"""URLs of servers, as settings hold them. They have passwords: no error ever quotes one."""

from __future__ import annotations

import re
import string
from collections.abc import Collection
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from .errors import Invalid

_NAME = re.compile(r"[a-z_]{1,40}")


def split(setting: str, url: str, schemes: Collection[str]) -> SplitResult:
    """The parts of *url*, percent-encoded but for ASCII.

    Raises:
        Invalid: it is no URL of one of these schemes; says so of *setting*.
    """
    # Encoded first: some characters stand for a slash or an @ to `urlsplit`, which then quotes the password.
    encoded = quote(url, safe=string.printable, errors="surrogateescape")
    try:
        parts = urlsplit(encoded)
        port = parts.port
    except ValueError:
        raise Invalid(f"{setting} is no URL: its host or port is malformed, {_ADVICE}") from None
    if parts.scheme not in schemes:
        *others, last = (f"{scheme}://" for scheme in schemes)
        raise Invalid(f"{setting} must start with {', '.join(others)} or {last}")
    if port == 0:
        raise Invalid(f"{setting}: 0 is no port")
    if "#" in encoded or "@" in parts.path or ("@" in parts.query and "@" not in parts.netloc):
        raise Invalid(f"{setting} is no URL: {_ADVICE}")
    return parts


_ADVICE = "in a user name or password / ? # @ and % have to be percent-encoded (%2F %3F %23 %40 %25)"


def parameters(setting: str, query: str, known: Collection[str]) -> dict[str, str]:
    """What stands after the `?`, by names in lower case with `_` for `-`.

    Raises:
        Invalid: a name is not among *known*, stands there twice or has no value.
    """
    values: dict[str, str] = {}
    # A plus is a plus: these are no forms.
    for given, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        name = given.lower().replace("-", "_")
        if name not in known:
            shown = f"an unknown parameter, {given}" if _NAME.fullmatch(name) else "a malformed parameter"
            raise Invalid(f"{setting} has {shown}; there are {', '.join(sorted(known))}")
        if name in values:
            raise Invalid(f"{setting} has {name} twice")
        if not value:
            raise Invalid(f"{setting}: {name} has no value")
        values[name] = value
    return values


def boolean(setting: str, name: str, value: str) -> bool:
    """Raises Invalid when *value* is neither true nor false."""
    if value.lower() in ("true", "1", "yes", "on"):
        return True
    if value.lower() in ("false", "0", "no", "off"):
        return False
    raise Invalid(f"{setting}: {name} must be true or false")
