"""The orchestrator that ships, on pydantic-ai: models, tools, checkpoints, the transport that merges deltas.

Nothing is imported here: it takes seconds and much memory, and only `worker.process.orchestrators` needs the `Engine`.
"""
