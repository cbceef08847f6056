"""The garbage collector of long-lived processes."""

from __future__ import annotations

import gc

#: New objects until the collector looks at them; the interpreter's 700 are made by two requests.
_COLLECT_AFTER = 20_000


def rest_while_loading() -> None:
    """Let it rest until `keep_what_is_loaded`.

    Nothing of what a process imports is ever freed, and looking for that takes a sixth of the time.
    """
    gc.disable()


def keep_what_is_loaded() -> None:
    """Spare the collector what has been imported; call it once the process is ready to work.

    Hundreds of sessions, or thousands of held requests, would make it walk through all of that again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    gc.enable()
