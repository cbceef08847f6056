"""End or delete a session for whoever calls, whichever route they came by."""

from __future__ import annotations

from app import sessions
from app.events import Error
from app.sessions import removal

from .services import Services


def cancel(here: Services, owner: str, session_id: str) -> None:
    """Commit the end, keep the partial answer and stop the model call; nothing happens to one that has ended.

    Raises:
        NotFound, DatabaseBusy, DatabaseUnavailable: as `sessions.end`.
    """
    ended = sessions.end(session_id, Error("cancelled", "cancelled by the user"), owner=owner)
    here.reader.forget(session_id)
    here.doorbell.ended(ended)


def delete(here: Services, owner: str, session_id: str) -> None:
    """Delete a session with all that it left; its worker stops.

    Raises:
        NotFound, DatabaseUnavailable: as `removal.delete`.
    """
    ended = removal.delete(owner, session_id)
    here.reader.forget(session_id)
    here.doorbell.deleted(ended)
