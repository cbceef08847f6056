"""Tells a model's thoughts from its answer where both come as text, marked by tags.

Servers that do not know a model's tags leave them in the text: alone, within a chunk, cut in two, or only the closing
one, because the template of the prompt has opened the thoughts already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

#: Opening and closing tags that are tokens of models: seldom meant otherwise.
_TOKENS = {
    "<think>": "</think>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|channel|>analysis<|message|>": "<|start|>assistant<|channel|>final<|message|>",
}
#: Those that models are told to use, and users may want to see: thoughts only where an answer begins with them.
_WORDS = {"<thinking>": "</thinking>", "<thought>": "</thought>", "<reasoning>": "</reasoning>"}
_OPENING = {**_TOKENS, **_WORDS}
_WITHIN = re.compile("|".join(map(re.escape, [*_TOKENS, *_TOKENS.values()])))
_TAGS = (*_TOKENS, *_TOKENS.values())
_FIRST = re.compile("|".join(sorted({re.escape(tag[0]) for tag in _TAGS})))
_LONGEST = max(map(len, [*_OPENING, *_OPENING.values()]))
_FENCE = "```"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of what a model said."""

    #: `withdrawn`: all that was given as the answer so far was thought; its text is that.
    kind: Literal["answer", "thought", "withdrawn"]
    text: str


class Thoughts:
    """Splits the text of one model response as it comes."""

    def __init__(self) -> None:
        # The tag that ends the thoughts that come now; empty: the answer comes.
        self._closing = ""
        # The end of the text so far that may be the beginning of a tag.
        self._held = ""
        # Space at the beginning, or after a tag, belongs to nothing.
        self._began = self._spaced = False
        self._answer: list[str] = []
        # Whether the answer has more than space; its fences of code; its last line.
        self._spoke = False
        self._fences = 0
        self._line: list[str] = []
        # What is the answer after all, if the response ends before another one: thoughts that no tag closed.
        self._doubtful: str | None = None

    def feed(self, text: str) -> list[Piece]:
        """What *text* adds."""
        out: list[Piece] = []
        rest = self._held + text
        self._held = ""
        while rest:
            rest = self._think(rest, out) if self._closing else self._tell(rest, out)
        return out

    def finish(self, *, complete: bool) -> list[Piece]:
        """What was held back; *complete*: the model said all that it wanted to say, and calls no tool.

        An answer that is complete and has nothing but thoughts of which no tag said both ends is those.
        """
        out: list[Piece] = []
        held, self._held = self._held, ""
        if self._closing and held:
            self._thought(held, out)
        elif held and (held.strip() or self._spoke):
            self._say(held, out)
        if complete and self._doubtful and (self._closing or not self._spoke):
            self._say(self._doubtful, out)
        return out

    def _think(self, rest: str, out: list[Piece]) -> str:
        """Take thoughts from *rest*; what follows them."""
        if not self._spaced:
            begins = rest.lstrip()
            if self._doubtful is not None:
                self._doubtful += rest[: len(rest) - len(begins)]
            rest, self._spaced = begins, bool(begins)
        end = rest.find(self._closing)
        if end < 0:
            kept = _overlap(rest, (self._closing,))
            self._thought(rest[: len(rest) - kept], out)
            self._held = rest[len(rest) - kept :]
            return ""
        self._thought(rest[:end], out)
        rest = rest[end + len(self._closing) :]
        self._closing, self._spaced, self._doubtful = "", False, None
        return rest

    def _tell(self, rest: str, out: list[Piece]) -> str:
        """Take a piece of the answer from *rest*; what follows the tag that ends it."""
        if not self._spaced:
            begins = rest.lstrip()
            tag = next((tag for tag in _OPENING if begins.startswith(tag)), "")
            if tag and not self._spoke:
                self._closing = _OPENING[tag]
                self._began = True
                return begins[len(tag) :]
            if not self._spoke and any(tag.startswith(begins) for tag in _OPENING):
                self._held = rest
                return ""
            # Space that no tag stands around is the model's own.
            rest = begins if self._began else rest
            self._spaced = self._began = True
        found = next((match for match in _WITHIN.finditer(rest) if not self._is_quoted(rest[: match.start()])), None)
        if found is None:
            kept = _overlap(rest, _TAGS)
            self._say(rest[: len(rest) - kept], out)
            self._held = rest[len(rest) - kept :]
            return ""
        self._say(rest[: found.start()], out)
        if found[0] in _TOKENS:
            self._closing, self._doubtful = _TOKENS[found[0]], found[0]
        elif self._spoke:
            self._doubtful = "".join(self._answer)
            self._answer, self._line, self._fences, self._spoke = [], [], 0, False
            out.append(Piece("withdrawn", self._doubtful))
        self._spaced = False
        return rest[found.end() :]

    def _thought(self, text: str, out: list[Piece]) -> None:
        if text:
            out.append(Piece("thought", text))
            if self._doubtful is not None:
                self._doubtful += text

    def _say(self, text: str, out: list[Piece]) -> None:
        if not text:
            return
        out.append(Piece("answer", text))
        self._answer.append(text)
        self._spoke = self._spoke or bool(text.strip())
        lines, line = self._lines(text)
        if lines is None:
            self._line.append(text)
        else:
            self._fences += lines.count(_FENCE)
            self._line = [line]

    def _is_quoted(self, before: str) -> bool:
        """A tag that the answer talks about is in code or in quotes."""
        lines, line = self._lines(before)
        fences = self._fences + (0 if lines is None else lines.count(_FENCE))
        if lines is None:
            line = "".join(self._line) + before
        odd = fences % 2 or line.count("`") % 2 or line.count('"') % 2
        return bool(odd) or line.endswith(("“", "„", "«"))

    def _lines(self, text: str) -> tuple[str | None, str]:
        """The lines that *text* ends, with what they began with, and the line that it begins; None: it ends none."""
        head, end, line = text.rpartition("\n")
        return ("".join(self._line) + head, line) if end else (None, line)


def _overlap(text: str, tags: tuple[str, ...]) -> int:
    """How many characters at the end of *text* may be the beginning of a tag."""
    for match in _FIRST.finditer(text, max(0, len(text) - _LONGEST)):
        size = len(text) - match.start()
        if any(len(tag) > size and tag.startswith(text[match.start() :]) for tag in tags):
            return size
    return 0
