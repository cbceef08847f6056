"""What a route needs: the settings, the agents and what follows a commit."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from app.agents import Agents
from app.broker.heads import Heads
from app.broker.queue import TurnQueue
from app.sessions.doorbell import Doorbell
from app.settings import Settings

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


def services() -> Services:
    """The services of the application that serves this request."""
    return current_app.extensions[_EXTENSION]  # type: ignore[no-any-return]


def install(extensions: dict[str, object], made: Services) -> None:
    extensions[_EXTENSION] = made
