"""What runs need to survive their worker: attempts, leases, checkpoints, gapless seqs; wider text.

Adopts what stands: seqs become 1..n with the terminal event last, sessions that a dead gateway left `running` end
as `worker_lost`, and every ended session has its terminal event.
"""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns, add_index, is_sqlite

LOST = "the worker was lost before this system took over"

# Keys and owners are compared byte by byte: the default collation takes "a" and "A" for the same key.
_EXACT = "VARCHAR({}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


def _session_columns(sqlite: bool) -> dict[str, str]:
    def exact(length: int) -> str:
        return f"VARCHAR({length})" if sqlite else _EXACT.format(length)

    number = "INTEGER" if sqlite else "INT"
    time = "TIMESTAMP" if sqlite else "TIMESTAMP(3)"
    text = "TEXT" if sqlite else "LONGTEXT"
    return {
        "conversationId": f"{exact(64)} NULL",
        "owner": f"{exact(64)} NOT NULL DEFAULT 'local'",
        "inputTokens": f"{number} NOT NULL DEFAULT 0",
        "outputTokens": f"{number} NOT NULL DEFAULT 0",
        "cacheReadTokens": f"{number} NOT NULL DEFAULT 0",
        "cacheWriteTokens": f"{number} NOT NULL DEFAULT 0",
        "errorCode": "VARCHAR(64) NULL",
        "attempt": f"{number} NOT NULL DEFAULT 0",
        "handbacks": f"{number} NOT NULL DEFAULT 0",
        "lastSeq": f"{number} NOT NULL DEFAULT 0",
        "leaseUntilMs": "BIGINT NULL",
        "deadlineMs": "BIGINT NULL",
        "worker": "VARCHAR(128) NULL",
        "checkpoint": f"{text} NULL",
        "checkpointSeq": f"{number} NOT NULL DEFAULT 0",
        "idempotencyKey": f"{exact(255)} NULL",
        "requestHash": "VARCHAR(64) NULL",
        "startedAt": f"{time} NULL",
        "endedAt": f"{time} NULL",
    }


def _event_columns(sqlite: bool) -> dict[str, str]:
    number = "INTEGER" if sqlite else "INT"
    return {
        "attempt": f"{number} NOT NULL DEFAULT 1",
        "supersedesFrom": f"{number} NULL",
        "toolCallId": "VARCHAR(128) NULL",
        "errorCode": "VARCHAR(64) NULL",
    }


def _widen(db: Any) -> None:
    if is_sqlite(db):
        return  # its columns have no width
    db.execute_sql(
        "ALTER TABLE `chatSessions` MODIFY `id` BIGINT NOT NULL AUTO_INCREMENT, MODIFY `userMessage` LONGTEXT NOT NULL,"
        " MODIFY `finalResponse` LONGTEXT NULL, MODIFY `errorMessage` LONGTEXT NULL,"
        " MODIFY `createdAt` TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),"
        # Without ON UPDATE: adopting a row, or renewing its lease, is no change that a user sees.
        " MODIFY `updatedAt` TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)"
    )
    db.execute_sql(
        "ALTER TABLE `chatEvents` MODIFY `id` BIGINT NOT NULL AUTO_INCREMENT, MODIFY `content` LONGTEXT NULL,"
        " MODIFY `toolResult` LONGTEXT NULL, MODIFY `errorMsg` LONGTEXT NULL,"
        # MariaDB's JSON refuses what is nested more than 32 deep, MySQL's gives back other text than was put in.
        " MODIFY `toolArgs` LONGTEXT NULL, MODIFY `usageJson` LONGTEXT NULL,"
        " MODIFY `createdAt` TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)"
    )


_NUMBERED = (
    "SELECT id, ROW_NUMBER() OVER (PARTITION BY sessionId"
    " ORDER BY CASE WHEN eventType IN ('done', 'error') THEN 1 ELSE 0 END, seq, id) AS n FROM chatEvents"
)


