"""Which Redis keys are whose: sorted by mapping, the others counted by what they look like. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from segue.pipelines.agent_codec import AgentCodec
from segue.pipelines.agent_keys import shape
from segue.ports import UnknownKeys

MOST_SHAPES = 200
"""Shapes of unknown keys that are told apart; the others are counted together."""

_OTHERS = "(others)"


class Sorter:
    """Which keys are whose.

    Args:
        codecs: One a mapping; the first whose pattern fits a key takes it.
        ignore: Globs of keys that are nobody's business here.
    """

    def __init__(self, codecs: Sequence[AgentCodec], ignore: Sequence[str]) -> None:
        self._patterns = [codec.pattern for codec in codecs]
        self._ignored = re.compile("|".join(fnmatch.translate(glob) for glob in ignore)) if ignore else None

    def sort(self, keys: Iterable[bytes], unknown: dict[str, UnknownKeys]) -> dict[int, list[bytes]]:
        """Return keys by the place of the mapping that takes them; count the others into `unknown`, by shape."""
        found: dict[int, list[bytes]] = defaultdict(list)
        for key in keys:
            # What is no UTF-8 still belongs to the pattern that it fits; the codec says that it cannot go.
            text = key.decode("utf-8", "backslashreplace")
            place = self.place(text)
            if place is not None:
                found[place].append(key)
            elif self._ignored is None or not self._ignored.match(text):
                sort = shape(text)
                before = unknown.get(sort) or (unknown.get(_OTHERS) if len(unknown) >= MOST_SHAPES else None)
                name = sort if sort in unknown or len(unknown) < MOST_SHAPES else _OTHERS
                unknown[name] = UnknownKeys((before.keys if before else 0) + 1, before.example if before else text[:200])
        return found

    def place(self, key: str) -> int | None:
        """Return the place of the mapping that takes a key, None where none does."""
        for place, pattern in enumerate(self._patterns):
            if pattern.fits(key):
                return place
        return None
