"""Accounts and their ledger; the account that a session is charged to."""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns, add_index, is_sqlite


def up(migrator: Any, db: Any) -> None:
    add_columns(db, "chatSessions", {"accountId": "BIGINT NULL"})
    owner = reference = "VARCHAR(64)"
    if is_sqlite(db):
        key, end = "INTEGER PRIMARY KEY AUTOINCREMENT", ""
        moment = "TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"
    else:
        exact = f"CHARACTER SET utf8mb4 COLLATE {_collation(db)}"
        owner = reference = f"VARCHAR(64) {exact}"
        key, end = "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY", "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
        moment = "TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)"
    db.execute_sql(
        f"CREATE TABLE IF NOT EXISTS chatAccounts (id {key}, owner {owner} NOT NULL, unit VARCHAR(8) NOT NULL,"
        f" balance BIGINT NOT NULL DEFAULT 0, createdAt {moment}) {end}"
    )
    db.execute_sql(
        f"CREATE TABLE IF NOT EXISTS chatLedger (id {key}, accountId BIGINT NOT NULL, kind VARCHAR(8) NOT NULL,"
        f" amount BIGINT NOT NULL, reference {reference} NULL, note VARCHAR(255) NOT NULL DEFAULT '',"
        f" inSummary INTEGER NOT NULL DEFAULT 0, createdAt {moment}) {end}"
    )
    add_index(db, "chatAccounts", "accounts_of_owner", ("owner",), unique=True)
    add_index(db, "chatLedger", "ledger_of_account", ("accountId", "id"))
    add_index(db, "chatLedger", "ledger_reference", ("accountId", "reference"), unique=True)
    # With the amount the sum of what is not in the summary reads no row.
    add_index(db, "chatLedger", "ledger_open", ("accountId", "inSummary", "amount"))


def _collation(db: Any) -> str:
    """That of the owners of sessions: the two are compared."""
    found = db.execute_sql(
        "SELECT collation_name FROM information_schema.columns WHERE table_schema = DATABASE()"
        " AND table_name = 'chatSessions' AND column_name = 'owner'"
    ).fetchone()
    return str(found[0])
