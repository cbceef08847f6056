"""The keys of CHAT_SECRET: `id:secret[,id:secret…]`, or one plain secret as it was before keys had ids.

The first key signs, all of them verify: a new key is put in front, and the old one goes when its tokens may go.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass

logger = logging.getLogger(__name__)

#: Shorter secrets can be guessed from a token.
SHORTEST_BYTES = 32
#: The id of a plain secret.
PLAIN_ID = "0"

_KEY = re.compile(r"([A-Za-z0-9_-]{1,32}):(.+)", re.DOTALL)


@dataclass(frozen=True)
class Keys:
    """The keys by id, the one that signs first."""

    by_id: dict[str, str]
    #: Secrets that tokens without a key id may have been signed with.
    plain: tuple[str, ...]

    @property
    def first(self) -> tuple[str, str]:
        """Id and secret of the key that signs."""
        return next(iter(self.by_id.items()))


@functools.lru_cache(maxsize=16)
def parse(setting: str) -> Keys:
    """The keys of a CHAT_SECRET that is not empty."""
    matches = [_KEY.fullmatch(part.strip()) for part in setting.split(",")]
    by_id = {match[1]: match[2] for match in matches if match is not None}
    if None in matches or len(by_id) < len(matches):
        return Keys({PLAIN_ID: setting}, (setting,))
    # The whole of it as well: an older secret may happen to look like a key with an id.
    return Keys(by_id, (*by_id.values(), setting))


def short(setting: str) -> list[str]:
    """The ids of the keys whose secrets are too short."""
    return [key_id for key_id, secret in parse(setting).by_id.items() if len(secret.encode()) < SHORTEST_BYTES]


def report_short(setting: str) -> None:
    """Log each key whose secret is too short, by its id."""
    for key_id in short(setting):
        logger.warning("a secret is too short, use 32 random bytes", extra={"key": key_id})
