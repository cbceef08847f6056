"""The health check of a container: `python -m app.check web`, or `worker`.

Exit status: 0 it is well, 1 it is not, which a line on stderr explains. No part of `app.cli`, whose imports would take
longer than the check.
"""

from __future__ import annotations

import http.client
import socket
import sys
from urllib.parse import urlsplit

from .errors import BackchatError
from .settings import Settings

#: Longest wait for the web process to answer.
ANSWER_S = 3.0
#: A worker that has not shown itself to Redis for so long is not well; it does so every 15 s.
SILENCE_S = 60.0


def web_answers(settings: Settings) -> bool:
    """Whether the web process of this machine answers. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection(urlsplit(settings.local_url).netloc, timeout=ANSWER_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def worker_works(settings: Settings) -> bool:
    """Whether Redis has heard of this machine's worker lately. Raises Invalid, QueueUnavailable."""
    from .broker.queue import TurnQueue

    return TurnQueue(settings.redis_url).heard_from(socket.gethostname(), SILENCE_S)


CHECKS = {"web": web_answers, "worker": worker_works}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in CHECKS:
        print(f"usage: python -m app.check {'|'.join(CHECKS)}", file=sys.stderr)
        return 2
    [process] = arguments
    try:
        if CHECKS[process](Settings.from_environment()):
            return 0
        why = "it does not answer as it should" if process == "web" else "Redis has not heard of it lately"
    except (OSError, http.client.HTTPException, BackchatError) as error:
        why = str(error)
    print(f"{process}: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
