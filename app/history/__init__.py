"""The history of an agent: a compact log beside the events, kept longer. Entries, looks at it, retention."""
