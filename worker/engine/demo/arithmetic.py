"""Arithmetic as people write it, for the calculator: `17 % of 2,340, plus 8` is `17 / 100 * 2340 + 8`.

In English and Russian. Words that are no arithmetic separate expressions, so that a whole message can be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

#: What follows in a message is not looked at.
MAX_CHARS = 500
MAX_DEPTH = 20

#: Tokens, in the order in which they are tried. What matches none of them separates expressions.
_TOKENS = {
    # Dates, times, versions, round-the-clock; names such as GPT-5.
    "other": r"\d{4}-\d\d-\d\d|\d+(?::\d\d)+|\d+(?:\.\d+){2,}(?!\d)|24/7|(?<![\d)])[^\W\d]+-?\d[\w.]*",
    "number": (
        r"\d{1,3}(?P<group>[,'’ \u00a0\u2009\u202f])\d{3}(?:(?P=group)\d{3})*(?!\d)(?:[.]\d+)?"
        r"|\d[\d_]*,\d+"
        r"|(?:\d[\d_]*)?\.?\d[\d_]*(?:[eE][+-]?\d+)?"
    ),
    "**": r"\*\*|\^|(?:raised )?to the power(?: of)?\b|в степени\b",
    "//": r"//",
    "*": r"[*×·]|[xх](?=\s*[\d(])|times\b|multiplied by\b|умнож\w+ на\b",
    "/": r"[/÷]|divided by\b|(?:раз|по)?дел\w+ на\b",
    "+": r"\+|plus\b|(?:added to|increased by)\b|плюс\b",
    "-": r"[-−]|minus\b|(?:decreased|reduced) by\b|минус\b",
    "mod": r"mod(?:ulo)?\b",
    "%": r"%|percent\b|per cent\b|процент\w*",
    "squared": r"squared\b|в квадрате\b",
    "cubed": r"cubed\b|в кубе\b",
    "off": r"off\b",
    "(": r"\(",
    ")": r"\)",
    ",": r",",
    "sum": r"sum of\b|сумм\w+\b",
    "product": r"product of\b|произведени\w+\b",
    "difference": r"difference (?:between|of)\b|разност\w+\b",
    "add": r"add\b|сложи\w*\b|прибав\w+\b",
    "subtract": r"subtract\b|вычт\w+\b|вычесть\b|отними\b",
    "multiply": r"multiply\b|умнож\w+\b",
    "divide": r"divide\b|(?:раз|по)?дели\w*\b",
    "of": r"of\b|от\b",
    "and": r"and\b|then\b|и\b|затем\b|потом\b",
    "joint": r"(?:to|from|by|with|на|из|к|с)\b",
    "skipped": r"\s+|[$€£¥₽]|(?:the|it|result|dollars|euros|pounds|рублей)\b",
    "word": r"[^\W\d]+|.",
}
_LEXER = re.compile("|".join(f"(?P<t{n}>{pattern})" for n, pattern in enumerate(_TOKENS.values())), re.I | re.S)
_KINDS = list(_TOKENS)

#: Commands: the operator, and whether the operands change places.
_COMMANDS = {
    "sum": ("+", False),
    "product": ("*", False),
    "difference": ("-", False),
    "add": ("+", False),
    "subtract": ("-", True),
    "multiply": ("*", False),
    "divide": ("/", False),
}
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 3}
_ATOM = 4


@dataclass(frozen=True)
class _Part:
    """A piece of an expression, and what it is on the left or right of."""

    text: str
    precedence: int = _ATOM
    #: `15 %` with nothing that it is of.
    is_percent: bool = False
    #: More than one number.
    is_calculation: bool = False

    def above(self, precedence: int) -> str:
        return self.text if self.precedence > precedence else f"({self.text})"


class _NoArithmetic(Exception):
    """There is none at this token."""


def expressions(text: str) -> list[str]:
    """What there is to calculate in *text*, in the calculator's notation.

    A percentage that is added or taken away is one of what stands before it, as on a pocket calculator.
    """
    russian = re.search("[а-яё]", text, re.IGNORECASE) is not None
    tokens = [
        (kind, _plain(match.group(), russian) if kind == "number" else match.group())
        for match in _LEXER.finditer(text[:MAX_CHARS])
        if (kind := _KINDS[int((match.lastgroup or "t0")[1:])]) != "skipped"
    ]
    found = []
    start = 0
    while start < len(tokens):
        parser = _Parser(tokens, start)
        try:
            part = parser.whole()
        except _NoArithmetic:
            start += 1
            continue
        start = parser.at
        if part.is_calculation:
            found.append(part.text)
    return found


def _plain(number: str, russian: bool) -> str:
    """*number* with a decimal point and no separators of thousands. `2,340` is a whole number but in Russian."""
    number = re.sub(r"['’ \u00a0\u2009\u202f_]", "", number)
    grouped = re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", number)
    if grouped and not (russian and number.count(",") == 1):
        number = number.replace(",", "")
    # A calculator takes 007 for a mistake.
    return re.sub(r"^0+(?=\d)", "", number.replace(",", "."))


class _Parser:
    """Reads one expression from the token at `at` on."""

    def __init__(self, tokens: list[tuple[str, str]], at: int) -> None:
        self._tokens = tokens
        self.at = at
        self._depth = 0

    def whole(self) -> _Part:
        """An expression or a command, and what is then added to it, taken from it, …"""
        part = self._command() if self._kind() in _COMMANDS else self._sum(self._product())
        while True:
            begun = self.at
            try:
                self._skip(",", "and")
                kind = self._take(*_COMMANDS, "*", "/")
                self._skip("joint")
                part = _joined(part, _COMMANDS[kind][0] if kind in _COMMANDS else kind, self._product())
            except _NoArithmetic:
                self.at = begun
                return part

    def _command(self) -> _Part:
        operator, swaps = _COMMANDS[self._take(*_COMMANDS)]
        part = self._product()
        self._take("and", "joint", ",")
        other = self._product()
        part = _joined(other, operator, part) if swaps else _joined(part, operator, other)
        while self._kind() in ("and", ",") and self._kind(1) == "number":
            self.at += 1
            part = _joined(part, operator, self._product())
        return self._sum(part)

    def _sum(self, left: _Part) -> _Part:
        while True:
            begun = self.at
            try:
                self._skip(",", "and")
                operator = self._take("+", "-")
                left = _joined(left, operator, self._product())
            except _NoArithmetic:
                self.at = begun
                return left

    def _product(self) -> _Part:
        left = self._share()
        while True:
            begun = self.at
            try:
                self._skip(",")
                operator = self._take("*", "/", "//", "mod", "%")
                left = _joined(left, "%" if operator == "mod" else operator, self._share())
            except _NoArithmetic:
                self.at = begun
                return left

    def _share(self) -> _Part:
        """A power, or a percentage of one."""
        return self._nested(self._share_here)

    def _share_here(self) -> _Part:
        part = self._power()
        # `10 % 3` is a remainder.
        if self._kind() != "%" or self._kind(1) in ("number", "("):
            return part
        self.at += 1
        share = _joined(part, "/", _Part("100"))
        if self._kind() == "of":
            self.at += 1
            return _joined(share, "*", self._share())
        if self._kind() == "off":
            self.at += 1
            return _joined(self._share(), "-", _Part(share.text, share.precedence, is_percent=True))
        return _Part(share.text, share.precedence, is_percent=True)

    def _power(self) -> _Part:
        return self._nested(self._power_here)

    def _power_here(self) -> _Part:
        if self._kind() in ("+", "-"):
            sign = self._take("+", "-")
            part = self._power()
            return _Part(f"-{part.above(2)}", 2, is_calculation=part.is_calculation) if sign == "-" else part
        base = self._atom()
        if self._kind() in ("squared", "cubed"):
            return _joined(base, "**", _Part("2" if self._take("squared", "cubed") == "squared" else "3"))
        if self._kind() == "**":
            self.at += 1
            return _joined(base, "**", self._power())
        return base

    def _atom(self) -> _Part:
        if self._kind() == "number":
            self.at += 1
            return _Part(self._tokens[self.at - 1][1])
        self._take("(")
        inner = self.whole()
        self._take(")")
        return _Part(f"({inner.text})", is_calculation=inner.is_calculation)

    def _nested(self, rule: Callable[[], _Part]) -> _Part:
        if self._depth == MAX_DEPTH:
            raise _NoArithmetic
        self._depth += 1
        try:
            return rule()
        finally:
            self._depth -= 1

    def _kind(self, ahead: int = 0) -> str:
        return self._tokens[self.at + ahead][0] if self.at + ahead < len(self._tokens) else ""

    def _take(self, *kinds: str) -> str:
        if (kind := self._kind()) not in kinds:
            raise _NoArithmetic
        self.at += 1
        return kind

    def _skip(self, *kinds: str) -> None:
        while self._kind() in kinds:
            self.at += 1


def _joined(left: _Part, operator: str, right: _Part) -> _Part:
    if operator in "+-" and right.is_percent and not left.is_percent:
        return _Part(f"{left.above(1)} * (1 {operator} {right.text})", 2, is_calculation=True)
    precedence = _PRECEDENCE[operator]
    # Powers are read from the right, all others from the left.
    before, after = (_ATOM - 1, 2) if operator == "**" else (precedence - 1, precedence)
    text = f"{left.above(before)} {operator} {right.above(after)}"
    return _Part(text, precedence, is_percent=False, is_calculation=True)
