"""Where something stands in a file such as `.env`."""

from __future__ import annotations

from dotenv.parser import Binding


def line_of(binding: Binding) -> int:
    """The number of the line of a setting."""
    # The blank lines before it count as its own.
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + blank.count("\n")
