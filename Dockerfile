# Segue's command line: relays, the copy, every verb. Nothing of it is built or run in the tests (docs/operations.md).
# A tag can be moved; pin the base by its digest where you build: docker buildx imagetools inspect python:3.12.12-slim-bookworm
ARG BASE=python:3.12.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
# The versions that the tests passed with.
RUN python -m venv /opt/segue && /opt/segue/bin/pip install --constraint constraints.txt '.[fast,k8s]'

FROM ${BASE}
COPY --from=build /opt/segue /opt/segue
RUN groupadd --gid 10001 segue && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin segue \
    && install -d -o segue -g segue /var/lib/segue
ENV PATH=/opt/segue/bin:$PATH PYTHONDONTWRITEBYTECODE=1 SEGUE_CONFIG=/etc/segue/segue.toml SEGUE_STATE_PATH=/var/lib/segue/segue-state.db
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/segue
VOLUME /var/lib/segue
EXPOSE 9464
ENTRYPOINT ["segue"]
CMD ["--help"]
