"""Which page is followed by which of the two test modules, so that two processes have about as much to do.

Pages that share a place stay together. Each half has a logical database of Redis to itself, since agents' keys have one name.
"""

from __future__ import annotations

from collections import defaultdict

from documents.page import Page, paths, read

REDIS_DATABASES = (0, 15)
"""Other tests that write to Redis take those between."""


def _halves() -> tuple[dict[str, Page], dict[str, Page]]:
    together: dict[str, list[Page]] = defaultdict(list)
    for page in map(read, paths()):
        if page.is_run:
            together["copied" if page.beginning == "copied" else str(page.path)].append(page)
    halves: tuple[dict[str, Page], dict[str, Page]] = ({}, {})
    for pages in sorted(together.values(), key=_commands, reverse=True):
        lighter = min(halves, key=lambda half: _commands(list(half.values())))
        lighter.update({str(page.path): page for page in pages})
    return halves


def _commands(pages: list[Page]) -> int:
    blocks = [block for page in pages for block in page.blocks if block.kind == "console" and not block.is_skipped]
    return sum(len(block.commands) for block in blocks)


HALVES = _halves()
