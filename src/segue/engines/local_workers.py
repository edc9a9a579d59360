"""Ranges on threads of this process. Threads are enough: the stores' clients wait outside the interpreter lock."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue

from segue.ports import RangeProgress

_WAKE_SECONDS = 0.5


class LocalWorkers:
    """The `Workers` of one process.

    Args:
        count: How many ranges are worked on at the same time.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def run(self, work: Callable[[int, RangeProgress], None], ranges: Sequence[RangeProgress], stop: threading.Event) -> None:
        """See `Workers`."""
        waiting: SimpleQueue[RangeProgress] = SimpleQueue()
        for one in ranges:
            waiting.put(one)

        def labour(worker: int) -> None:
            while not stop.is_set():
                try:
                    mine = waiting.get_nowait()
                except Empty:
                    return
                try:
                    work(worker, mine)
                except BaseException:
                    stop.set()
                    raise

        workers = range(min(self._count, len(ranges)))
        # Rows make no cycles, but many objects: the collector would walk everything that was ever imported, over and over
        # (a fifth of the client's time in a copy).
        gc.collect()
        gc.freeze()
        with ThreadPoolExecutor(max_workers=max(1, len(workers)), thread_name_prefix="segue-worker") as pool:
            done = [pool.submit(labour, worker) for worker in workers]
            # A signal's handler runs in this thread only, and an endless wait was seen to sleep through a Ctrl-C.
            while wait(done, timeout=_WAKE_SECONDS).not_done:
                pass
        gc.unfreeze()
        for future in done:
            future.result()
