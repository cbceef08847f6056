"""What a tool's exception says, without keys: libraries put whole requests into the text of their errors."""

from __future__ import annotations

import re

_URL = re.compile(r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/?#'\"<>@]*@)?([^\s/?#'\"<>]*)[^\s'\"<>]*", re.IGNORECASE)
_QUERY = re.compile(r"\?[^\s'\"<>)]+")
_NAME = r"[\w-]*(?:api[_-]?key|key|token|secret|passw(?:or)?d|pwd|auth(?:orization)?|cookie|signature|credentials?)"
_NAMED = re.compile(
    rf"\b({_NAME})(['\"]?\s*[:=]\s*['\"]?)(?:(?:bearer|basic|token)\s+)?[^\s'\",;&)}}\]]+", re.IGNORECASE
)
_SCHEME = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
#: Keys of well-known shapes, and whatever is as long and mixed as a key.
_KEY = re.compile(
    r"\b(?:sk|pk|rk|ghp|gho|ghs|github_pat|glpat|xox[abprs]|AKIA|ASIA|AIza|hf)[-_]?[A-Za-z0-9_-]{12,}"
    r"|\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"
    r"|(?<![\w-])(?=[A-Za-z_+/-]*\d)(?=[\d_+/-]*[A-Za-z])[A-Za-z0-9_+/-]{32,}={0,2}"
)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_GONE = "[…]"
#: Longer texts are cut: nobody reads on.
LONGEST = 2_000


def redacted(text: str) -> str:
    """*text* with its URLs cut after the host, and without keys, tokens and passwords."""
    text = text[: 2 * LONGEST]
    text = _URL.sub(lambda match: f"{match[1]}{match[2]}/{_GONE}", text)
    text = _QUERY.sub(f"?{_GONE}", text)
    text = _NAMED.sub(lambda match: f"{match[1]}{match[2]}{_GONE}", text)
    text = _SCHEME.sub(lambda match: f"{match[1]} {_GONE}", text)
    text = _KEY.sub(lambda match: match[0] if _UUID.fullmatch(match[0]) else _GONE, text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
