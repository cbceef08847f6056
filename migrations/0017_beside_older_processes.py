"""Processes older than migration 0009 serve beside newer ones until they are replaced.

They store messages without an owner: the database takes it from their session. And they name an index in their
statements that 0009 dropped at first.
"""

from __future__ import annotations

import logging
from typing import Any

from peewee import OperationalError

from migrations.steps import add_index, alter, in_pieces, is_sqlite

logger = logging.getLogger(__name__)

_OWNER = "(SELECT s.owner FROM chatSessions AS s WHERE s.sessionId = {message}.sessionId)"
_NAME = "messages_of_older_processes"
#: May not make triggers; may not where there is a binary log.
_REFUSED = (1142, 1227, 1419)


def _fill_in(db: Any) -> None:
    if is_sqlite(db):
        db.execute_sql(
            f"CREATE TRIGGER IF NOT EXISTS {_NAME} AFTER INSERT ON chatMessages WHEN new.owner = '' BEGIN"
            f" UPDATE chatMessages SET owner = COALESCE({_OWNER.format(message='new')}, '') WHERE id = new.id; END"
        )
        return
    there = "SELECT 1 FROM information_schema.triggers WHERE trigger_schema = DATABASE() AND trigger_name = %s"
    if db.execute_sql(there, (_NAME,)).fetchall():
        return
    owner = f"IF(NEW.owner = '', COALESCE({_OWNER.format(message='NEW')}, ''), NEW.owner)"
    alter(db, f"CREATE TRIGGER {_NAME} BEFORE INSERT ON chatMessages FOR EACH ROW SET NEW.owner = {owner}")


#: Others write between two steps.
atomic = False


def up(migrator: Any, db: Any) -> None:
    if not is_sqlite(db):
        add_index(db, "chatConversations", "conversationId", ("conversationId",))
    try:
        _fill_in(db)
    except OperationalError as error:
        if error.args[0] not in _REFUSED:
            raise
        if db.execute_sql("SELECT 1 FROM chatMessages LIMIT 1").fetchall():
            logger.warning("no trigger could be made: stop processes older than this version before you go on")
    in_pieces(
        db,
        "chatMessages",
        f"UPDATE chatMessages SET owner = COALESCE({_OWNER.format(message='chatMessages')}, 'local') WHERE owner = ''",
    )
