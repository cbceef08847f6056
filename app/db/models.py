"""Tables and columns; no behaviour.

Names of `chatSessions` and `chatEvents` are those of the first deployment of this design, whose data is adopted.
"""

from __future__ import annotations

from peewee import (
    BigAutoField,
    BigIntegerField,
    CharField,
    CompositeKey,
    IntegerField,
)

from .account_models import AccountRow, LedgerRow
from .base import Base
from .fields import JsonField, LongTextField, Owned, UtcField
from .times import utc_now


class Session(Base):
    """One background run that answers one user message."""

    owned = Owned.BY_OWNER
    id = BigAutoField()
    session_id = CharField(64, column_name="sessionId", unique=True)
    conversation_id = CharField(64, column_name="conversationId", null=True)
    owner = CharField(64, default="local")
    agent_id = IntegerField(column_name="agentId", default=1)
    #: `running`, `done` or `error`; see the table in `app.sessions`.
    status = CharField(8, default="running")
    user_message = LongTextField(column_name="userMessage")
    final_response = LongTextField(column_name="finalResponse", null=True)
    model = CharField(128, null=True)
    #: Null: an adopted session whose tokens nobody counted.
    total_tokens = IntegerField(column_name="totalTokens", null=True, default=0)
    input_tokens = IntegerField(column_name="inputTokens", default=0)
    output_tokens = IntegerField(column_name="outputTokens", default=0)
    cache_read_tokens = IntegerField(column_name="cacheReadTokens", default=0)
    cache_write_tokens = IntegerField(column_name="cacheWriteTokens", default=0)
    #: Micro-units of money by the prices of the models; 0 where there are none.
    cost = BigIntegerField(default=0)
    #: 1: some of the tokens were not counted by a provider.
    usage_estimated = IntegerField(column_name="usageEstimated", default=0)
    #: The account that it is charged to; set by its claim, or when the account is opened later.
    account_id = BigIntegerField(column_name="accountId", null=True)
    #: The model request that is under way, for whoever ends the session meanwhile; see `app.sessions.spending`.
    open_request = CharField(255, column_name="openRequest", null=True)
    #: From the first claim to the end. Null: an adopted session whose time nobody took.
    processing_time_ms = IntegerField(column_name="processingTimeMs", null=True, default=0)
    error_message = LongTextField(column_name="errorMessage", null=True)
    error_code = CharField(64, column_name="errorCode", null=True)
    #: A model provider's own words of the failure, without keys. For whoever runs the deployment: no route shows it.
    provider_said = LongTextField(column_name="providerSaid", null=True)
    #: Why the model stopped, of a session that is done: `stop`, `length`, …
    finish_reason = CharField(32, column_name="finishReason", null=True)
    #: Fencing token: raised by every claim; only its holder writes.
    attempt = IntegerField(default=0)
    #: Attempts that don't count against `max_attempts`: handed back, or ended by the death of a shared worker.
    handbacks = IntegerField(default=0)
    last_seq = IntegerField(column_name="lastSeq", default=0)
    #: Whether it may be claimed: null (free, or ended) and 0 (orphaned) say yes; see `app.sessions.claims`.
    lease_until_ms = BigIntegerField(column_name="leaseUntilMs", null=True)
    #: Database time at which the turn has taken too long; set by the first claim.
    deadline_ms = BigIntegerField(column_name="deadlineMs", null=True)
    #: Name of the worker that claimed last.
    worker = CharField(128, null=True)
    #: Why the last attempt ended without ending the session; null: it has not, or nobody knows.
    cause = CharField(64, null=True)
    #: A line for each claim: the attempt, when, and the worker. Those of processes before migration 0019 are missing.
    workers = LongTextField(null=True)
    #: JSON text of the orchestrator's state; opaque here.
    checkpoint = LongTextField(null=True)
    #: Newest event that the checkpoint covers.
    checkpoint_seq = IntegerField(column_name="checkpointSeq", default=0)
    #: Which context of its conversation it belongs to; null until it is claimed.
    session_number = IntegerField(column_name="sessionNumber", null=True)
    #: Retention has deleted its events.
    events_pruned_at = UtcField(column_name="eventsPrunedAt", null=True)
    #: `X-Request-Id` of its POST.
    request_id = CharField(128, column_name="requestId", null=True)
    #: W3C `traceparent` of its POST: its attempts are spans of that trace.
    traceparent = CharField(64, null=True)
    idempotency_key = CharField(255, column_name="idempotencyKey", null=True)
    #: SHA-256 of the body that came with the key.
    request_hash = CharField(64, column_name="requestHash", null=True)
    created_at = UtcField(column_name="createdAt", default=utc_now)
    updated_at = UtcField(column_name="updatedAt", default=utc_now)
    started_at = UtcField(column_name="startedAt", null=True)
    ended_at = UtcField(column_name="endedAt", null=True)

    class Meta:
        table_name = "chatSessions"


