"""Who calls: tokens that name an owner. Knows no HTTP."""

from .tokens import LOCAL_OWNER, issue, owner_of

__all__ = ["LOCAL_OWNER", "issue", "owner_of"]
