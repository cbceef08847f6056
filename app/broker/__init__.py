"""What speaks to Redis: the client, the heads of live sessions, the queue that wakes workers, an embedded broker.

Redis is a doorbell and a cache: nothing here is the only place of anything.
"""
