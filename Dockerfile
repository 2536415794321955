# One image for every part: `web`, `worker`, `beat` and the one-shot `prepare` differ by their command alone.
FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN python -m venv /venv
COPY requirements.lock ./
RUN /venv/bin/pip install --require-hashes -r requirements.lock
COPY . .
RUN /venv/bin/pip install --no-deps --no-build-isolation -e .

FROM python:3.12-slim
RUN groupadd --gid 10001 corral \
 && useradd --uid 10001 --gid corral --home-dir /data --no-create-home corral \
 && install -d -o corral -g corral -m 0700 /data
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 CORRAL_HOST=0.0.0.0 CORRAL_DATA_DIR=/data
WORKDIR /app
USER corral
VOLUME /data
EXPOSE 8080
# `up` runs everything in one container: SQLite and the embedded Valkey unless URLs are given. SIGTERM leaves models to
# the next start, but a container takes its processes with it, so the stop is that of Ctrl-C.
STOPSIGNAL SIGINT
HEALTHCHECK --start-period=30s CMD ["python", "-c", \
  "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=5)"]
CMD ["corral", "up"]
