"""The words that full text search indexes: the databases cut text differently, so it is cut here.

A word is written in ASCII: `x` and what stands there, or `y` and four signs for each character. What is indexed begins
with a mark of its owner, so that the index itself tells owners apart: what others have said, however much, costs a
search nothing. Processes older than the marks write a second `x` or `y` in place of it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache

#: Words of a message after this many characters are not indexed.
INDEXED_CHARACTERS = 50_000
#: Texts that an older process has indexed, and nothing else, are not below this.
UNMARKED_FROM = "x"

_PLAIN, _CODED = "xx", "yy"
_PLAIN_CHARACTERS, _CODED_CHARACTERS = 80, 20
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
# InnoDB passes over words under three characters, and over its stop words: none begins with an "o" and five more.
_MARK, _MARK_CHARACTERS = "o", 6
# Its longest word has 84 characters; a coded character takes four.
_MARKED_PLAIN, _MARKED_CODED = 1 + 77, 1 + 4 * 19
_WORDS_OF_QUERY = 20

# Accents of Latin, Greek and Cyrillic; points of Hebrew and Arabic, which most people don't write.
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]")
# Scripts that write without spaces: Thai, Lao, Burmese, Khmer; kana; Han with its extensions.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# Letters and digits, and the vowel signs of Indian scripts, which are neither.
_RUN = re.compile(f"[{_UNSPACED}]+|(?:[^\\W_{_UNSPACED}]|[\u0900-\u0dff])+")
_STARTS_UNSPACED = re.compile(f"[{_UNSPACED}]")


def words_of(text: str) -> Iterator[str]:
    """The words of *text*, in order and with repetitions."""
    for run in _runs(text):
        if len(run) > 1 and _is_unspaced(run):
            # The last character alone as well: it begins no pair and could not be found.
            yield from (run[index : index + 2] for index in range(len(run)))
        else:
            yield run


def _runs(text: str) -> list[str]:
    if not text.isascii():
        bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
        text = unicodedata.normalize("NFKC", bare)
    found: list[str] = _RUN.findall(text.casefold())
    return found


def _is_unspaced(run: str) -> bool:
    return _STARTS_UNSPACED.match(run) is not None


def indexed(owner: str, text: str) -> str:
    """What is indexed of a text of *owner*."""
    return marked(owner, map(_plain, dict.fromkeys(words_of(text[:INDEXED_CHARACTERS]))))


def marked(owner: str, unmarked: Iterable[str]) -> str:
    """What an older process has indexed for *owner*, with the owner's mark."""
    mark = _mark_of(owner)
    return " ".join(dict.fromkeys(_marked(mark, word) for word in unmarked))


def _marked(mark: str, word: str) -> str:
    return mark + word[1 : 1 + (_MARKED_PLAIN if word.startswith(_PLAIN) else _MARKED_CODED)]


@lru_cache(maxsize=4096)
def _mark_of(owner: str) -> str:
    """Two owners in sixty million may share one: rows name their owner as well."""
    number = int.from_bytes(hashlib.sha256(owner.encode()).digest()[:8], "big")
    mark = _MARK
    while len(mark) < _MARK_CHARACTERS:
        number, digit = divmod(number, len(_DIGITS))
        mark += _DIGITS[digit]
    return mark


def wanted(query: str) -> dict[str, bool]:
    """The words of *query*, as an older process indexes them → whether each may be the beginning of a word."""
    runs = _runs(query)[:_WORDS_OF_QUERY]
    found: dict[str, bool] = {}
    for position, run in enumerate(runs, start=1):
        pairs = list(words_of(run))
        if _is_unspaced(run) and len(run) > 1:
            pairs.pop()  # the last character alone: its pair has it already
        for pair in pairs:
            # One character of an unspaced run begins some pair.
            open_end = position == len(runs) if not _is_unspaced(run) else len(run) == 1
            word = _plain(pair)
            found[word] = found.get(word, True) and open_end
    return found


def wanted_of(owner: str, words: dict[str, bool]) -> dict[str, bool]:
    """The same words as *owner* has them indexed."""
    return {_marked(_mark_of(owner), word): open_end for word, open_end in words.items()}


def _plain(word: str) -> str:
    """*word* in ASCII: what words begin alike still begins alike."""
    if word.isascii():
        return _PLAIN + word[:_PLAIN_CHARACTERS]
    return _CODED + "".join(map(_code, word[:_CODED_CHARACTERS]))


@cache
def _code(character: str) -> str:
    number, code = ord(character), ""
    for _ in range(4):
        number, digit = divmod(number, len(_DIGITS))
        code = _DIGITS[digit] + code
    return code
