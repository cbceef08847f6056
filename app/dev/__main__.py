"""`python -m app.dev`."""

from __future__ import annotations

import sys

from app.errors import BackchatError
from app.observability import logs
from app.settings import Settings

from .errors import Failed, Stopped
from .greeting import greeting
from .run import Run


def main() -> int:
    """Run until stopped; exit status 0 when the user stopped it, 1 when something failed."""
    # Before the settings are read: what they warn of has to be seen.
    logs.configure("WARNING")
    try:
        settings = Settings.from_environment()
    except BackchatError as error:
        print(f"make run: {error.detail}", file=sys.stderr, flush=True)
        return 1
    run = Run(settings)
    try:
        run.start()
        print(greeting(settings), flush=True)
        run.wait()
    except Stopped:
        return 0
    except Failed as error:
        print(f"make run: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        run.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
