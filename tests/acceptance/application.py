"""An application in service: a reader and a writer by the library, in threads, with its metrics at /metrics.

Counts what its users saw. What it writes is new each time, so that what was lost would be missed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from prometheus_client import CollectorRegistry

import segue
from acceptance.shop import Shop, vector
from segue.telemetry.exposition import serve

READ_SECONDS, WRITE_SECONDS = 0.01, 0.1


class Application:
    """A reader and a writer; a context manager that lets them work until its end.

    Attributes:
        faults: Calls that failed, in words.
        searches: How many searches each store answered.
        written: Every key written, with its newest title.
    """

    def __init__(self, shop: Shop, store: segue.DualWriteStore, port: int) -> None:
        self.faults: list[str] = []
        self.searches = {segue.StoreName.NEO4J: 0, segue.StoreName.MILVUS: 0}
        self.written: dict[str, str] = {}
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"
        self.shop = shop
        self.store = store
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._read, self._write)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        turn = 0
        while not self._closed.wait(READ_SECONDS):
            turn += 1
            try:
                hits = self.store.search(vector(turn % 40 + 0.1), k=5)
            except Exception as fault:  # noqa: BLE001  # whatever it is, a user's call failed
                self.faults.append(f"search: {fault!r}")
                continue
            milvus = any(hit.store is segue.StoreName.MILVUS for hit in hits)
            self.searches[segue.StoreName.MILVUS if milvus else segue.StoreName.NEO4J] += 1

    def _write(self) -> None:
        turn = 0
        while not self._closed.wait(WRITE_SECONDS):
            turn += 1
            key, title = f"w{turn % 20}", f"turn {turn}"
            properties = {"title": title, "year": 2000, "tags": ["new"]}
            try:
                self.store.upsert([segue.Item(key=key, vector=vector(turn), properties=properties)])
            except Exception as fault:  # noqa: BLE001
                self.faults.append(f"write: {fault!r}")
            else:
                self.written[key] = title


@contextmanager
def in_service(shop: Shop) -> Iterator[Application]:
    """Let an application work on a shop's items."""
    registry = CollectorRegistry()
    with ExitStack() as stack:
        served = serve(None, registry, "127.0.0.1")
        stack.callback(served.close)
        store = stack.enter_context(shop.open(registry=registry))
        yield stack.enter_context(Application(shop, store, served.port))
