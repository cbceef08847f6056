"""Which orchestrator a deployment runs."""

from __future__ import annotations

from typing import Protocol

from app.settings import Settings
from worker.orchestrator import Orchestrator


class ClosableOrchestrator(Orchestrator, Protocol):
    """One for a worker process."""

    async def aclose(self) -> None:
        """Close what its turns share; none of them runs any more."""


def load(settings: Settings) -> ClosableOrchestrator:
    """The one that ORCHESTRATOR names, else the engine.

    Raises:
        Invalid: ORCHESTRATOR names no function.
    """
    if settings.orchestrator:
        from worker.callable_orchestrator import CallableOrchestrator

        return CallableOrchestrator.named(settings.orchestrator)
    # Importing the engine takes a second and much memory: only workers that use it pay.
    from worker.engine.engine import Engine

    return Engine(settings)
