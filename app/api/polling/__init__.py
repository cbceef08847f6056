"""Polls, held polls and streams: read a page once for all who ask for it, and wait for the next one.

`front` answers plain polls before they reach the framework; `reader` reads from the database where there may be
news; `hub` hands new pages to held requests. `notifications` hears what changed, `local_heads` remembers what did not.
"""
