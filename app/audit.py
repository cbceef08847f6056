"""The audit log: who did what only an operator may. One line each, whatever LOG_LEVEL says but `ERROR`."""

from __future__ import annotations

import getpass
import logging

logger = logging.getLogger("backchat.audit")


def record(action: str, *, by: str | None = None, **fields: object) -> None:
    """Log that *action* was done.

    Args:
        by: Whose token did it; None: the user of the system who runs the command.
    """
    logger.warning(action, extra={"by": by if by is not None else f"user {_user()}"} | fields)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user may have no name
