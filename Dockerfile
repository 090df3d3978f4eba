# The allocator as an image: `docker build -t allocator .`, then `docker run allocator worker`, or any other command.
# Needs nothing that can be written to: run it with a read-only root. What it is told: deploy/docs/kubernetes.md.
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY allocator allocator
# `[otel]` for traces.
ARG EXTRAS=
# Without pip in what is handed over; compiled here, since nothing can be written later.
RUN python3 -m venv --without-pip /opt/allocator \
    && python3 -m pip --python /opt/allocator/bin/python3 install --no-cache-dir --compile ".${EXTRAS}" \
    && /opt/allocator/bin/allocator --version

FROM python:${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="allocator" \
      org.opencontainers.image.description="The placement broker between any matchmaker and any game-server host" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
RUN groupadd --gid 10001 allocator \
    && useradd --no-log-init --uid 10001 --gid allocator --no-create-home --home-dir /nonexistent allocator \
    && mkdir /etc/allocator
COPY --from=build /opt/allocator /opt/allocator
# In a container loopback reaches nobody: who may reach the admin address is the network's to say.
ENV PATH=/opt/allocator/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ALLOCATOR_ADMIN__HOST=0.0.0.0
USER 10001:10001
# An allocator.toml that is mounted here is found without an option.
WORKDIR /etc/allocator
EXPOSE 9464
# Of a worker; where another command runs, or `admin.port` is set in the file and not as a variable, bring your own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('ALLOCATOR_ADMIN__PORT', 9464)}/livez\", timeout=4)"]
ENTRYPOINT ["allocator"]
CMD ["worker"]
