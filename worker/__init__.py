"""The worker process: takes jobs from RQ and runs hundreds of sessions on one asyncio loop.

    rq/            talks to RQ: takes jobs, keeps its registries, hears its commands
    process/       runs sessions: claims them, drives the orchestrator, commits what it says, sweeps
    engine/        the orchestrator that ships, on pydantic-ai
    orchestrator   the protocol behind which any agent framework fits; `callable_orchestrator` makes one of a generator
    tools          the built-in tools, and how an agent's tools are found

Orchestrators, tools and the engine know no database, queue or HTTP; `process` and `rq` do not know each other:
`__main__` joins them.
"""