class Event(Base):
    """One step of a session."""

    owned = Owned.BY_SESSION
    id = BigAutoField()
    session_id = CharField(64, column_name="sessionId")
    seq = IntegerField(default=0)
    event_type = CharField(16, column_name="eventType")
    attempt = IntegerField(default=1)
    content = LongTextField(null=True)
    supersedes_from = IntegerField(column_name="supersedesFrom", null=True)
    #: On the first event of a resumed attempt: why the one before ended.
    cause = CharField(64, null=True)
    tool_call_id = CharField(128, column_name="toolCallId", null=True)
    tool_name = CharField(128, column_name="toolName", null=True)
    tool_args = JsonField(column_name="toolArgs", null=True)
    tool_result = LongTextField(column_name="toolResult", null=True)
    #: 0 or 1; null while the tool runs.
    tool_success = IntegerField(column_name="toolSuccess", null=True)
    duration_ms = IntegerField(column_name="durationMs", null=True)
    model = CharField(128, null=True)
    usage_json = JsonField(column_name="usageJson", null=True)
    error_msg = LongTextField(column_name="errorMsg", null=True)
    error_code = CharField(64, column_name="errorCode", null=True)
    finish_reason = CharField(32, column_name="finishReason", null=True)
    created_at = UtcField(column_name="createdAt", default=utc_now)

    class Meta:
        table_name = "chatEvents"


class Conversation(Base):
    """The thread that sessions belong to. Its row is the lock that keeps their order."""

    owned = Owned.BY_OWNER
    id = BigAutoField()
    #: Clients choose it: unique for each owner.
    conversation_id = CharField(64, column_name="conversationId")
    owner = CharField(64)
    agent_id = IntegerField(column_name="agentId", default=1)
    title = CharField(255, default="")
    #: `chatSessions.id` at the last clear: the model sees only later exchanges.
    context_after = BigIntegerField(column_name="contextAfter", default=0)
    #: Newest `seq` of its history; never goes back.
    history_seq = BigIntegerField(column_name="historySeq", default=0)
    #: 1, raised by each clear of the context.
    session_number = IntegerField(column_name="sessionNumber", default=1)
    message_count = IntegerField(column_name="messageCount", default=0)
    #: `chatSessions.id` of the last message that interrupted: what runs before it ends.
    interrupted_before = BigIntegerField(column_name="interruptedBefore", default=0)
    #: 1: it is deleted a day after it was last used.
    ephemeral = IntegerField(default=0)
    created_at = UtcField(column_name="createdAt", default=utc_now)
    updated_at = UtcField(column_name="updatedAt", default=utc_now)

    class Meta:
        table_name = "chatConversations"
        indexes = ((("conversation_id", "owner"), True),)


class Message(Base):
    """What the user said or the assistant answered."""

    owned = Owned.BY_OWNER
    id = BigAutoField()
    owner = CharField(64)
    conversation_id = CharField(64, column_name="conversationId")
    session_id = CharField(64, column_name="sessionId")
    #: `user` or `assistant`.
    role = CharField(16)
    content = LongTextField()
    metadata = JsonField()
    #: Of an answer: see `app.events.parts`; null: it has none, or an older version stored it.
    parts = JsonField(null=True)
    created_at = UtcField(column_name="createdAt", default=utc_now)

    class Meta:
        table_name = "chatMessages"


