"""Thoughts are told from the answer, whatever tags mark them and however the text is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.thoughts import Thoughts

#: What a model says, and its answer and thoughts.
SAID = [
    ("Yes.", "Yes.", ""),
    ("  Yes.", "  Yes.", ""),
    ("<think>hm so</think>Yes.", "Yes.", "hm so"),
    ("\n<think>\nhm\n</think>\n\nYes.", "Yes.", "hm\n"),
    ("hm so</think>Yes.", "Yes.", "hm so"),
    ("hm\n</think>\n\nYes.", "Yes.", "hm\n"),
    ("</think>Yes.", "Yes.", ""),
    ("<think></think>Yes.", "Yes.", ""),
    ("<think>a <think> b</think>c</think>Yes.", "Yes.", "a <think> bc"),
    ("<think>a</think><think>b</think>Yes.", "Yes.", "ab"),
    ("<think>a</think>\nOne.\n<think>b</think>\nTwo.", "One.\nTwo.", "ab"),
    ("Sure. <think>hm</think> Yes.", "Sure. Yes.", "hm"),
    ("[THINK]hm[/THINK]Yes.", "Yes.", "hm"),
    ("◁think▷hm◁/think▷Yes.", "Yes.", "hm"),
    ("<seed:think>hm</seed:think>Yes.", "Yes.", "hm"),
    ("<thinking>hm</thinking>Yes.", "Yes.", "hm"),
    ("<thought>hm</thought>Yes.", "Yes.", "hm"),
    ("<reasoning>hm</reasoning>Yes.", "Yes.", "hm"),
    ("See <reasoning>this</reasoning>.", "See <reasoning>this</reasoning>.", ""),
    ("a < b, x <th y </thin", "a < b, x <th y </thin", ""),
    ("Write `<think>` and `</think>`.", "Write `<think>` and `</think>`.", ""),
    ('Write "</think>" there.', 'Write "</think>" there.', ""),
    ("```\n<think>\n```\nok", "```\n<think>\n```\nok", ""),
    ("<think>hm", "", "hm"),
    ("It opens <think> and that is all", "It opens <think> and that is all", "and that is all"),
    ("42</think>", "42", "42"),
    ("<", "<", ""),
    ("", "", ""),
]  # fmt: skip


def told(pieces: list[str], *, complete: bool = True) -> tuple[str, str]:
    """The answer and the thoughts, as who sees them come is left with them."""
    thoughts = Thoughts()
    answer = thought = ""
    out = [piece for text in pieces for piece in thoughts.feed(text)] + thoughts.finish(complete=complete)
    for piece in out:
        if piece.kind == "answer":
            answer += piece.text
        else:
            thought += piece.text
            answer = "" if piece.kind == "withdrawn" else answer
    return answer, thought


@pytest.mark.parametrize(("text", "answer", "thought"), SAID)
def test_it_is_the_same_however_the_text_is_cut_in_three(text: str, answer: str, thought: str) -> None:
    for first, second in itertools.combinations_with_replacement(range(len(text) + 1), 2):
        assert told([text[:first], text[first:second], text[second:]]) == (answer, thought), (first, second)


@given(st.lists(st.sampled_from(["<think>", "</think>", "`", '"', "```", " ", "\n", "a", "<", "[THINK]", "[/THINK]"])))
def test_single_characters_say_what_the_whole_says(parts: list[str]) -> None:
    text = "".join(parts)

    assert told(list(text)) == told([text])


def test_an_answer_that_was_cut_off_in_its_thoughts_is_none() -> None:
    assert told(["It is <think> about", " that"], complete=False) == ("It is ", "about that")
    assert told(["42</think>"], complete=False) == ("", "42")


def test_text_without_tags_comes_at_once() -> None:
    thoughts = Thoughts()

    assert [piece.text for piece in thoughts.feed("Hel")] == ["Hel"]
    assert [piece.text for piece in thoughts.feed("lo <")] == ["lo "]
    assert [piece.text for piece in thoughts.feed("b")] == ["<b"]
