"""Upgrade under load: from an older commit's schema and processes to this one's, and back, while both serve.

`python -m tests.upgrade`, or `make upgrade FROM=commit SESSIONS=n`.
"""
