"""What a route needs: the settings, the agents and what follows a commit."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from app.agents import Agents
from app.broker.heads import Heads
from app.broker.queue import TurnQueue
from app.sessions.admission import Limits
from app.sessions.doorbell import Doorbell
from app.settings import Settings

from .limits import Rate
from .polling.hub import Hub
from .polling.reader import Reader

_EXTENSION = "backchat"


@dataclass(frozen=True, slots=True)
class Services:
    """Made once per web process."""

    settings: Settings
    agents: Agents
    heads: Heads
    queue: TurnQueue
    doorbell: Doorbell
    hub: Hub
    reader: Reader
    posts: Rate

    def limits_of(self, owner: str) -> Limits:
        """What this owner may have at once."""
        return Limits.of(self.settings, owner)


def services() -> Services:
    """The services of the application that serves this request."""
    return current_app.extensions[_EXTENSION]  # type: ignore[no-any-return]


def install(extensions: dict[str, object], made: Services) -> None:
    extensions[_EXTENSION] = made
