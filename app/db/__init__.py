"""What stores anything: the connection, the tables, and what lists and ids are made of.

Others say `from app import db` and get the functions below; tables are in `app.db.models`.
"""

from .connection import connected, max_content_bytes, open_database, reading, without_idle_limit
from .dialect import (
    by_id,
    by_index,
    database,
    for_update,
    id_step,
    is_sqlite,
    locked,
    marks,
    now_ms,
    only_by,
    sql,
    tuples,
)
from .transactions import after_commit, before_commit, transaction

__all__ = [
    "after_commit",
    "before_commit",
    "by_id",
    "by_index",
    "connected",
    "database",
    "for_update",
    "id_step",
    "is_sqlite",
    "locked",
    "marks",
    "max_content_bytes",
    "now_ms",
    "only_by",
    "open_database",
    "reading",
    "sql",
    "transaction",
    "tuples",
    "without_idle_limit",
]
