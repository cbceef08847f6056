"""What runs need to survive their worker: attempts, leases, checkpoints, gapless seqs; wider text.

Adopts what stands: seqs become 1..n with one terminal event, that last, and a status that agrees with it; sessions that
a dead gateway left `running` end as `worker_lost`, and every ended session has its terminal event. No event is dropped.
"""

from __future__ import annotations

from typing import Any

from migrations.steps import add_columns, add_index, alter, is_sqlite

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
    alter(
        db,
        "ALTER TABLE `chatSessions` MODIFY `id` BIGINT NOT NULL AUTO_INCREMENT, MODIFY `userMessage` LONGTEXT NOT NULL,"
        " MODIFY `finalResponse` LONGTEXT NULL, MODIFY `errorMessage` LONGTEXT NULL,"
        " MODIFY `createdAt` TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),"
        # Without ON UPDATE: adopting a row, or renewing its lease, is no change that a user sees.
        " MODIFY `updatedAt` TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)",
    )
    alter(
        db,
        "ALTER TABLE `chatEvents` MODIFY `id` BIGINT NOT NULL AUTO_INCREMENT, MODIFY `content` LONGTEXT NULL,"
        " MODIFY `toolResult` LONGTEXT NULL, MODIFY `errorMsg` LONGTEXT NULL,"
        # MariaDB's JSON refuses what is nested more than 32 deep, MySQL's gives back other text than was put in.
        " MODIFY `toolArgs` LONGTEXT NULL, MODIFY `usageJson` LONGTEXT NULL,"
        " MODIFY `createdAt` TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)",
    )


def _give_stray_events_a_session(db: Any) -> None:
    """What is left of a session whose row is gone can be read again; what had been asked is not known."""
    db.execute_sql(
        "INSERT INTO chatSessions (sessionId, userMessage, status, createdAt, updatedAt)"
        " SELECT e.sessionId, '', 'running', MIN(e.createdAt), MAX(e.createdAt) FROM chatEvents AS e"
        " LEFT JOIN chatSessions AS s ON s.sessionId = e.sessionId WHERE s.id IS NULL"
        " GROUP BY e.sessionId ORDER BY MIN(e.id)"
    )


_TERMINAL = "t.sessionId = chatSessions.sessionId AND t.eventType IN ('done', 'error')"


def _last_terminal(column: str) -> str:
    return f"(SELECT t.{column} FROM chatEvents AS t WHERE {_TERMINAL} ORDER BY t.seq DESC, t.id DESC LIMIT 1)"


def _end_what_has_its_terminal_event(db: Any) -> None:
    """The gateway died between the last event and the row: the answer is complete."""
    db.execute_sql(
        "UPDATE chatSessions SET"
        f" finalResponse = COALESCE(finalResponse, {_last_terminal('content')}),"
        f" errorMessage = COALESCE(errorMessage, {_last_terminal('errorMsg')}),"
        f" model = COALESCE(model, {_last_terminal('model')}),"
        f" status = {_last_terminal('eventType')}"
        f" WHERE status = 'running' AND EXISTS (SELECT 1 FROM chatEvents AS t WHERE {_TERMINAL})"
    )


# Terminal events that can't be the one of their session: of another type than its row says, or not the last one.
_SURPLUS = (
    "SELECT id FROM (SELECT e.id AS id, s.status AS status, e.eventType AS eventType, ROW_NUMBER() OVER"
    " (PARTITION BY e.sessionId ORDER BY CASE WHEN e.eventType = s.status THEN 0 ELSE 1 END, e.seq DESC, e.id DESC)"
    " AS n"
    " FROM chatEvents AS e LEFT JOIN chatSessions AS s ON s.sessionId = e.sessionId"
    " WHERE e.eventType IN ('done', 'error')) AS ranked WHERE n > 1 OR eventType <> status"
)


def _leave_one_terminal_event(db: Any) -> None:
    """Two writers ended the same session: what the other one said stays readable, and ends nothing."""
    # A derived table within a derived table: MySQL refuses to read the table that it updates otherwise.
    db.execute_sql(
        "UPDATE chatEvents SET content = COALESCE(NULLIF(content, ''), errorMsg), eventType = 'thinking'"
        f" WHERE id IN (SELECT id FROM ({_SURPLUS}) AS surplus)"
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
    # `done` carries the whole answer, whatever the gateway had put there.
    whole = "SELECT s.finalResponse FROM chatSessions AS s WHERE s.sessionId = chatEvents.sessionId"
    db.execute_sql(f"UPDATE chatEvents SET content = ({whole}) WHERE eventType = 'done' AND COALESCE(content, '') = ''")
    db.execute_sql("UPDATE chatEvents SET errorCode = 'error' WHERE eventType = 'error' AND errorCode IS NULL")
    db.execute_sql("UPDATE chatSessions SET errorCode = 'error' WHERE status = 'error' AND errorCode IS NULL")
    db.execute_sql(
        f"UPDATE chatSessions SET lastSeq = {_LAST_SEQ}, startedAt = COALESCE(startedAt, createdAt),"
        " endedAt = COALESCE(endedAt, updatedAt), attempt = 1 WHERE status <> 'running' AND attempt = 0"
    )


def up(migrator: Any, db: Any) -> None:
    sqlite = is_sqlite(db)
    add_columns(db, "chatSessions", _session_columns(sqlite))
    add_columns(db, "chatEvents", _event_columns(sqlite))
    _widen(db)
    _give_stray_events_a_session(db)
    _end_what_has_its_terminal_event(db)
    _leave_one_terminal_event(db)
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
