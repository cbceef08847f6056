"""What runs in a worker process beside RQ: claims, runs, the event writer, the heartbeat, the sweeper."""

from .supervision import WorkerBroken
from .worker_process import WorkerProcess

__all__ = ["WorkerBroken", "WorkerProcess"]
