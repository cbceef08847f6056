"""Full text search finds the same on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app import db
from app.conversations import search as message_search
from app.db.models import Conversation, SearchEntry
from app.events import Done
from app.sessions import commit
from app.sessions.commit import Batch
from tests.conftest import opened
from tests.factories import OWNER, make_claim, make_created, make_session
from tests.servers import MariaDB
from tests.stage import Echo, Stage, saying, working

SAID = {
    "english": "The café's crème brûlée: 42 flavours, I think (v2.0)!",
    "russian": "Съешь ещё этих мягких французских булок, да выпей чаю",
    "chinese": "我昨天去了东京都的图书馆。",
    "japanese": "すもももももももものうち",
    "thai": "ภาษาไทยไม่มีช่องว่าง",
    "hindi": "मुझे हिन्दी आती है",
    "korean": "안녕하세요 세계",
    "arabic": "السَّلامُ عليكم",
    "compatibility": "ﬁnd ⅷ Ｆｕｌｌ",
    "stop words": "to be or not to be, that is it",
    "long": "x" * 200 + " Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz",
    "hostile": 'a" OR "b* +c -d NEAR(e) (f) %_ \\ \' ; DROP TABLE',
}


@pytest.fixture
def talked(stage: Stage) -> dict[str, str]:
    """The conversations of `SAID`: id → name."""
    return {stage.post("Title\n" + text)["conversationId"]: name for name, text in SAID.items()}


def found(stage: Stage, talked: dict[str, str], query: str) -> set[str]:
    results = stage.get("/api/conversations/search", q=query, limit=100)["results"]
    return {talked[result["conversationId"]] for result in results}


def test_words_are_found_in_every_script_whatever_their_case_accents_and_length(
    stage: Stage, talked: dict[str, str]
) -> None:
    queries = {
        "english": ["CAFE", "café", "creme brulee", "42", "i think", "brûlée flavours", "flav", "crème the", "v2"],
        "russian": ["съешь", "ЕЩЕ", "ещё", "чаю", "мягких булок", "фран", "да"],
        "chinese": ["东京", "图书馆", "京", "馆", "昨天 图书馆", "我"],
        "japanese": ["すもも", "うち", "のう"],
        "thai": ["ไทย", "ภาษา", "ช่องว่าง"],
        "hindi": ["हिन्दी", "मुझे"],
        "korean": ["안녕하세요", "안녕", "세계"],
        "arabic": ["السلام", "عليكم"],
        "compatibility": ["find", "viii", "full"],
        "stop words": ["that is it", "to be", "not to"],
        "long": ["rindfleischetikettierungsuberwachungsaufgabenubertragungsgesetz", "x" * 200, "rindfleisch"],
        "hostile": ["drop table", "NEAR", 'a" OR "b', "+c -d", "(f)"],
    }

    for name, asked in queries.items():
        for query in asked:
            assert name in found(stage, talked, query), query


@pytest.mark.parametrize(
    "query", ["lavours", "думал", "北京", "cafe missing", "the caf 43", "!!!", "🙂", "%", "_", '"', "*", "+ -", "a*q*c"]
)
def test_what_was_not_said_is_not_found(stage: Stage, talked: dict[str, str], query: str) -> None:
    assert found(stage, talked, query) == set()


def test_only_the_last_word_may_be_a_beginning(stage: Stage, talked: dict[str, str]) -> None:
    assert found(stage, talked, "creme flav") == {"english"}
    assert found(stage, talked, "flav creme") == set()


def test_a_conversation_is_found_once_with_its_newest_match_and_the_newest_first(stage: Stage) -> None:
    with working(stage.settings, Echo()) as worker:
        old = stage.ask(worker, "Where is the lighthouse?")["conversationId"]
        new = stage.ask(worker, "A lighthouse, please. " + "And a long story. " * 30)["conversationId"]
        last = stage.ask(worker, "x " * 100 + "the LIGHTHOUSE again", conversationId=old)

    first = stage.get("/api/conversations/search", q="lighthouse", limit=1)
    second = stage.get("/api/conversations/search", q="lighthouse", limit=1, cursor=first["nextCursor"])

    [match] = first["results"]
    assert (match["conversationId"], match["sessionId"], match["role"]) == (old, last["sessionId"], "assistant")
    assert match["title"] == "Where is the lighthouse?"
    assert "LIGHTHOUSE again" in match["snippet"]
    assert match["snippet"].startswith("…")
    assert [each["conversationId"] for each in second["results"]] == [new]
    assert (first["hasMore"], second["hasMore"], second["nextCursor"]) == (True, False, None)


def test_answers_and_changed_titles_are_found_and_old_titles_are_not(stage: Stage) -> None:
    with working(stage.settings, saying("An answer about penguins")) as worker:
        conversation_id = stage.ask(worker, "Which birds?")["conversationId"]
    stage.patch(f"/api/conversations/{conversation_id}", {"title": "Antarctica"})

    def results(query: str) -> list[Any]:
        return list(stage.get("/api/conversations/search", q=query)["results"])

    assert [each["role"] for each in results("penguins")] == ["assistant"]
    assert [(each["role"], each["messageId"], each["snippet"]) for each in results("antarc")] == [
        (None, None, "Antarctica")
    ]
    stage.patch(f"/api/conversations/{conversation_id}", {"title": "Cold"})
    assert results("antarctica") == []


def test_what_is_deleted_or_cleared_is_found_no_more(stage: Stage) -> None:
    with working(stage.settings, Echo()) as worker:
        session = stage.ask(worker, "title\nalpha")
        stage.ask(worker, "beta", conversationId=session["conversationId"])
    path = f"/api/conversations/{session['conversationId']}"

    stage.delete(f"/api/chat/session/{session['sessionId']}")
    assert stage.get("/api/conversations/search", q="alpha")["results"] == []
    assert len(stage.get("/api/conversations/search", q="beta")["results"]) == 1
    stage.delete(f"{path}/messages")
    assert stage.get("/api/conversations/search", q="beta")["results"] == []
    assert len(stage.get("/api/conversations/search", q="title")["results"]) == 1
    stage.delete(path)
    assert stage.get("/api/conversations/search", q="title")["results"] == []
    assert db.reading(lambda: SearchEntry.select().count()) == 0


def ids_found(query: str, owner: str = OWNER) -> list[str]:
    return [each["sessionId"] for each in message_search.search(owner, query).rows]


def test_the_index_itself_tells_owners_apart(store: str) -> None:
    mine, others = (
        make_session(owner="anna", message="common 東京都"),
        make_session(owner="bert", message="common 東京都"),
    )
    queries = ("common", "com", "東京", "東", "common 東京")
    assert [ids_found(query, "bert") for query in queries] == [[others]] * len(queries)

    # Only their words still say whose they are.
    db.transaction(SearchEntry.update(owner="anna").execute)

    assert [ids_found(query, "anna") for query in queries] == [[mine]] * len(queries)


def written_by_an_older_process(session_id: str, words: str) -> None:
    changed = SearchEntry.update(words=words).where(SearchEntry.session_id == session_id)
    assert db.transaction(changed.execute) == 1


def test_entries_of_an_older_process_are_found_before_and_after_they_get_their_mark(store: str) -> None:
    long = "x" * 90
    older = [make_session(message="other") for _ in range(3)]
    for session_id in older:
        written_by_an_older_process(session_id, f"xxcommon xxwords yy0kfl0fjg xx{'x' * 80}")
    new = make_session(message=f"common words 東京都 {long}")
    make_session(owner="anna", message="common words 東京都")
    queries = ("common", "com", "words comm", "東", "東京", long)

    before = [ids_found(query) for query in queries]
    marked = [message_search.mark(2) for _ in range(3)]

    assert before == [[new, *reversed(older)]] * len(queries)
    assert marked == [2, 1, 0]
    assert [ids_found(query) for query in queries] == before


def test_what_an_older_process_renames_later_is_marked_as_well(store: str) -> None:
    created = make_created(message="first")
    conversation = db.reading(lambda: Conversation.get(Conversation.conversation_id == created.conversation_id))
    titles = SearchEntry.update(words="xxsecond").where(SearchEntry.message_id.is_null())
    db.transaction(titles.execute)

    assert ids_found("second") == [None]
    assert message_search.mark(10) == 1
    assert ids_found("second") == [None]
    message_search.rename(conversation, "third")
    assert (ids_found("second"), ids_found("third")) == ([], [None])


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({}, "q"),
        ({"q": ""}, "q"),
        ({"q": " \t"}, "q"),
        ({"q": "x" * 501}, "q"),
        ({"q": "x", "limit": 0}, "limit"),
        ({"q": "x", "limit": 101}, "limit"),
        ({"q": "x", "cursor": "bTE"}, "cursor"),
    ],
)
def test_a_bad_search_is_refused_by_name(stage: Stage, query: dict[str, Any], named: str) -> None:
    problem = stage.get("/api/conversations/search", 400, **query)

    assert problem.get("parameter") == named or named in problem["errors"]


def test_the_longest_query_is_answered(stage: Stage) -> None:
    stage.post("word")

    assert len(stage.get("/api/conversations/search", q="word " * 100)["results"]) == 1


@pytest.fixture
def cluster(make_mariadb: Callable[[], MariaDB]) -> Iterator[MariaDB]:
    """A migrated MariaDB that gives every third id, as one of three nodes does."""
    bound = db.database.obj
    server = make_mariadb()
    server.execute("SET GLOBAL auto_increment_increment = 3")
    with opened(server.create_database("cluster")):
        yield server
    db.database.initialize(bound)


@pytest.mark.usefixtures("cluster")
def test_answers_that_end_together_are_found_by_their_own_words_where_ids_leap() -> None:
    claims = [make_claim() for _ in range(3)]
    words = ["apple", "banana", "cherry"]

    commit.commit([Batch(claim, 0, [Done(word)]) for claim, word in zip(claims, words, strict=True)])

    found = [result for word in words for result in message_search.search(OWNER, word).rows]
    assert [(result["snippet"], result["sessionId"]) for result in found] == [
        (word, claim.session_id) for claim, word in zip(claims, words, strict=True)
    ]
