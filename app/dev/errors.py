"""How a run ends."""

from __future__ import annotations


class Failed(Exception):
    """It can't go on; the text says why."""


class Stopped(Exception):
    """The user asked to stop."""
