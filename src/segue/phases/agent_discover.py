"""Looking into Redis for agent state: a bounded sample of the keyspace, by shape, and what each shape would be mapped to.

Knows ports and vocabulary only. Reads by SCAN, never asks for all keys at once, and changes nothing.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segue.model import AgentMapping
from segue.pipelines.agent_keys import shape
from segue.pipelines.agent_presets import WORDS, guess
from segue.ports import AgentSource, KeyFacts, RedisNode

MOST_KEYS = 200_000
"""Keys that are looked at, of each node."""

_KEYS_A_PAGE = 2_000
_SAMPLED = 8
_DISTINCT = 3


@dataclass(frozen=True, slots=True)
class ShapeFound:
    """Keys that look alike.

    Attributes:
        shape: Their common look, `*` where they differ.
        keys: How many of those that were looked at.
        types: Redis's types of those that were sampled.
        elements: Their average number of elements, or bytes of a string.
        memory: Their average size in bytes; None where Redis may not be asked.
        expiring: The share of them that expire.
        examples: Some keys.
        mapping: What they would be mapped to; None where nothing is proposed.
        remarks: What the operator should know.
    """

    shape: str
    keys: int
    types: Sequence[str]
    elements: float
    memory: float | None
    expiring: float
    examples: Sequence[str]
    mapping: AgentMapping | None
    remarks: Sequence[str]


@dataclass(frozen=True, slots=True)
class KeyspaceFound:
    """What a keyspace has.

    Attributes:
        keys: How many keys Redis says there are.
        looked_at: How many of them were looked at.
        shapes: What they look like, the most frequent first.
    """

    keys: int
    looked_at: int
    shapes: Sequence[ShapeFound]


def discover_agent_state(source: AgentSource, most_keys: int = MOST_KEYS) -> KeyspaceFound:
    """Sample the keyspace and propose mappings.

    Args:
        source: Redis.
        most_keys: How many keys are looked at, of each node.
    """
    chance = random.Random(0)  # noqa: S311  # which keys are looked into is no secret
    counts: Counter[str] = Counter()
    chosen: dict[str, list[tuple[RedisNode, bytes]]] = defaultdict(list)
    nodes = source.nodes()
    looked_at = 0
    for node in nodes:
        cursor, seen = None, 0
        while seen < most_keys:
            page = source.scan(node, cursor, _KEYS_A_PAGE)
            for key in page.keys:
                look = shape(key.decode("utf-8", "backslashreplace"))
                counts[look] += 1
                held = chosen[look]
                if len(held) < _SAMPLED:
                    held.append((node, key))
                elif (place := chance.randrange(counts[look])) < _SAMPLED:
                    held[place] = (node, key)
            seen += len(page.keys)
            cursor = page.cursor
            if cursor is None:
                break
        looked_at += seen
    merged = _merged(counts)
    facts = {look: [one for at in looks for one in _facts(source, chosen[at])] for look, looks in merged.items()}
    shapes = [_shape_found(look, sum(counts[at] for at in merged[look]), found) for look, found in facts.items() if found]
    return KeyspaceFound(sum(node.keys for node in nodes), looked_at, sorted(shapes, key=lambda one: (-one.keys, one.shape)))


def _facts(source: AgentSource, chosen: Sequence[tuple[RedisNode, bytes]]) -> list[KeyFacts]:
    found: list[KeyFacts] = []
    for node in {id(node): node for node, _ in chosen}.values():
        found += source.sample(node, [key for at, key in chosen if at is node])
    return found


def _shape_found(look: str, keys: int, found: Sequence[KeyFacts]) -> ShapeFound:
    types = sorted({one.type for one in found})
    examples = [element for one in found for element in one.examples]
    memory = [one.memory for one in found if one.memory is not None]
    if len(types) == 1 and examples:
        guessed = guess(look.split(":"), types[0], examples)
        mapping, remarks = guessed.mapping, list(guessed.remarks)
    else:
        mapping, remarks = None, ["keys of several types" if len(types) > 1 else "nothing in them"]
    expiring = sum(one.expires_in is not None for one in found) / len(found)
    if mapping is not None and expiring:
        remarks.append("some expire: rows stay in PostgreSQL, with the time in expires_at")
    return ShapeFound(
        shape=look,
        keys=keys,
        types=types,
        elements=sum(one.length for one in found) / len(found),
        memory=sum(memory) / len(memory) if memory else None,
        expiring=expiring,
        examples=[one.key.decode("utf-8", "backslashreplace") for one in found[:3]],
        mapping=mapping,
        remarks=remarks,
    )


def _merged(counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Put shapes together that differ in one piece only, where that piece is no word with a meaning: names of agents."""
    looks: dict[str, list[str]] = {look: [look] for look in counts}
    known = frozenset[str]().union(*WORDS.values())
    for place in range(max((look.count(":") + 1 for look in counts), default=0)):
        groups: dict[str, list[str]] = defaultdict(list)
        for look in looks:
            pieces = look.split(":")
            if place < len(pieces) and pieces[place] != "*" and pieces[place].lower() not in known:
                groups[":".join([*pieces[:place], "*", *pieces[place + 1 :]])].append(look)
        for together, members in groups.items():
            # What differs in its first piece is another application's, not another agent's.
            if (place and len(members) >= _DISTINCT) or (together in looks and place):
                looks[together] = looks.get(together, []) + [at for look in members for at in looks.pop(look)]
    return looks
