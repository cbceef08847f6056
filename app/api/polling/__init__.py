"""Polls, held polls and streams: read a page once for all who ask for it, and wait for the next one.

`reader` answers from heads where nothing is new and from the database else; `hub` hands new pages to held requests.
"""
