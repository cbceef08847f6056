"""What operators see: metrics, logs, traces. Everybody may use it; it knows nobody but settings and errors.

`metrics` has every instrument, `exposition` shows them to Prometheus, `logs` says how a line looks, `tracing` makes
spans. What counts and logs the life of a session stands with the sessions: `app.sessions.observed`.
"""