class SessionOptions(Base):
    """What a caller says of a session beside its message."""

    owned = Owned.BY_SESSION
    session_id = CharField(64, column_name="sessionId", primary_key=True)
    #: Pairs of role and content, oldest first; null: the conversation's own.
    messages = JsonField(null=True)
    instructions = LongTextField(null=True)
    #: By the names of `app.parameters`.
    parameters = JsonField(null=True)
    metadata = JsonField(null=True)

    class Meta:
        table_name = "chatSessionOptions"


class SearchEntry(Base):
    """The words of one message, or of a conversation's title, for full text search."""

    owned = Owned.BY_OWNER
    id = BigAutoField()
    owner = CharField(64)
    conversation_id = CharField(64, column_name="conversationId")
    session_id = CharField(64, column_name="sessionId", null=True)
    #: Null: the title.
    message_id = BigIntegerField(column_name="messageId", null=True)
    words = LongTextField()

    class Meta:
        table_name = "chatSearch"


class AgentEvent(Base):
    """One step in the history of an agent."""

    owned = Owned.BY_OWNER
    row_id = BigAutoField(column_name="rowId")
    #: A UUID.
    id = CharField(36, unique=True)
    agent_id = IntegerField(column_name="agentId")
    owner = CharField(64)
    conversation_id = CharField(64, column_name="conversationId")
    #: Null: no session did it (`context_cleared`).
    session_id = CharField(64, column_name="sessionId", null=True)
    #: 1, 2, … within the conversation, gapless when written and never reused.
    seq = BigIntegerField()
    session_number = IntegerField(column_name="sessionNumber")
    event_type = CharField(24, column_name="eventType")
    content = LongTextField(null=True)
    metadata = JsonField()
    created_at = UtcField(column_name="createdAt", default=utc_now)

    class Meta:
        table_name = "chatAgentEvents"


class AgentCount(Base):
    """How many steps of a type an agent's history has; the sum over the shards."""

    owned = Owned.BY_OWNER
    agent_id = IntegerField(column_name="agentId")
    owner = CharField(64)
    #: Spreads writers: they don't wait for each other's commit at one row.
    shard = IntegerField()
    event_type = CharField(24, column_name="eventType")
    n = BigIntegerField()

    class Meta:
        table_name = "chatAgentCounts"
        primary_key = CompositeKey("agent_id", "owner", "shard", "event_type")


class Lease(Base):
    """Work that one process does at a time: sweeping, pruning."""

    owned = Owned.NOT
    name = CharField(64, primary_key=True)
    holder = CharField(128)
    until_ms = BigIntegerField(column_name="untilMs")

    class Meta:
        table_name = "chatLeases"


class Worker(Base):
    """A worker process: alive while `beat` moves; see `app.db.heartbeats`."""

    owned = Owned.NOT

    name = CharField(128, primary_key=True)
    beat = BigIntegerField(default=0)
    #: What it died of; null: nobody has found it dead.
    cause = CharField(64, null=True)
    #: Row ids of the sessions whose own code ran when it died; null: nobody knows.
    suspects = JsonField(null=True)
    #: How many sessions it was started for; null: it takes them from the queue; 0: what others held is left of it.
    sessions = IntegerField(null=True)

    class Meta:
        table_name = "chatWorkers"


class Revocation(Base):
    """Tokens that hold no longer: those that were issued up to a moment, of one id or of one owner."""

    owned = Owned.NOT
    #: `token ID`, or `owner HASH`: under a key, as it outlives what its owner has erased.
    subject = CharField(160, primary_key=True)
    #: Milliseconds since 1970.
    until_ms = BigIntegerField(column_name="untilMs")

    class Meta:
        table_name = "chatRevocations"


MODELS: tuple[type[Base], ...] = (
    Session, SessionOptions, Event, Conversation, Message, SearchEntry, AgentEvent, AgentCount, AccountRow, LedgerRow,
    Lease, Worker, Revocation,
)  # fmt: skip
