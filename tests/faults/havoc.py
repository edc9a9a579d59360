"""Everything that goes wrong at once: processes killed and started again, Milvus too; a wire that stalls, cuts and swallows.

Owns the threads that do it. What is done is drawn from the seed given, and logged. Judges nothing.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

from acceptance.workplace import Started, Workplace
from faults.proxy import Proxy
from segue import sandbox

LOG = logging.getLogger(__name__)

LONGEST_STALL_SECONDS = 1.0
"""What is held up this long and then let through lands within `landing_seconds`, which the protocol's argument needs."""


class OwnMilvus:
    """A Milvus of the test's own, in a sandbox of its own, that may be killed.

    Args:
        root: The sandbox's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.endpoint = sandbox.up(("milvus",), root=root)["milvus"]

    def kill(self) -> None:
        """End it as a power cut does."""
        os.killpg(sandbox.running(self._root)["milvus"].pid, signal.SIGKILL)

    def start(self) -> None:
        """Start it again with its data, at the same address; returns when it answers."""
        assert sandbox.up(("milvus",), root=self._root)["milvus"].uri == self.endpoint.uri

    def remove(self) -> None:
        """End it and remove its data."""
        sandbox.down(self._root)


class Havoc:
    """Threads that do harm, while they are let; a context manager that ends them and mends everything.

    Attributes:
        done: How often each kind of harm was done.

    Args:
        place: Where relays run.
        milvus: What is killed.
        proxy: What lies between everybody and Milvus.
        through: The address by which to go through it.
        choose: What to do, and when.
    """

    def __init__(self, place: Workplace, milvus: OwnMilvus, proxy: Proxy, through: str, choose: random.Random) -> None:
        self._place = place
        self._milvus = milvus
        self._proxy = proxy
        self._through = through
        self._let = threading.Event()
        self._stop = threading.Event()
        self._busy = [threading.Lock() for _ in range(4)]
        self.done: Counter[str] = Counter()
        works = (self._wire, self._relays, self._relays, self._server)
        self._threads = [
            threading.Thread(target=work, args=(random.Random(choose.random()), busy))
            for work, busy in zip(works, self._busy, strict=True)
        ]

    def __enter__(self) -> Self:
        """Start the relays; no harm is done yet."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything that it runs; the wire is whole, and Milvus answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._proxy.mend()

    def rage(self) -> None:
        """Begin to do harm."""
        self._let.set()

    def calm(self) -> None:
        """Do no more harm; returns when all that was done is mended."""
        self._let.clear()
        for busy in self._busy:
            with busy:
                pass

    def did(self, what: str) -> None:
        """Note some harm."""
        self.done[what] += 1
        LOG.info("%s", what)

    def _wire(self, choose: random.Random, busy: threading.Lock) -> None:
        while not self._stop.wait(choose.uniform(1.0, 4.0)):
            with busy:
                if not self._let.is_set():
                    continue
                what = choose.choice(["cut", "swallow", "mute"])
                getattr(self._proxy, what)()
                self._stop.wait(choose.uniform(0.1, LONGEST_STALL_SECONDS))
                if what == "mute" and choose.random() < 0.5:  # every other answer is lost
                    what = "mute and cut"
                    self._proxy.cut()
                self._proxy.mend()
            self.did(what)

    def _relays(self, choose: random.Random, busy: threading.Lock) -> None:
        relay = self._relay()
        kill_at = time.monotonic() + choose.uniform(3, 8)
        while not self._stop.wait(0.1):
            with busy:
                if relay.process.poll() is not None:
                    relay = self._relay()
                elif self._let.is_set() and time.monotonic() > kill_at:
                    kill(relay)
                    self.did("relay killed")
                    relay = self._relay()
                    kill_at = time.monotonic() + choose.uniform(3, 10)
        relay.signal(signal.SIGTERM)
        relay.ended(30)

    def _relay(self) -> Started:
        return self._place.start("relay", MILVUS_URI=self._through)

    def _server(self, choose: random.Random, busy: threading.Lock) -> None:
        """Kill Milvus, again some time after it is back."""
        while not self._stop.wait(choose.uniform(2, 6)):
            while not self._let.is_set():
                if self._stop.wait(0.1):
                    return
            with busy:
                if not self._let.is_set():
                    continue
                self._milvus.kill()
                self._stop.wait(choose.uniform(0, 1))
                self._milvus.start()
                self.did("Milvus killed")
            self._stop.wait(choose.uniform(15, 30))


def kill(command: Started) -> None:
    """End a command as the kernel does when memory runs out."""
    command.signal(signal.SIGKILL)
    command.process.wait()
