"""JSON pointers, and paths of many ends (`/{state}/{action}`, `/*`), through documents that are decoded or still raw. Pure.

A raw part is decoded only as far as a path leads into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from segue.model import Reason
from segue.pipelines.agent_values import Raw, UnfitError, text


def walk(
    node: object, steps: Sequence[str], names: dict[str, str], way: str
) -> Iterator[tuple[dict[str, str], Any, UnfitError | None]]:
    """Yield every end of a path: the names on the way to it and what is there, or why the way does not go on."""
    if not steps:
        yield names, node, None
        return
    step, *left = steps
    if step == "*":
        elements = _elements(node)
        if elements is None:
            yield names, None, UnfitError(Reason.VALUE_TYPE, f"there is no array at {way or '/'}")
            return
        for one in elements:
            yield from walk(one, left, names, f"{way}/*")
        return
    members = _members(node)
    if members is None:
        yield names, None, UnfitError(Reason.VALUE_TYPE, f"there is no object at {way or '/'}")
    elif step.startswith("{"):
        for name, one in members.items():
            yield from walk(one, left, {**names, step[1:-1]: text(name, 0)}, f"{way}/{name}")
    elif (name := _unescaped(step)) in members:
        yield from walk(members[name], left, names, f"{way}/{name}")
    else:
        yield names, None, UnfitError(Reason.VALUE_MISSING, f"there is nothing at {way}/{name}")


def at(node: object, pointer: str) -> object:
    """Return what a JSON pointer leads to, None where that is nothing."""
    for step in pointer.split("/")[1:]:
        name = _unescaped(step)
        members = _members(node)
        if members is not None:
            node = members.get(name)
        else:
            elements = _elements(node)
            node = elements[int(name)] if elements is not None and name.isdigit() and int(name) < len(elements) else None
        if node is None:
            return None
    return node


def _members(node: object) -> Mapping[Any, Any] | None:
    if type(node) is Raw:
        if bytes(node).lstrip()[:1] != b"{":
            return None
        try:
            found: Mapping[str, Any] = msgspec.json.decode(node, type=dict[str, Raw])
        except (msgspec.DecodeError, UnicodeDecodeError) as refusal:
            raise UnfitError(Reason.NOT_DECODABLE, f"no JSON: {refusal}") from refusal
        return found
    return node if isinstance(node, dict) else None


def _elements(node: object) -> Sequence[Any] | None:
    if type(node) is Raw:
        if bytes(node).lstrip()[:1] != b"[":
            return None
        found: Sequence[Any] = msgspec.json.decode(node, type=list[Raw])
        return found
    return node if isinstance(node, list) else None


def put(document: dict[str, Any], pointer: str, value: object) -> None:
    """Put a value where a pointer leads, with the objects on the way there."""
    *way, last = [_unescaped(step) for step in pointer.split("/")[1:]]
    for name in way:
        document = document.setdefault(name, {})
    document[last] = value


def is_member(pointer: str) -> bool:
    """Say whether a pointer leads to a member of the document itself."""
    return pointer.count("/") == 1


def _unescaped(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")
