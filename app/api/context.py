"""What a route needs: the settings, the agents and what follows a commit."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from app.broker.heads import Heads
from app.broker.queue import TurnQueue
from app.events.log import Page
from app.sessions.doorbell import Doorbell

from ..agents import Agents
from ..settings import Settings
from .live import News
from .single_flight import SingleFlight
from .standings import Standings

_EXTENSION = "backchat"


@dataclass(frozen=True, slots=True)
class Context:
    """Made once per web process."""

    settings: Settings
    agents: Agents
    heads: Heads
    queue: TurnQueue
    doorbell: Doorbell
    news: News
    #: Pages that are being read from the database.
    reads: SingleFlight[Page]
    standings: Standings


def context() -> Context:
    """The context of the application that serves this request."""
    return current_app.extensions[_EXTENSION]  # type: ignore[no-any-return]


def install(extensions: dict[str, object], made: Context) -> None:
    extensions[_EXTENSION] = made
