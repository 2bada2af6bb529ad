# The image of the service: `modeltrace` and its example, without installer and compiler. It runs as an unprivileged
# user. The build needs BuildKit. docs/compose.md describes how to use a private package index.
ARG PYTHON=python:3.11-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=true UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
# The wheels of uv for x86-64 and ARM; the version is the one that ./dev gets.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /uv && \
    printf '%s \\\n' 'uv==0.13.9' \
        '--hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19' \
        '--hash=sha256:5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe' > /uv/requirements && \
    /uv/bin/pip install --no-cache-dir --only-binary=:all: --require-hashes --requirement /uv/requirements
ENV PATH=/uv/bin:$PATH

WORKDIR /src
COPY pyproject.toml requirements.lock ./
# Install only the packages that the service needs, in the versions of the lock file and checked by its hashes.
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    --mount=type=cache,target=/root/.cache/uv \
    uv venv --quiet --python "$(command -v python3)" /opt/modeltrace && \
    uv pip install --quiet --python /opt/modeltrace --only-binary :all: \
        --constraint requirements.lock --requirement pyproject.toml --extra arrow
COPY README.md ./
COPY locks locks
COPY service service
COPY hub hub
COPY modeltrace_http modeltrace_http
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    --mount=type=cache,target=/root/.cache/uv \
    uv build --quiet --wheel --require-hashes --build-constraint requirements.lock --out-dir /wheel && \
    uv pip install --quiet --python /opt/modeltrace --no-deps /wheel/*.whl
# Tests and headers of libraries are not needed here.
RUN cd /opt/modeltrace/lib/python3*/site-packages && \
    rm -rf pyarrow/include pyarrow/src && \
    find . -type d -name tests -prune -exec rm -rf {} + && \
    /opt/modeltrace/bin/python -c \
        'from pathlib import Path; from modeltrace.bundles.example import build_example; build_example(Path("/bundle"))' && \
    /opt/modeltrace/bin/modeltrace --help > /dev/null

FROM ${PYTHON}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="modeltrace" \
      org.opencontainers.image.description="Serves a scikit-learn model and makes every prediction traceable." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# The image has no installer, and one writable folder: for the key that signs prediction IDs, the prediction store and
# the spool.
RUN rm -rf /usr/local/lib/python3*/site-packages /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* && \
    useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/modeltrace --shell /usr/sbin/nologin modeltrace && \
    install -d -o modeltrace -g modeltrace -m 700 /var/lib/modeltrace
COPY --from=build /opt/modeltrace /opt/modeltrace
COPY --from=build /bundle /bundle
ENV PATH=/opt/modeltrace/bin:$PATH PYTHONDONTWRITEBYTECODE=1 XDG_DATA_HOME=/var/lib \
    MODELTRACE_BUNDLE=/bundle MODELTRACE_HOST=0.0.0.0 MODELTRACE_PORT=8000
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=90s --retries=5 CMD ["python", "-ISc", \
    "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['MODELTRACE_PORT'] + '/readyz', timeout=2)"]
ENTRYPOINT ["modeltrace"]
CMD ["serve"]
