"""Numbered, append-only; each runs once, under a lock, through `app.db.schema.migrate`.

MariaDB and MySQL commit at every DDL statement, so a migration may die half-way: each step looks first whether it
is done already, and a second run goes on from there.
"""
