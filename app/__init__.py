"""Backchat's domain and its edges.

The way of a message:

    POST ─ api.sessions ─ sessions.create ─────────► database (session and user message: one commit)
                          └─ sessions.doorbell ────► Redis ─ worker.rq ─ sessions.claims.take (attempt + 1)
                                                                │
          orchestrator ── events ──► worker.process.event_writer┘  one loop, hundreds of sessions
                                          └─ sessions.commit: one transaction per flush, for all of them
                                                 └─ after the commit: broker.heads.publish
    GET events ─ api.polling.front ─ api.polling.reader: nothing new? answer at once : events.log.read ─► page

The rooms, from the bottom up; each imports from those above it in this list, never the other way, and a test reads
that from the paths:

    settings, errors, agents, prices, gc    what everybody may use
    observability  what operators see: metrics, logs, traces
    db             what stores anything: connection, tables, statements, pages
    broker         what speaks to Redis: client, heads, queue, the embedded broker
    access         who calls: tokens
    events         the five types, the fold into parts, the log
    accounts       balances: the ledger of what was credited and debited
    history        what each agent did, kept longer than events; retention
    conversations  threads, messages, exchanges, search
    sessions       the states of a session, under a table of them
    owners         all that an owner has: export it, erase it
    api            HTTP: parse, call, serialise; `api.polling` reads and waits for news
    cli, dev, wsgi, gunicorn_conf, gunicorn_worker  entry points
    web            the page and the browser client

`worker` imports `app`, never `app.api`; `app` never imports `worker`: the job is named by string.

Glossary:

    session        one background run that answers one user message; a row of `chatSessions`
    event          one step of a session, numbered by `seq`; a row of `chatEvents`
    attempt        one try of a worker at a session; a fencing token: only the current one writes
    claim          a worker's hold on a session, one attempt of it; it lasts until it is let go or the worker is dead
    heartbeat      the row of a worker, which moves while it lives; one that stood still for a lease is a death
    lease          so long a heartbeat may stand still; also how long one process has what one does at a time
    notes          a mapped file that says whose own code runs in a worker now, also once it is dead
    suspect        a session whose code ran when its worker died; it resumes alone
    group          the sessions of a dead worker that resume together, in a process of their own
    checkpoint     the orchestrator's state, stored with the events that it covers; a resumed attempt goes on from it
    head           newest seq and status of a session, cached for a second
    front          what answers plain polls before they reach the framework
    ring, doorbell a job in the queue that tells workers to look at a session; the row is the truth
    flush          one transaction of the event writer for all sessions of its process
    fold           events in, parts and moves out: what is shown of a session
    part           a run of reasoning or text, or one tool call
    supersede      an attempt that resumes says from which seq on earlier events no longer count
    turn           what an orchestrator is asked to answer: message, history, agent, checkpoint
    exchange       a user's message and the complete answer to it: the model's view of a conversation
    context        the exchanges since a conversation was cleared last
    outcome        how a session ended, and what it leaves: message, history
    page           some rows of a list and the cursor of the next ones
    hub, subscriber  hands new pages to held requests
    usage          tokens that model requests took, counted as they end
    ledger         what an account was credited and debited, one row each; the balance is its sum
    turn order     whose waiting session begins next: of the owner of whom the fewest run
    owner          whom a session belongs to; others can't see that it exists
"""
