"""Conversations: their threads, messages, exchanges and search.

The row of a conversation is the lock of its order (`threads`): sessions are added and ended under it.
"""
