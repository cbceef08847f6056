"""Text for clients that can take nothing back, of answers that may be superseded."""

from __future__ import annotations

from collections.abc import Callable


class AppendOnly:
    """What to send, so that the client ends with the right text.

    After a reset the new text mostly begins as the old one did: what the client has already is not sent again. At the
    first difference *again* is sent, and then all of the new text.
    """

    def __init__(self, again: str) -> None:
        self._again = again
        self._sent: list[str] = []
        #: While the client has more than there is: how much of it has come again. None: it is where the answer is.
        self._matched: int | None = None

    def add(self, piece: str, whole: Callable[[], str]) -> str:
        """What to send for *piece*, with which the text is *whole*."""
        if self._matched is None:
            self._sent.append(piece)
            return piece
        sent = self._join()
        left = sent[self._matched : self._matched + len(piece)]
        if not piece.startswith(left):
            return self._begin_again(whole())
        self._matched += len(left)
        if self._matched < len(sent):
            return ""
        self._matched = None
        self._sent.append(piece[len(left) :])
        return piece[len(left) :]

    def reset(self, surviving: str) -> str:
        """What to send when only *surviving* is left of the text."""
        sent = self._join()
        if not sent.startswith(surviving):
            return self._begin_again(surviving)
        self._matched = len(surviving) if len(surviving) < len(sent) else None
        return ""

    def finish(self, text: str) -> str:
        """What to send when *text* is all."""
        return "" if self._matched is None else self._begin_again(text)

    def _begin_again(self, text: str) -> str:
        self._sent, self._matched = [text], None
        return self._again + text

    def _join(self) -> str:
        joined = "".join(self._sent)
        self._sent = [joined]
        return joined
