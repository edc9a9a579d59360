"""SQL text: the statements that lie beside this file, by name. Values are always parameters."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_PLACE = re.compile(r"<<(\w+)>>")


def sql(name: str, **places: str) -> str:
    """Return the statement `name`.sql with its `<<places>>` filled in by identifiers and keywords; no value belongs there."""
    return _PLACE.sub(lambda place: places[place.group(1)], _text(name))


def statements(name: str, **places: str) -> list[str]:
    """Return the statements of a file that holds several, each ended by a semicolon."""
    plain = re.sub(r"^--.*\n", "", sql(name, **places), flags=re.MULTILINE)
    return [statement.strip() for statement in plain.split(";") if statement.strip()]


@cache
def _text(name: str) -> str:
    return resources.files("segue.stores").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
