# One image for every process of the Procfile; docs/deploy.md says how to run it.
# Debian's own Python: every step can be run in a plain Debian root as well, where no container engine is at hand.
FROM debian:bookworm-slim AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 ca-certificates tini \
 && rm -rf /var/lib/apt/lists/*

FROM python AS packages
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /tmp/requirements.txt
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.txt \
 && /opt/venv/bin/pip check

FROM python
COPY --from=packages /opt/venv /opt/venv
WORKDIR /opt/backchat
COPY app app
COPY worker worker
COPY migrations migrations
COPY deploy/make-secrets deploy/make-secrets
# Compiled now, as the root file system may be read-only later. The two folders are for volumes, which take their owner.
RUN python3 -m compileall -q app worker migrations \
 && useradd --user-group --uid 10001 --home-dir /var/lib/backchat --shell /usr/sbin/nologin backchat \
 && install -d -o backchat -g backchat /var/lib/backchat /run/secrets
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
# As PID 1 a process ignores signals until it has set handlers, and gets the orphans of all others: tini takes that part.
ENTRYPOINT ["tini", "--"]
CMD ["gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["python", "-m", "app.check", "web"]
