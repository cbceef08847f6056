"""Jobs as RQ keeps them in Redis, read so that whoever writes there runs no code here.

RQ's own serialise with pickle, import and call the functions that a job names as its callbacks, and post to the
addresses that it names as its webhooks. Ours are JSON and have neither. Jobs of older processes were pickled: they are
recognised by that and rung again, never unpickled.
"""

from __future__ import annotations

from typing import Any

from rq.exceptions import DeserializationError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import as_text

SERIALIZER = JSONSerializer
#: By name: this package never imports `worker`.
JOB_FUNCTION = "worker.run_session.run_session"


def job_id(session_id: str, attempt: int) -> str:
    """The job that rings for *session_id* after *attempt* attempts."""
    return f"{session_id}-{attempt}"


def rings_for(job_id: str) -> tuple[str, int] | None:
    """The session and the attempts that the id of a job names; None: it is no job of a session."""
    session_id, _, attempt = job_id.rpartition("-")
    return (session_id, int(attempt)) if session_id and attempt.isascii() and attempt.isdecimal() else None


#: Fields that are unpickled, called, posted to or waited for.
_NOT_OURS = frozenset(
    {
        "meta", "result", "exc_info", "webhooks", "success_callback_name", "failure_callback_name",
        "stopped_callback_name", "dependency_ids", "dependency_id",
    }
)  # fmt: skip


class SessionJob(Job):
    """A job that names a session, and nothing to call or to post to."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        # Where nobody names a serializer RQ takes pickle.
        super().__init__(*arguments, **named | {"serializer": SERIALIZER})

    def restore(self, raw_data: dict[bytes, bytes]) -> Any:
        """Take over what Redis holds, but for what would have this process act on it."""
        return super().restore({name: value for name, value in raw_data.items() if as_text(name) not in _NOT_OURS})

    @property
    def is_readable(self) -> bool:
        """What it says is JSON; an older process's is not."""
        try:
            return isinstance(self.func_name, str) and isinstance(self.args, list | tuple)
        except DeserializationError:
            return False
