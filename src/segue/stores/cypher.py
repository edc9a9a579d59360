"""Cypher text: quoted identifiers, and the queries that lie beside this file, by name.

Values are always parameters; identifiers cannot be, so they are quoted here and nowhere else.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from segue.errors import ConfigError

_PLACE = re.compile(r"<<(\w+)>>")

_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\u")
"""What Cypher reads as the beginning of a Unicode escape: a backslash before a u, behind an even number of backslashes."""


def quoted(identifier: str) -> str:
    """Return a label, property or index name quoted for Cypher, whatever characters it holds.

    Raises:
        ConfigError: It is empty or holds NUL, which no Neo4j name can.
    """
    if not identifier or "\0" in identifier:
        message = f"{identifier!r} cannot be a name in Neo4j"
        raise ConfigError(message)
    # Cypher reads \u0060 as a back-tick even inside quotes, so such a backslash is written as an escape of its own.
    plain = _ESCAPE.sub(r"\1\\u005cu", identifier)
    return "`" + plain.replace("`", "``") + "`"


def literal(text: str) -> str:
    """Return text as a Cypher string, for where no parameter can stand."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def query(name: str, **places: str) -> str:
    """Return the query `name`.cypher with its `<<places>>` filled in.

    Args:
        name: The file's name without its ending.
        places: Text for each place: identifiers go through `quoted` first; no value ever belongs here.
    """
    return _PLACE.sub(lambda place: places[place.group(1)], _text(name))


@cache
def _text(name: str) -> str:
    return resources.files("segue.stores").joinpath("queries", f"{name}.cypher").read_text(encoding="utf-8")
