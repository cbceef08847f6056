"""The events of a session: the five types, the log that stores them, and what they fold into.

The types alone are exported here: orchestrators yield them, and must not reach the log.
"""

from .types import (
    MAX_EVENT_BYTES,
    Delta,
    Done,
    Error,
    Event,
    EventType,
    JsonText,
    Status,
    Terminal,
    Thinking,
    ToolCall,
    coalesce,
    split_text,
)
from .usage import OpenRequest, Usage, tokens_of

__all__ = [
    "MAX_EVENT_BYTES",
    "Delta",
    "Done",
    "Error",
    "Event",
    "EventType",
    "JsonText",
    "OpenRequest",
    "Status",
    "Terminal",
    "Thinking",
    "ToolCall",
    "Usage",
    "coalesce",
    "split_text",
    "tokens_of",
]
