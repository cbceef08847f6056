"""Which orchestrator a deployment runs."""

from __future__ import annotations

from app.settings import Settings

from .orchestrator import Orchestrator


def load(settings: Settings) -> Orchestrator:
    """The one that ORCHESTRATOR names, else the engine."""
    # Importing the engine takes a second and 60 MB.
    from .engine import Engine

    return Engine(settings)
