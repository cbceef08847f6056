"""The RQ worker that runs many sessions at once on one loop, and the registries by which RQ sees it."""

from .worker import SessionWorker

__all__ = ["SessionWorker"]
