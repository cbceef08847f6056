"""The group commit: numbers, fences, repeats and ends, all in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from app import db, sessions
from app.db.models import Message
from app.events import MAX_EVENT_BYTES, Delta, Done, Error, Event, Thinking, ToolCall, Usage, coalesce, log
from app.sessions import commit, removal
from app.sessions.claims import Claim
from app.sessions.commit import Batch
from tests.factories import (
    OWNER,
    assert_sound,
    at_once,
    events_of,
    exists,
    failures,
    kinds_of,
    make_claim,
    make_session,
    messages_of,
    orphan,
    record,
    retried,
    row,
    seqs_of,
    shown,
    write,
)

pytestmark = pytest.mark.usefixtures("store")

ENDS = {
    "taken over": lambda claim: (orphan(claim.session_id), make_claim(claim.session_id, worker="worker-2")),
    "cancelled": lambda claim: sessions.end(claim.session_id, Error("cancelled", "cancelled by the user")),
    "deleted": lambda claim: removal.delete(OWNER, claim.session_id),
}


# numbers


def test_the_events_of_several_sessions_are_each_numbered_from_one() -> None:
    claims = [make_claim() for _ in range(3)]

    outcomes = commit.commit([Batch(claim, 0, [Thinking(""), Delta("x")]) for claim in claims])
    commit.commit([Batch(claim, 2, [Delta("y")] * 3) for claim in claims[::-1]])

    assert [(each.current, each.last_seq, each.status) for each in outcomes] == [(True, 2, "running")] * 3
    for claim in claims:
        assert seqs_of(claim.session_id) == [1, 2, 3, 4, 5]
        assert_sound(claim.session_id)


def test_outcomes_come_in_the_order_of_the_batches() -> None:
    claims = [make_claim() for _ in range(4)]
    removal.delete(OWNER, claims[1].session_id)
    batches = [Batch(claim, 0, [Delta("x")] * number) for number, claim in enumerate(claims, start=1)]

    outcomes = commit.commit(batches[::-1])

    assert [(each.current, each.last_seq) for each in outcomes] == [(True, 4), (True, 3), (False, 0), (True, 1)]


def test_thousands_of_events_of_hundreds_of_sessions_fit_one_flush() -> None:
    claims = [make_claim() for _ in range(40)]

    outcomes = commit.commit([Batch(claim, 0, [Delta("text")] * 60) for claim in claims])

    assert all(each.current and each.last_seq == 60 for each in outcomes)
    assert_sound(claims[17].session_id)


def test_a_batch_that_does_not_follow_what_is_stored_writes_nothing() -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("x"))

    behind, ahead = record(Batch(claim, 1, [Delta("y")])), record(Batch(claim, 5, [Delta("y")]))

    assert (behind.current, ahead.current) == (False, False)
    assert seqs_of(claim.session_id) == [1, 2]


# fences


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize(
    "events",
    [[Delta("late")], [Delta("late"), Done("late")], [Error("timeout", "late")]],
    ids=["text", "done", "error"],
)
def test_an_attempt_that_is_no_longer_current_writes_nothing(
    end: Callable[[Claim], object], events: list[Event]
) -> None:
    claim, other = make_claim(), make_claim()
    write(claim, Thinking(""), Delta("early"))
    end(claim)
    before = row(claim.session_id).last_seq if exists(claim.session_id) else None

    lost, kept = commit.commit([Batch(claim, 2, events, ('{"late": 1}', 1)), Batch(other, 0, [Delta("x")])])

    assert not lost.current
    assert kept.current
    assert seqs_of(other.session_id) == [1]
    if before is None:
        assert seqs_of(claim.session_id) == []
        return
    session = row(claim.session_id)
    assert session.last_seq == before
    assert session.checkpoint is None
    assert "late" not in json.dumps(events_of(claim.session_id))
    assert_sound(claim.session_id)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_repeated_batch_of_a_lost_attempt_writes_nothing_either(end: Callable[[Claim], object]) -> None:
    claim = make_claim()
    write(claim, Thinking(""))
    end(claim)

    outcome = record(Batch(claim, 1, [Delta("late")], retried=True))

    assert not outcome.current
    if exists(claim.session_id):
        assert "late" not in json.dumps(events_of(claim.session_id))


def test_an_attempt_writes_nothing_after_its_own_end() -> None:
    claim = make_claim()
    write(claim, Thinking(""), Done("all"))

    outcome = record(Batch(claim, 2, [Delta("more")]))

    assert not outcome.current
    assert_sound(claim.session_id)


def test_two_attempts_at_once_never_mix() -> None:
    old = make_claim()
    write(old, Thinking(""))
    orphan(old.session_id)

    def take_over() -> None:
        new = make_claim(old.session_id, worker="worker-2")
        write(new, Thinking("", 1), Delta("new"), Done("new"))

    def go_on() -> None:
        seq = 1
        for _ in range(20):
            outcome = record(Batch(old, seq, [Delta("old")]))
            if not outcome.current:
                return
            seq = outcome.last_seq

    assert failures(at_once([go_on, take_over])) == []

    attempts = [event["attempt"] for event in events_of(old.session_id)]
    assert attempts == sorted(attempts)
    assert row(old.session_id).final_response == "new"
    assert_sound(old.session_id)


# repeats


@pytest.mark.parametrize(
    "events",
    [[Delta("x"), Delta("y")], [Delta("x"), Done("x")], [Error("timeout", "late")]],
    ids=["text", "done", "error"],
)
def test_a_repeated_batch_that_had_landed_is_not_written_twice(events: list[Event]) -> None:
    claim = make_claim()
    write(claim, Thinking(""))
    batch = Batch(claim, 1, events)
    first = record(batch)

    again = record(retried(batch))

    assert again == first
    assert seqs_of(claim.session_id) == list(range(1, 2 + len(events)))
    assert_sound(claim.session_id)


def test_a_repeated_batch_that_had_not_landed_is_written() -> None:
    claim = make_claim()

    outcome = record(Batch(claim, 0, [Thinking(""), Delta("x"), Done("x")], retried=True))

    assert (outcome.current, outcome.last_seq, outcome.status) == (True, 3, "done")
    assert_sound(claim.session_id)


def test_a_landed_batch_that_comes_again_among_new_ones_does_not_hold_them_up() -> None:
    landed, new = make_claim(), make_claim()
    batch = Batch(landed, 0, [Thinking(""), Delta("x")])
    record(batch)

    outcomes = commit.commit([retried(batch), Batch(new, 0, [Delta("y")])])

    assert [(each.current, each.last_seq) for each in outcomes] == [(True, 2), (True, 1)]
    assert seqs_of(landed.session_id) == [1, 2]


def test_a_repeated_checkpoint_without_events_is_stored() -> None:
    claim = make_claim()
    write(claim, Thinking(""))
    batch = Batch(claim, 1, [], ('{"step": 1}', 0))

    first, again = record(batch), record(retried(batch))

    assert first == again
    assert (row(claim.session_id).checkpoint, row(claim.session_id).checkpoint_seq) == ('{"step": 1}', 1)


def test_an_end_of_ours_is_not_taken_for_the_cancel_that_came_before_it() -> None:
    claim = make_claim()
    write(claim, Thinking(""))
    sessions.end(claim.session_id, Error("cancelled", "cancelled by the user"))

    record(Batch(claim, 1, [Error("timeout", "late")], retried=True))

    assert row(claim.session_id).error_code == "cancelled"
    assert_sound(claim.session_id)


# checkpoints and resuming


def test_a_checkpoint_covers_the_events_before_it_and_not_those_after() -> None:
    claim = make_claim()

    write(claim, Thinking(""), Delta("kept"), Delta("lost"), checkpoint='{"step": 1}', covered=2)
    write(claim, Delta("lost too"))

    session = row(claim.session_id)
    assert (session.checkpoint, session.checkpoint_seq, session.last_seq) == ('{"step": 1}', 2, 4)
    assert db.reading(lambda: log.answer_text(claim.session_id, session.checkpoint_seq)) == "kept"


def test_the_partial_answer_of_a_resumed_session_is_what_was_not_superseded() -> None:
    first = make_claim()
    write(first, Thinking(""), Delta("a"), Delta("b"), checkpoint="{}")
    write(first, Delta("lost"), Delta("lost too"))
    orphan(first.session_id)
    second = make_claim(first.session_id)
    write(second, Thinking("", second.checkpoint_seq + 1), Delta("c"))
    orphan(first.session_id)
    third = make_claim(first.session_id)
    write(third, Thinking("", third.checkpoint_seq + 1), Delta("d"))

    sessions.end(first.session_id, Error("cancelled", "cancelled by the user"))

    assert (second.checkpoint_seq, third.checkpoint_seq) == (3, 3)
    assert events_of(first.session_id)[-1]["content"] == "abd"
    assert row(first.session_id).final_response == "abd"
    assert_sound(first.session_id)


def test_an_attempt_without_a_checkpoint_supersedes_everything() -> None:
    first = make_claim()
    write(first, Thinking(""), Delta("lost"))
    orphan(first.session_id)
    second = make_claim(first.session_id)

    write(second, Thinking("", second.checkpoint_seq + 1), Delta("new"))

    resumed = events_of(first.session_id)[2]
    assert (resumed["supersedesFrom"], resumed["attempt"]) == (1, 2)
    assert db.reading(lambda: log.answer_text(first.session_id)) == "new"


# the end


def test_one_commit_brings_the_terminal_event_the_status_the_answer_and_the_message() -> None:
    claim = make_claim()
    usage = Usage(input_tokens=10, output_tokens=5, cache_read_tokens=4, cache_write_tokens=3)

    write(claim, Thinking(""), Delta("Hi"), Done("Hi", "gpt-x", usage, 120))

    session = shown(claim.session_id)
    assert (session["status"], session["finalResponse"], session["model"]) == ("done", "Hi", "gpt-x")
    assert (session["inputTokens"], session["outputTokens"], session["totalTokens"]) == (10, 5, 15)
    assert (session["cacheReadTokens"], session["cacheWriteTokens"]) == (4, 3)
    assert session["endedAt"] is not None
    assert messages_of(claim.session_id) == [("user", "Hello?"), ("assistant", "Hi")]
    done = events_of(claim.session_id)[-1]
    assert done["usageJson"] == {
        "inputTokens": 10,
        "outputTokens": 5,
        "cacheReadTokens": 4,
        "cacheWriteTokens": 3,
        "totalTokens": 15,
    }
    assert (done["content"], done["model"], done["durationMs"]) == ("Hi", "gpt-x", 120)
    held = row(claim.session_id)
    assert (held.lease_until_ms, held.checkpoint) == (None, None)


def test_an_error_keeps_the_partial_answer_and_says_why() -> None:
    claim = make_claim()

    write(claim, Thinking(""), Delta("half"), Error("model_timeout", "the model was silent", "half", 9))

    session, error = shown(claim.session_id), events_of(claim.session_id)[-1]
    assert (session["status"], session["errorCode"], session["errorMessage"], session["finalResponse"]) == (
        "error", "model_timeout", "the model was silent", "half",
    )  # fmt: skip
    assert (error["errorCode"], error["errorMsg"], error["content"]) == (
        "model_timeout",
        "the model was silent",
        "half",
    )


def test_an_error_without_any_answer_is_told_in_the_conversation() -> None:
    claim = make_claim()

    write(claim, Thinking(""), Error("model_auth", "the key was refused"))

    assert messages_of(claim.session_id)[-1] == ("assistant", "the key was refused")
    assert shown(claim.session_id)["finalResponse"] == ""


def test_an_end_without_model_or_usage_leaves_what_the_row_had() -> None:
    claim = make_claim(make_session(model="asked-for"))

    write(claim, Thinking(""), Done("x"))

    session, done = shown(claim.session_id), events_of(claim.session_id)[-1]
    assert (session["model"], session["totalTokens"]) == ("asked-for", 0)
    assert (done["usageJson"], done["model"]) == (None, "")


def test_ends_of_sessions_of_one_conversation_at_once_do_not_block_each_other() -> None:
    claims = [make_claim() for _ in range(8)]
    batches = [Batch(claim, 0, [Thinking(""), Done("x")]) for claim in claims]

    outcomes = at_once([lambda half=half: commit.commit(half) for half in (batches[::2], batches[1::2][::-1])])

    assert failures(outcomes) == []
    for claim in claims:
        assert_sound(claim.session_id)


def test_the_tool_calls_of_a_turn_are_told_with_its_message() -> None:
    claim = make_claim()

    write(
        claim,
        Thinking(""),
        ToolCall("c1", "add", {"a": [1, None, "x"]}),
        ToolCall("c1", "add", {"a": [1, None, "x"]}, "2", True, 5),
        ToolCall("c2", "add", "no json", "wrong", False, 1),
        Done("2"),
    )

    query = Message.select().where((Message.session_id == claim.session_id) & (Message.role == "assistant"))
    message = db.reading(query.get)
    assert message.metadata["toolCalls"] == [
        {"toolCallId": "c1", "toolName": "add", "args": {"a": [1, None, "x"]}, "isError": False},
        {"toolCallId": "c2", "toolName": "add", "args": "no json", "isError": True},
    ]


# large and strange content


def test_an_answer_of_16_mib_survives_whole() -> None:
    claim = make_claim()
    answer = "Привет 🙂 " * (860 * 1024)
    assert 15 * 1024 * 1024 < len(answer.encode()) < 16 * 1024 * 1024

    record(Batch(claim, 0, [Done(answer)]))

    assert shown(claim.session_id)["finalResponse"] == answer
    assert events_of(claim.session_id)[-1]["content"] == answer
    assert messages_of(claim.session_id)[-1] == ("assistant", answer)


def test_a_long_text_is_read_whole_in_pieces_of_16_kib() -> None:
    claim = make_claim()
    text = "Привет 🙂 " * (100 * 1024)

    write(claim, *coalesce([Delta(text)]))
    write(claim, Done(text))

    read: list[str] = []
    after, status = 0, "running"
    while status == "running":
        page = log.read(OWNER, claim.session_id, after, 7)
        read += [event["content"] for event in page.events if event["eventType"] == "delta"]
        after, status = page.next_after, page.status
    assert "".join(read) == text
    assert max(len(piece.encode()) for piece in read) <= MAX_EVENT_BYTES
    assert len(read) == -(-len(text.encode()) // MAX_EVENT_BYTES)


def test_a_tool_result_of_1_mib_survives_whole() -> None:
    claim = make_claim()
    result = "строка\n" * (90 * 1024)
    assert len(result.encode()) > 1024 * 1024

    write(claim, Thinking(""), ToolCall("c", "read", {"path": "x"}, result, True, 3), Done("ok"))

    assert events_of(claim.session_id)[1]["toolResult"] == result


def test_many_large_events_in_one_batch_fit_the_packets_of_the_database() -> None:
    claim = make_claim()
    large = "y" * (1024 * 1024)

    write(claim, *(ToolCall(f"c{number}", "read", {"text": large}, large, True, 1) for number in range(8)))

    assert len(events_of(claim.session_id)) < 8  # a page stops growing before that
    assert seqs_of(claim.session_id) == list(range(1, 9))


STRANGE = {
    "emoji": "🙂👩‍👩‍👧‍👦\U0010ffff",
    "nul": "a\x00b",
    "controls": "\x01\x1b[31m\r\n\t\x7f\u2028\u2029\ufeff",
    "quotes": "'\"`\\ %s %% ? :x --",
    "rtl": "\u202eשלום",
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE.keys())
def test_strange_text_comes_back_as_it_was(text: str) -> None:
    claim = make_claim(make_session(message=text))

    write(
        claim,
        Thinking(text),
        Delta(text),
        ToolCall("c", "tool", {"key": text, text: [text]}, text, True, 1),
        Done(text, "m"),
    )

    thinking, delta, call, done = events_of(claim.session_id)
    assert (thinking["content"], delta["content"], done["content"]) == (text, text, text)
    assert (call["toolResult"], call["toolArgs"]) == (text, {"key": text, text: [text]})
    assert (shown(claim.session_id)["userMessage"], shown(claim.session_id)["finalResponse"]) == (text, text)
    assert messages_of(claim.session_id) == [("user", text), ("assistant", text)]


HALF = "a\ud83db"


@pytest.mark.parametrize(
    "event",
    [
        Thinking(HALF),
        Delta(HALF),
        ToolCall(HALF, HALF, {HALF: [HALF]}, HALF, True, 1),
        Done(HALF, HALF),
        Error("model_error", HALF, HALF),
        Error(HALF, HALF),
    ],
    ids=["thinking", "delta", "tool_call", "done", "error", "error code"],
)
def test_half_a_surrogate_pair_is_replaced_and_can_be_sent_to_a_client(event: Event) -> None:
    claim = make_claim()

    write(claim, event)

    [stored] = events_of(claim.session_id)
    sent = json.dumps([stored, shown(claim.session_id)], ensure_ascii=False).encode("utf-8")
    assert b"a?b" in sent
    for message in db.reading(lambda: list(Message.select())):
        json.dumps([message.content, message.metadata], ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("args", [{"x": float("nan")}, [float("inf")], {"x": {"y": [-float("inf")]}}])
def test_numbers_that_are_no_json_do_not_break_the_log_of_a_session(args: object) -> None:
    claim = make_claim()

    write(claim, Thinking(""), ToolCall("c", "tool", args))

    sent = json.dumps(events_of(claim.session_id))
    assert json.loads(sent, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_deeply_nested_arguments_come_back_as_they_were() -> None:
    claim = make_claim()
    args: object = "core"
    for _ in range(200):
        args = {"in": [args]}

    write(claim, ToolCall("c", "tool", args))

    assert events_of(claim.session_id)[0]["toolArgs"] == args


@pytest.mark.parametrize("depth", [501, 940])
def test_arguments_nested_too_deeply_for_their_readers_are_told_as_text(depth: int) -> None:
    claim = make_claim()
    args: object = '"}]'
    for _ in range(depth):
        args = [args]

    write(claim, ToolCall("c", "tool", args))
    write(claim, ToolCall("c", "tool", args, "ok", True, 1), Done("all"))

    told = events_of(claim.session_id)[0]["toolArgs"]
    assert told == "[" * depth + json.dumps('"}]') + "]" * depth
    assert row(claim.session_id).status == "done"


def test_brackets_beside_each_other_are_not_deep() -> None:
    claim = make_claim()
    args = {"lists": [[[]]] * 1000, "text": "[{" * 1000 + '"'}

    write(claim, ToolCall("c", "tool", args))

    assert events_of(claim.session_id)[0]["toolArgs"] == args


def test_names_and_ids_that_are_too_long_are_cut() -> None:
    claim = make_claim()
    long = "ж" * 300

    write(claim, ToolCall(long, long, None), Done("x", long))

    call, done = events_of(claim.session_id)
    assert (call["toolCallId"], call["toolName"], done["model"]) == (long[:128], long[:128], long[:128])
    assert kinds_of(claim.session_id) == ["tool_call", "done"]
