"""What the demo model makes of a message: what to calculate, which clocks to read, what to show."""

from __future__ import annotations

import re
from dataclasses import dataclass

from worker.calculator import CannotCalculate, evaluate

from .arithmetic import expressions
from .places import places

#: Of each kind; what is asked for beyond it is left out.
MAX_CALLS = 8

_CYRILLIC = re.compile(r"[а-яё]", re.IGNORECASE)
_TIME = re.compile(
    r"\b(time|times?zones?|date|day|clock|today|now|late|hour)\b|врем|час|дат|сегодня|сейчас|день", re.IGNORECASE
)
_RESTART = re.compile(r"\b(restart|surviv|crash|resum|background)|перезапуск|пережи|фонов", re.IGNORECASE)
#: `markdown` is all of them.
_FORMS = {
    "table": re.compile(r"\b(table|tabular|markdown)|таблиц", re.IGNORECASE),
    "code": re.compile(r"\b(code|snippet|script|function|markdown|javascript|python)\b|\bкод|функци", re.IGNORECASE),
    "list": re.compile(r"\b(lists?|bullets?|bulleted|steps|markdown)\b|спис|перечисл", re.IGNORECASE),
}
_LANGUAGES = {
    "javascript": re.compile(r"\b(javascript|typescript|js|browser)\b", re.IGNORECASE),
    "shell": re.compile(r"\b(curl|shell|bash|sh)\b", re.IGNORECASE),
}


@dataclass(frozen=True)
class Reading:
    """See the module's docstring."""

    question: str
    #: `en` or `ru`.
    language: str
    #: For the calculator.
    calculations: tuple[str, ...]
    #: What has no value, and why.
    refused: dict[str, str]
    #: Names of places and their time zones.
    places: dict[str, str]
    asks_time: bool
    about_restarts: bool
    #: Of `table`, `code` and `list`.
    forms: frozenset[str]
    #: What code is to be in: `python`, `javascript` or `shell`.
    code: str

    def calls(self, tools: set[str]) -> list[tuple[str, dict[str, str]]]:
        """Which of *tools* to call with which arguments; the clock also when nothing that it knows is asked for."""
        calls = [("calculate", {"expression": each}) for each in self.calculations if "calculate" in tools]
        anything = calls or self.refused or self.forms
        if "current_time" in tools and (self.asks_time or self.about_restarts or not anything):
            default = "Europe/Moscow" if self.language == "ru" else "UTC"
            zones = dict.fromkeys(self.places.values()) or [default]
            calls += [("current_time", {"zone": zone}) for zone in zones]
        return calls


def read(question: str) -> Reading:
    """The first call in a process takes a tenth of a second, for the names of all time zones."""
    calculations, refused = [], {}
    for expression in expressions(question)[:MAX_CALLS]:
        try:
            evaluate(expression)
            calculations.append(expression)
        except CannotCalculate as error:
            refused[expression] = str(error)
    return Reading(
        question,
        "ru" if _CYRILLIC.search(question) else "en",
        tuple(calculations),
        refused,
        dict(list(places(question).items())[:MAX_CALLS]),
        asks_time=_TIME.search(question) is not None,
        about_restarts=_RESTART.search(question) is not None,
        forms=frozenset(form for form, pattern in _FORMS.items() if pattern.search(question)),
        code=next((language for language, pattern in _LANGUAGES.items() if pattern.search(question)), "python"),
    )
