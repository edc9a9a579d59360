"""What the asyncio twins of the library's stores share: calls that run in threads of their own. Knows no store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

T = TypeVar("T")


class Closable(Protocol):
    """A store that is closed when it is of no further use."""

    def close(self) -> None:
        """Close it. Idempotent."""
        ...


S = TypeVar("S", bound=Closable)


class Awaited(Generic[S]):
    """Makes the calls of a store in threads; an async context manager that closes it.

    Args:
        store: What it stands for.
        threads: How many calls are made at the same time; more wait.
        name: What the threads are called.
    """

    def __init__(self, store: S, *, threads: int, name: str) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def __aenter__(self) -> Self:
        """Return the store itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        await self.close()

    async def close(self) -> None:
        """See the store's `close`."""
        # Not in one of its own threads, which are gone when it is closed again.
        await asyncio.to_thread(self._store.close)
        self._threads.shutdown(wait=False)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
