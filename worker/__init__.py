"""The worker process: takes jobs from RQ and runs hundreds of sessions on one asyncio loop.

`session_worker` talks to RQ, `runtime` holds what all runs share, `run_session` is one attempt at one session,
`event_writer` commits what they yield, `sweeper` looks after what nobody attends to. `orchestrator` is the protocol
behind which any agent framework fits; `engine` is the one that ships.
"""
