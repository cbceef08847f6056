"""Everything in one for development: `python -m app.dev`, or `make run`.

Starts a broker where `REDIS_URL` names none, migrates, starts web and worker, and stops all of them together: on
Ctrl-C, on SIGTERM, when broker or web ends, and also when this process is killed. A worker that dies is started again.
"""

from .addresses import free_port
from .greeting import greeting

__all__ = ["free_port", "greeting"]
