"""End a session for whoever calls, whichever route they came by."""

from __future__ import annotations

from app import sessions
from app.events import Error

from .services import Services


def cancel(here: Services, owner: str, session_id: str) -> None:
    """Commit the end, keep the partial answer and stop the model call; nothing happens to one that has ended.

    Raises:
        NotFound, DatabaseBusy, DatabaseUnavailable: as `sessions.end`.
    """
    ended = sessions.end(session_id, Error("cancelled", "cancelled by the user"), owner=owner)
    here.reader.forget(session_id)
    here.doorbell.ended(ended)
