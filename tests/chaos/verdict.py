"""What must hold after a chaos run, whatever happened: each promise, and what breaks it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.chaos.plan import ONCE, UNKNOWN, Script

Row = dict[str, Any]


@dataclass
class Transcript:
    """What one poller saw of one session, until its end."""

    poller: str
    session_id: str
    events: list[Row]
    status: str


@dataclass
class Observed:
    """What clients saw."""

    #: Session ids that were answered, by idempotency key.
    accepted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: Script of each key.
    scripts: dict[str, Script] = field(default_factory=dict)
    transcripts: list[Transcript] = field(default_factory=list)
    #: `lastSeq` in the answer to a cancel that ended the session.
    cancelled: dict[str, int] = field(default_factory=dict)
    #: Sessions whose model broke off: they may end as its errors do.
    model_failed: set[str] = field(default_factory=set)
    #: Answers that no client should get, processes that died by themselves, rules that a page broke.
    strange: list[str] = field(default_factory=list)


@dataclass
class Stored:
    """What the database and the tools' record hold; rows by their column names."""

    sessions: list[Row]
    events: list[Row]
    messages: list[Row]
    #: The agent's history, and how often each type is in it.
    history: list[Row]
    counts: dict[str, int]
    #: Lines of `tests.chaos.tools` that say `began`.
    calls: list[Row]

    @cached_property
    def by_id(self) -> dict[str, Row]:
        return {row["sessionId"]: row for row in self.sessions}

    @cached_property
    def log(self) -> dict[str, list[Row]]:
        log: dict[str, list[Row]] = {row["sessionId"]: [] for row in self.sessions}
        for event in sorted(self.events, key=lambda event: event["seq"]):
            log.setdefault(event["sessionId"], []).append(event)
        return log

    @cached_property
    def executions(self) -> dict[tuple[str, str], list[Row]]:
        executions: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for call in self.calls:
            executions[call["sessionId"], call["toolCallId"]].append(call)
        return executions


def answer_of(events: Iterable[Row]) -> str:
    """The deltas that count, joined: the rule that every client follows."""
    counting: list[Row] = []
    for event in events:
        superseded = event.get("supersedesFrom")
        if superseded is not None:
            counting = [each for each in counting if each["seq"] < superseded]
        if event["eventType"] == "delta":
            counting.append(event)
    return "".join(event["content"] or "" for event in counting)


Check = Callable[[Observed, Stored, int], Iterable[str]]
CHECKS: list[tuple[str, Check]] = []


def _promise(text: str) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        CHECKS.append((text, check))
        return check

    return add


def judge(observed: Observed, stored: Stored, max_attempts: int) -> dict[str, list[str]]:
    """Every promise with what broke it."""
    return {text: list(check(observed, stored, max_attempts)) for text, check in CHECKS}


