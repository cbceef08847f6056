"""The worker process: takes jobs from RQ and runs hundreds of sessions on one asyncio loop.

`session_worker` talks to RQ, `bookkeeper` keeps its registries, `runtime` holds what all runs share, `run_session` is
one attempt at one session, which hands what it yields to its `recorder`; `event_writer` commits that for all of them,
`sweeper` looks after what nobody attends to. `orchestrator` is the protocol behind which any agent framework fits;
`engine` is the one that ships.
"""
