"""Backchat's domain and its edges.

The way of a message:

    POST ─ app.api ─ sessions.create ───────────► database (session and user message: one commit)
                        └─ doorbell ─ turn_queue ► Redis ─ worker ─ claiming.take (attempt and lease)
                                                           │
          orchestrator ── events ──► worker.process.event_writer ──┘   one loop, hundreds of sessions
                                          └─ recording.record: one transaction per flush, for all of them
                                                 └─ after the commit: heads.publish
    GET events ─ heads.get: no news? answer without the database : event_log.read ─► page

Domain nouns stand at the root of the package, technology below:

    sessions      make, end and delete them, under a table of their states
    claiming      a worker's hold on sessions; recording: the group commit of a flush
    session_list  looks at sessions that change nothing
    event_log     number, store and read events
    conversations conversations, messages, the history for the model; clearing: empty or delete one
    conversation_list, message_list, message_search: look at them
    outcomes      what ended sessions leave there; session_steps folds it from their events
    agent_history what each agent did, written with its sessions
    agent_history_list: look at it; retention: prune it, and the events
    ids           of what is stored; list_pages: how much of a list fits on a page
    heads         newest seq and status in Redis: a cache with a second to live
    doorbell      what follows a commit; turn_queue: the one enqueue
    database, models, schema: how all of it is stored; database_errors: what its errors mean

Who may import whom (a test checks it): `worker` imports `app`, never `app.api`; `app` never imports `worker` (the job
is named by string); only `app.api` imports Flask; only `turn_queue` and, in `worker`, `session_worker` and `bookkeeper`
import rq; only `models`, `database`, `schema`, the stores and the migrations import peewee; only `settings` reads the
environment.
"""
