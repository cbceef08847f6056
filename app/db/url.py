"""What `DATABASE_URL` says: the file of an SQLite database; or where a MariaDB or MySQL is, who logs in, and TLS."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from pymysql.connections import DEFAULT_USER

from app import server_url
from app.errors import Invalid

_SETTING = "DATABASE_URL"
_SCHEMES = ("sqlite", "mysql", "mariadb")
#: What each asks for at least: nothing of TLS, it if the server can, always, of a known CA, in the server's own name.
MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
#: Parameters that are true or false, and the mode that each asks for when it is true.
_SWITCHES = {
    "ssl": "REQUIRED",
    "ssl_verify_cert": "VERIFY_CA",
    "ssl_verify_identity": "VERIFY_IDENTITY",
    # As MariaDB's own client has it: the name as well.
    "ssl_verify_server_cert": "VERIFY_IDENTITY",
}
_TIMEOUTS = ("connect_timeout", "read_timeout", "write_timeout")
_PARAMETERS = {"ssl_mode", "ssl_ca", "ssl_cert", "ssl_key", "unix_socket", "charset", *_SWITCHES, *_TIMEOUTS}
_LONGEST_S = 31_536_000
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def sqlite_path(url: str) -> str | None:
    """The file of an SQLite database; None: *url* is of another kind.

    Raises:
        Invalid: it names no file.
    """
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "sqlite":
        return None
    path, question, _ = rest.partition("?")
    file = path.removeprefix("///")
    if file in ("", path):
        raise Invalid(f"{_SETTING} must have three slashes and a file: sqlite:///relative.db or sqlite:////absolute.db")
    if file == ":memory:":
        raise Invalid(f"{_SETTING} needs a file: web and worker are different processes")
    if question:
        raise Invalid(f"{_SETTING}: an SQLite database takes no parameters")
    return file


def mysql_options(url: str) -> dict[str, Any]:
    """The arguments of a connection to *url*, `database` among them; what it does not say is left out.

    Raises:
        Invalid: it names no database, or has a parameter that is unknown or can't be used.
    """
    parts = server_url.split(_SETTING, url, _SCHEMES)
    name = unquote(parts.path.removeprefix("/"))
    if not name or "/" in name or name == ":memory:":
        raise Invalid(f"{_SETTING} must name a database: mysql://user:password@host/name")
    given = server_url.parameters(_SETTING, parts.query, _PARAMETERS)
    options: dict[str, Any] = {"database": name}
    if parts.hostname:
        options["host"] = unquote(parts.hostname)
    if parts.port:
        options["port"] = parts.port
    if parts.username:
        options["user"] = unquote(parts.username)
    elif DEFAULT_USER is None:
        raise Invalid(f"{_SETTING} must name a user: mysql://user:password@host/name")
    if parts.password:
        # PyMySQL makes latin-1 of text; servers have hashed UTF-8, or whatever bytes the percent signs mean.
        options["password"] = unquote_to_bytes(parts.password)
    if "unix_socket" in given:
        options["unix_socket"] = given["unix_socket"]
    if given.get("charset", "utf8mb4").lower() != "utf8mb4":
        raise Invalid(f"{_SETTING}: charset must be utf8mb4, which holds every character")
    for timeout in _TIMEOUTS:
        if timeout in given:
            options[timeout] = _seconds(timeout, given[timeout])
    is_local = "unix_socket" in given or options.get("host", "127.0.0.1") in _LOOPBACK
    return options | _encryption(given, is_local=is_local)


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= _LONGEST_S:
        raise Invalid(f"{_SETTING}: {name} must be a number of seconds above 0")
    return seconds


def _encryption(given: dict[str, str], *, is_local: bool) -> dict[str, Any]:
    mode = _mode(given)
    if mode is None and is_local:
        # Loading the system's certificates takes 20 ms of every connection, and nobody listens on loopback.
        mode = "DISABLED"
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    if mode in (None, "PREFERRED"):
        # What PyMySQL does by itself.
        return {}
    return {"ssl": _context(mode, given)}


def _mode(given: dict[str, str]) -> str | None:
    """The strictest that was asked for; None: nothing was said of it."""
    switches = {name: server_url.boolean(_SETTING, name, given[name]) for name in _SWITCHES if name in given}
    asked = [_SWITCHES[name] for name, value in switches.items() if value]
    # As with MySQL's own client: a CA is there to be checked, unless a mode says otherwise.
    if "ssl_ca" in given and "ssl_mode" not in given:
        asked.append("VERIFY_CA")
    if "ssl_cert" in given or "ssl_key" in given:
        asked.append("PREFERRED" if "ssl_mode" in given else "REQUIRED")
    if "ssl_mode" in given:
        mode = given["ssl_mode"].upper().replace("-", "_")
        if mode not in MODES:
            raise Invalid(f"{_SETTING}: ssl_mode must be one of {', '.join(MODES)}")
        asked.append(mode)
    off = "DISABLED" in asked or switches.get("ssl") is False
    unchecked = switches.get("ssl_verify_cert") is False
    strictest = max(asked, key=MODES.index, default=None)
    if (off and strictest not in (None, "DISABLED")) or (unchecked and (strictest or "").startswith("VERIFY")):
        named = ", ".join(sorted(name for name in given if name.startswith("ssl")))
        raise Invalid(f"{_SETTING}: {named} contradict each other")
    return "DISABLED" if off else strictest


def _context(mode: str, given: dict[str, str]) -> ssl.SSLContext:
    """Made once, not for each connection."""
    try:
        context = ssl.create_default_context(cafile=given.get("ssl_ca"))
    except OSError as error:
        raise Invalid(f"{_SETTING}: ssl_ca can't be used: {_why(error)}") from error
    # It asks for more than the CAs of many servers have, and is on since Python 3.13.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = mode == "VERIFY_IDENTITY"
    context.verify_mode = ssl.CERT_REQUIRED if mode.startswith("VERIFY") else ssl.CERT_NONE
    if "ssl_key" in given and "ssl_cert" not in given:
        raise Invalid(f"{_SETTING}: ssl_key needs ssl_cert")
    if "ssl_cert" in given:
        try:
            # An empty password: for an encrypted key OpenSSL would ask the terminal.
            context.load_cert_chain(given["ssl_cert"], given.get("ssl_key"), password="")
        except OSError as error:
            raise Invalid(f"{_SETTING}: ssl_cert or ssl_key can't be used: {_why(error)}") from error
    return context


def _why(error: OSError) -> str:
    return error.strerror or str(error)
