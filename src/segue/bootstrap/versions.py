"""What `segue --version` tells: the versions of Segue, of the clients it speaks through, and of the stores that answer.

Owns how long a store may take. A store that is away, refuses, or cannot be asked is said in its place; nothing is changed, and
nothing is raised.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

from segue import __version__, bootstrap
from segue.bootstrap import preflight
from segue.config import Settings, load
from segue.errors import SegueError
from segue.phases.preflight.check import Store
from segue.ports import Server

STORE_SECONDS = 2.0
"""How long a store may take to let the question in, and then to answer it."""

ALL_SECONDS = 6.0
"""How long all of them, asked at once, may take."""

CLIENTS = (
    "grpcio",
    "hiredis",
    "kubernetes",
    "langchain-core",
    "llama-index-core",
    "milvus-lite",
    "neo4j",
    "neo4j-rust-ext",
    "psycopg",
    "pymilvus",
    "redis",
)


def versions(config: Path) -> Iterator[str]:
    """Give a line for Segue, one for the clients, and one for each store that the file or the environment names.

    Args:
        config: The configuration file; it need not be there.
    """
    yield f"segue {__version__}"
    yield f"Python {platform.python_version()}, {', '.join(_clients())}"
    try:
        settings = load(config if config.exists() else None)
    except SegueError as fault:
        yield f"stores: not asked: {fault.message.splitlines()[0].rstrip(':')}"
        return
    yield from _stores(settings)


def _clients() -> Iterator[str]:
    for name in CLIENTS:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def _stores(settings: Settings) -> Iterator[str]:
    opening = {Store.NEO4J: _neo4j, Store.MILVUS: _milvus, Store.REDIS: _agents, Store.POSTGRES: _agents}
    named = [store for store in opening if store.value in settings.model_fields_set]
    told: dict[Store, str] = {}

    def ask(store: Store) -> None:
        try:
            with ExitStack() as opened:
                about = opening[store](_hasty(settings, store), opened)[store].about()
                told[store] = f"{about.version} {about.edition}".strip()
        except SegueError as fault:
            told[store] = fault.message.splitlines()[0]
        except Exception as fault:  # noqa: BLE001  # whatever a client does, the rest is told; its own text may hold anything
            told[store] = f"cannot be asked ({type(fault).__name__})"

    for store in named:
        # First, since importing a client takes no store's time. What is wrong with one, its thread tells.
        with suppress(Exception):
            importlib.import_module(f"segue.stores.{store}_preflight")
    # Daemons, so that a store that hangs does not keep the command.
    threads = [threading.Thread(target=ask, args=(store,), daemon=True) for store in named]
    for thread in threads:
        thread.start()
    end = time.monotonic() + ALL_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    for store in named:
        yield f"{store}: {told.get(store, f'no answer within {ALL_SECONDS:g} s')}"


def _hasty(settings: Settings, store: Store) -> Settings:
    """Return the settings with that store alone, and short times."""
    section = getattr(settings, store.value)
    times = {name: STORE_SECONDS for name in type(section).model_fields if name.endswith("_timeout_seconds")}
    return Settings.model_construct(**{store.value: section.model_copy(update=times)})


def _neo4j(settings: Settings, opened: ExitStack) -> Mapping[Store, Server]:
    from segue.stores.neo4j_preflight import Neo4jPreflight

    connection = bootstrap.open_neo4j(settings, retry_seconds=STORE_SECONDS)
    return {Store.NEO4J: Neo4jPreflight(opened.enter_context(connection))}


def _milvus(settings: Settings, opened: ExitStack) -> Mapping[Store, Server]:
    if urlsplit(settings.milvus.uri).scheme not in {"http", "https"}:
        # Opening one makes the file.
        message = f"Milvus Lite, in {settings.milvus.uri}"
        raise SegueError(message)
    from segue.stores.milvus_preflight import MilvusPreflight

    connection = opened.enter_context(bootstrap.open_milvus(settings))
    return {Store.MILVUS: MilvusPreflight(settings.milvus.uri, lambda: connection)}


def _agents(settings: Settings, opened: ExitStack) -> Mapping[Store, Server]:
    return preflight.agent_servers(settings, opened)
