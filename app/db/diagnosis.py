"""The state of the database, as `doctor` reports it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from app import db


@dataclass(frozen=True, slots=True)
class Findings:
    """Of one database; what SQLite has no word for is empty."""

    version: str
    #: How far its clock is ahead of this machine's.
    clock_ahead_s: float
    packet_bytes: int = 0
    #: Of our own connections, which set it.
    sql_mode: str = ""
    charset: str = ""
    isolation: str = ""
    #: How many transactions a power cut loses: 1 is none.
    flush_at_commit: str = ""


def examine() -> Findings:
    """Ask the database that is open.

    Raises:
        DatabaseUnavailable: it can't be reached.
    """
    return db.reading(_examine)


def _examine() -> Findings:
    [(now_ms,)] = db.sql(f"SELECT {db.now_ms().sql}", []).fetchall()
    ahead_s = now_ms / 1000 - time.time()
    if db.is_sqlite():
        [(version,)] = db.sql("SELECT sqlite_version()", []).fetchall()
        return Findings(f"SQLite {version}", ahead_s)
    names = "@@version, @@max_allowed_packet, @@sql_mode, @@character_set_database, @@innodb_flush_log_at_trx_commit"
    [(version, packet, mode, charset, flush)] = db.sql(f"SELECT {names}", []).fetchall()
    isolation = db.sql("SHOW VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')", []).fetchall()
    return Findings(version, ahead_s, int(packet), mode, charset, isolation[0][1] if isolation else "", str(flush))
