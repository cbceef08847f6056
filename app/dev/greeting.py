"""What a run says when all of it is there."""

from __future__ import annotations

import shlex
import sys

from app.settings import Settings


def greeting(settings: Settings) -> str:
    """What to try first."""
    url = settings.local_url
    # With a secret nobody gets in without a token, nor do these lines.
    token = (
        f"\n  TOKEN=$({shlex.quote(sys.executable)} -m app.cli token you)  # here, with the same CHAT_SECRET"
        if settings.chat_secret
        else ""
    )
    bearer = ' -H "Authorization: Bearer $TOKEN"' if settings.chat_secret else ""
    json_type = "-H 'Content-Type: application/json'"
    return f"""
Backchat runs at {url}
Its API is described at {url}/docs
{token}
  ASKED=$(curl -s {url}/api/chat/session{bearer} {json_type} -d '{{"message": "What time is it in Tokyo?"}}')
  SESSION=$(echo "$ASKED" | sed 's/.*"sessionId":"\\([^"]*\\)".*/\\1/')
  curl -s{bearer} "{url}/api/chat/session/$SESSION/events?after=0"

Ctrl-C stops it.
"""