@_promise("clients got no answer they should not get, and no process died by itself")
def _nothing_strange(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    yield from observed.strange


@_promise("one session for each Idempotency-Key, and none besides")
def _one_for_each_key(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    for key, ids in observed.accepted.items():
        if len(ids) != 1:
            yield f"{key} is {len(ids)} sessions: {sorted(ids)}"
    wanted = {each for ids in observed.accepted.values() for each in ids}
    for session_id in wanted ^ set(stored.by_id):
        yield f"{session_id} is {'lost' if session_id in wanted else 'a session that nobody was told of'}"
    for session_id, count in Counter(row["sessionId"] for row in stored.sessions).items():
        if count != 1:
            yield f"{session_id} has {count} rows"


@_promise("every accepted session has ended, and holds no lease and no checkpoint")
def _all_ended(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    for row in stored.sessions:
        if row["status"] not in ("done", "error"):
            yield f"{row['sessionId']} is {row['status']}"
        elif row["leaseUntilMs"] is not None or row["checkpoint"] is not None or row["endedAt"] is None:
            yield f"{row['sessionId']} ended and still holds a lease or a checkpoint"


@_promise("seqs are 1 … n, unique, without a gap, in the order of commits")
def _gapless(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    for session_id, events in stored.log.items():
        seqs = [event["seq"] for event in events]
        if seqs != list(range(1, len(seqs) + 1)):
            yield f"{session_id}: {seqs}"
        if session_id not in stored.by_id:
            yield f"{session_id} has events and no row"
        elif stored.by_id[session_id]["lastSeq"] != len(seqs):
            yield f"{session_id}: lastSeq {stored.by_id[session_id]['lastSeq']} of {len(seqs)} events"
        ids = [event["id"] for event in events]
        if ids != sorted(ids):
            yield f"{session_id}: not stored in the order of its seqs"


@_promise("exactly one terminal event, the last one, with the row's status")
def _one_terminal(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    for session_id, events in stored.log.items():
        ends = [event for event in events if event["eventType"] in ("done", "error")]
        if len(ends) != 1 or events[-1] is not ends[0]:
            yield f"{session_id}: terminal events at {[event['seq'] for event in ends]} of {len(events)}"
        elif ends[0]["eventType"] != stored.by_id[session_id]["status"]:
            yield f"{session_id} is {stored.by_id[session_id]['status']} and ends with {ends[0]['eventType']}"


@_promise("no attempt writes after a later one has begun, and each opens with what it supersedes")
def _fenced(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    for session_id, events in stored.log.items():
        newest = 0
        for event in events:
            attempt = event["attempt"]
            if attempt < newest:
                yield f"{session_id}: event {event['seq']} of attempt {attempt} after attempt {newest}"
            if attempt > newest and event["eventType"] not in ("done", "error"):
                opens = event["eventType"] == "thinking" and (event["supersedesFrom"] is not None) == (attempt > 1)
                if not opens:
                    yield f"{session_id}: attempt {attempt} opens with {event['eventType']} {event['seq']}"
            newest = max(newest, attempt)


@_promise("the answer is the deltas that count, the terminal event's content, finalResponse and the assistant message")
def _one_answer(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    said: dict[str, list[Row]] = defaultdict(list)
    for message in stored.messages:
        said[message["sessionId"]].append(message)
    for row in stored.sessions:
        session_id, events = row["sessionId"], stored.log[row["sessionId"]]
        if row["status"] == "running" or not events:
            continue
        answer, last = answer_of(events), events[-1]
        shown = {"content": last["content"], "finalResponse": row["finalResponse"]}
        for name, text in shown.items():
            if text != answer:
                yield f"{session_id}: {name} {text!r} is not the deltas {answer!r}"
        roles = [message["role"] for message in said[session_id]]
        if roles != ["user", "assistant"]:
            yield f"{session_id}: messages of {roles}"
            continue
        user, assistant = said[session_id]
        if user["content"] != row["userMessage"]:
            yield f"{session_id}: the user said {user['content']!r}"
        if assistant["content"] != (answer or last["errorMsg"] or ""):
            yield f"{session_id}: the assistant said {assistant['content']!r}, not {answer!r}"


@_promise("a finished answer is what the model said, no word lost or doubled")
def _whole_answer(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    for key, ids in observed.accepted.items():
        for session_id in ids:
            row = stored.by_id.get(session_id)
            if row is None or row["status"] != "done":
                continue
            results = {
                event["toolCallId"]: event["toolResult"]
                for event in stored.log[session_id]
                if event["eventType"] == "tool_call" and event["toolSuccess"] is not None
            }
            pattern = observed.scripts[key].answer_pattern(results)
            if not pattern.fullmatch(row["finalResponse"]):
                yield f"{session_id}: {row['finalResponse']!r} is not {pattern.pattern!r}"


@_promise("every poller saw exactly 1 … n, in order, as the database has it")
def _polled(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    for seen in observed.transcripts:
        kept = stored.log.get(seen.session_id, [])
        if [_shape(event) for event in seen.events] != [_shape(event) for event in kept]:
            yield f"{seen.poller} saw {[e['seq'] for e in seen.events]} of {seen.session_id}, stored are {len(kept)}"
        row = stored.by_id.get(seen.session_id)
        if row is not None and seen.status != row["status"]:
            yield f"{seen.poller} stopped at {seen.status} of {seen.session_id}, which is {row['status']}"
    unseen = set(stored.by_id) - {seen.session_id for seen in observed.transcripts}
    for session_id in unseen:
        yield f"nobody saw the end of {session_id}"


def _shape(event: Row) -> tuple[Any, ...]:
    return (
        event["id"], event["seq"], event["eventType"], event["attempt"], event.get("content") or "",
        event.get("toolCallId"), event.get("toolResult"), event.get("supersedesFrom"),
    )  # fmt: skip


@_promise("a recorded tool call is not executed again, and what is not repeatable runs at most once")
def _tools_once(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    for (session_id, call_id), executions in stored.executions.items():
        if executions[0]["tool"] in ONCE and len(executions) > 1:
            yield f"{session_id} {call_id} ({executions[0]['tool']}) ran in attempts {_attempts(executions)}"
    for session_id, events in stored.log.items():
        for event in events:
            if event["eventType"] != "tool_call" or event["toolSuccess"] is None:
                continue
            executions = stored.executions.get((session_id, event["toolCallId"]), [])
            late = [each for each in executions if each["attempt"] > event["attempt"]]
            if late:
                yield f"{session_id} {event['toolCallId']}: recorded in {event['attempt']}, ran in {_attempts(late)}"
            if event["toolSuccess"] and not executions:
                yield f"{session_id} {event['toolCallId']}: a result and no execution"
            if not event["toolSuccess"] and UNKNOWN not in event["toolResult"]:
                yield f"{session_id} {event['toolCallId']}: {event['toolResult']!r}"


def _attempts(executions: Sequence[Row]) -> list[int]:
    return [each["attempt"] for each in executions]


@_promise("a tool call has one start and one result, in this order, in what counts")
def _tools_told_once(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    for session_id, events in stored.log.items():
        counting: list[Row] = []
        for event in events:
            if event["supersedesFrom"] is not None:
                counting = [each for each in counting if each["seq"] < event["supersedesFrom"]]
            counting.append(event)
        told: dict[str, list[bool]] = defaultdict(list)
        for event in counting:
            if event["eventType"] == "tool_call":
                told[event["toolCallId"]].append(event["toolSuccess"] is not None)
        done = events and events[-1]["eventType"] == "done"
        for call_id, results in told.items():
            if results != [False, True] and (done or results != [False]):
                yield f"{session_id} {call_id}: {['result' if each else 'start' for each in results]}"


@_promise("what was cancelled stayed cancelled, and nothing was appended")
def _cancelled(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    for session_id, last_seq in observed.cancelled.items():
        row = stored.by_id.get(session_id)
        if row is None or (row["status"], row["errorCode"]) != ("error", "cancelled"):
            yield f"{session_id} was cancelled and is {row and (row['status'], row['errorCode'])}"
        elif row["lastSeq"] != last_seq or len(stored.log[session_id]) != last_seq:
            yield f"{session_id} was cancelled at {last_seq} and has {len(stored.log[session_id])} events"


@_promise(
    "attempts stay within their limit, and sessions end as done, cancelled, by their model, or lost after them all"
)
def _attempts_limited(observed: Observed, stored: Stored, max_attempts: int) -> Iterable[str]:
    for row in stored.sessions:
        failures = row["attempt"] - row["handbacks"]
        if failures > max_attempts:
            yield f"{row['sessionId']}: {failures} attempts that count"
        expected = row["status"] != "error" or (
            row["sessionId"] in observed.cancelled
            if row["errorCode"] == "cancelled"
            else (row["errorCode"] == "worker_lost" and failures == max_attempts)
            or (row["errorCode"].startswith("model_") and row["sessionId"] in observed.model_failed)
        )
        if not expected:
            yield f"{row['sessionId']} ended as {row['errorCode']} after {failures} attempts: {row['errorMessage']}"


@_promise("sessions of one conversation run one after another")
def _one_after_another(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    threads: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(stored.sessions, key=lambda row: row["id"]):
        threads[row["conversationId"]].append(row)
    for rows in threads.values():
        for number, later in enumerate(rows):
            ran = [event["id"] for event in stored.log[later["sessionId"]] if event["eventType"] == "thinking"]
            for earlier in rows[:number]:
                events = stored.log[earlier["sessionId"]]
                if ran and events and events[-1]["id"] > ran[0]:
                    yield f"{later['sessionId']} ran before {earlier['sessionId']} had ended"


@_promise("the agent's history tells each session once, is numbered without a gap, and is counted right")
def _history(observed: Observed, stored: Stored, _: int) -> Iterable[str]:
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for row in stored.history:
        told[row["sessionId"]][row["eventType"]] += 1
    for row in stored.sessions:
        began, had = row["startedAt"] is not None, told[row["sessionId"]]
        wanted = {"prompt_sent": 1, "result": 1, "activity_changed": 2 if began else 0}
        if row["status"] != "running" and any(had[name] != count for name, count in wanted.items()):
            yield f"{row['sessionId']}: {dict(had)}"
    numbers: dict[str, list[int]] = defaultdict(list)
    for row in stored.history:
        numbers[row["conversationId"]].append(row["seq"])
    for conversation_id, seqs in numbers.items():
        if sorted(seqs) != list(range(1, len(seqs) + 1)):
            yield f"conversation {conversation_id}: {sorted(seqs)}"
    if Counter(row["eventType"] for row in stored.history) != Counter(stored.counts):
        yield f"counted {stored.counts}"