def _renumber(db: Any) -> None:
    if is_sqlite(db):
        db.execute_sql(
            f"UPDATE chatEvents SET seq = numbered.n FROM ({_NUMBERED}) AS numbered"
            " WHERE numbered.id = chatEvents.id AND chatEvents.seq <> numbered.n"
        )
    else:
        db.execute_sql(
            f"UPDATE chatEvents JOIN ({_NUMBERED}) AS numbered ON numbered.id = chatEvents.id"
            " SET chatEvents.seq = numbered.n WHERE chatEvents.seq <> numbered.n"
        )


_LAST_SEQ = "COALESCE((SELECT MAX(seq) FROM chatEvents WHERE chatEvents.sessionId = chatSessions.sessionId), 0)"
_NO_TERMINAL = (
    "NOT EXISTS (SELECT 1 FROM chatEvents AS t WHERE t.sessionId = chatSessions.sessionId"
    " AND t.eventType IN ('done', 'error'))"
)


def _end_orphans(db: Any) -> None:
    joined = "GROUP_CONCAT(content, '')" if is_sqlite(db) else "GROUP_CONCAT(content ORDER BY seq SEPARATOR '')"
    source = (
        "(SELECT content FROM chatEvents WHERE sessionId = chatSessions.sessionId AND eventType = 'delta' ORDER BY seq)"
        if is_sqlite(db)
        else "chatEvents WHERE chatEvents.sessionId = chatSessions.sessionId AND eventType = 'delta'"
    )
    if not is_sqlite(db):
        # The default of 1 MiB (1 KiB on MySQL) would cut a partial answer off.
        db.execute_sql("SET SESSION group_concat_max_len = 16777216")
    placeholder = "?" if is_sqlite(db) else "%s"
    db.execute_sql(
        "UPDATE chatSessions SET status = 'error', errorCode = 'worker_lost',"
        f" errorMessage = COALESCE(errorMessage, {placeholder}),"
        f" finalResponse = COALESCE(finalResponse, (SELECT {joined} FROM {source}))"
        " WHERE status = 'running'",
        (LOST,),
    )


def _give_every_ended_session_its_terminal_event(db: Any) -> None:
    db.execute_sql(
        "INSERT INTO chatEvents (sessionId, seq, eventType, content, model, errorMsg, errorCode, createdAt)"
        f" SELECT sessionId, {_LAST_SEQ} + 1, status, finalResponse, model,"
        " CASE WHEN status = 'error' THEN COALESCE(errorMessage, 'failed') END,"
        " CASE WHEN status = 'error' THEN COALESCE(errorCode, 'error') END, updatedAt"
        f" FROM chatSessions WHERE {_NO_TERMINAL}"
    )
    db.execute_sql(
        "UPDATE chatSessions SET lastSeq = " + _LAST_SEQ + ", startedAt = COALESCE(startedAt, createdAt),"
        " endedAt = COALESCE(endedAt, updatedAt), attempt = 1 WHERE status <> 'running' AND attempt = 0"
    )


def up(migrator: Any, db: Any) -> None:
    sqlite = is_sqlite(db)
    add_columns(db, "chatSessions", _session_columns(sqlite))
    add_columns(db, "chatEvents", _event_columns(sqlite))
    _widen(db)
    _renumber(db)
    _end_orphans(db)
    _give_every_ended_session_its_terminal_event(db)
    add_index(db, "chatEvents", "events_session_seq", ("sessionId", "seq"), unique=True)
    add_index(db, "chatSessions", "sessions_sweep", ("status", "leaseUntilMs", "id"))
    add_index(db, "chatSessions", "sessions_conversation", ("conversationId", "status", "id"))
    add_index(db, "chatSessions", "sessions_owner", ("owner", "id"))
    add_index(db, "chatSessions", "sessions_owner_status", ("owner", "status", "id"))
    add_index(db, "chatSessions", "sessions_owner_agent", ("owner", "agentId", "id"))
    add_index(db, "chatSessions", "sessions_owner_conversation", ("owner", "conversationId", "id"))
    add_index(db, "chatSessions", "sessions_idempotency", ("owner", "idempotencyKey"), unique=True)
