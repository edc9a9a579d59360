"""`segue init --agentdb`: look into Redis and write the mappings of agent state."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from segue.bootstrap import agent_state as bootstrap
from segue.cli.output import Listing, Result
from segue.config import Settings, load
from segue.config_file import AgentMappingText, render_agentdb
from segue.errors import ConfigError

if TYPE_CHECKING:
    from segue.phases.agent_discover import KeyspaceFound, ShapeFound


def proposed(config: Path) -> tuple[str, Result]:
    """Return the text to write, behind what the file may hold already, and the result.

    Raises:
        ConfigError: The file maps agent state already.
    """
    held = config.read_text(encoding="utf-8") if config.exists() else ""
    try:
        sections = tomllib.loads(held)
    except tomllib.TOMLDecodeError as fault:
        message = f"{config} is not valid TOML: {fault}"
        raise ConfigError(message, hint="Mend that line, or write another file: --config FILE.") from fault
    if "agentdb" in sections:
        message = f"{config} maps agent state already"
        raise ConfigError(message, hint="See a new proposal with --dry-run, or write another file: --config FILE.")
    settings = load(config if held else None)
    found = bootstrap.keyspace(settings)
    return (held.rstrip() + "\n\n" if held else "") + _text(found, settings, set(sections)), _result(found, config)


def _text(found: KeyspaceFound, settings: Settings, there: set[str]) -> str:
    servers = {"redis": settings.redis.url, "postgres": settings.postgres.url}
    mapped = [AgentMappingText(one.mapping, _remarks(one)) for one in found.shapes if one.mapping is not None]
    listed = [AgentMappingText(None, _remarks(one)) for one in found.shapes if one.mapping is None]
    return render_agentdb([*mapped, *listed], {name: url for name, url in servers.items() if name not in there})


def _remarks(one: ShapeFound) -> list[str]:
    size = f", {one.memory:,.0f} bytes each" if one.memory is not None else ""
    life = f", {one.expiring:.0%} expire" if one.expiring else ""
    head = "" if one.mapping is not None else "NOT MAPPED: "
    held = f"{', '.join(one.types)}, {one.elements:,.0f} elements or bytes"
    return [
        f"{head}{one.keys:,} keys like {one.shape!a}: {held}{size}{life}",
        f"for example {', '.join(map(ascii, one.examples))}",
        *(f"NOTE: {remark}" for remark in one.remarks),
    ]


def _result(found: KeyspaceFound, config: Path) -> Result:
    mapped = [one for one in found.shapes if one.mapping is not None]
    unmapped = [one for one in found.shapes if one.mapping is None]
    rows = [
        (one.mapping.kind.value, one.mapping.key, ", ".join(one.types), one.mapping.encoding.value, f"{one.keys:,}")
        for one in mapped
        if one.mapping is not None
    ]
    others = [(one.shape, ", ".join(one.types), f"{one.keys:,}", "; ".join(one.remarks)) for one in unmapped]
    listings = [Listing("proposed", ("kind", "key", "type", "encoding", "keys"), rows)] if rows else []
    if others:
        listings.append(Listing("not mapped", ("like", "type", "keys", "why"), others))
    return Result(
        title=f"{config}: agent state",
        facts=[
            ("keys", f"{found.keys:,}, {found.looked_at:,} looked at"),
            ("mappings", f"{len(mapped)}"),
            ("next", "look through the mappings, then: segue migrate-agentdb --dry-run"),
        ],
        listings=listings,
        notes=[f"{one.shape}: {remark}" for one in mapped for remark in one.remarks],
        data={"keys": found.keys, "looked_at": found.looked_at, "shapes": [_shape_data(one) for one in found.shapes]},
    )


def _shape_data(one: ShapeFound) -> dict[str, object]:
    mapping = one.mapping
    return {
        "like": one.shape,
        "keys": one.keys,
        "types": list(one.types),
        "elements": one.elements,
        "bytes": one.memory,
        "expiring": one.expiring,
        "examples": list(one.examples),
        "kind": mapping.kind.value if mapping else None,
        "key": mapping.key if mapping else None,
        "encoding": mapping.encoding.value if mapping else None,
        "columns": {name: str(source) for name, source in mapping.columns.items()} if mapping else {},
        "remarks": list(one.remarks),
    }
