"""Redis keys and their named parts: a pattern taken apart, put together, and matched. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from segue.errors import InvalidInput
from segue.model import parse_pattern


class KeyPattern:
    """One pattern, compiled. A part reaches up to the next literal text; the last one takes all that is left.

    Args:
        text: As in `AgentMapping.key`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces = parse_pattern(text)
        self.prefix = self._pieces[0][0]
        self.names = [name for _, name in self._pieces if name is not None]
        # The commonest pattern of members, `{action}`, needs no expression.
        self._only = self._pieces[0][1] if len(self._pieces) == 1 and not self.prefix else None
        self._expression = re.compile(_expression(self._pieces), re.DOTALL)

    def match(self, key: str) -> dict[str, str] | None:
        """Return the parts of a key, None where the pattern does not fit."""
        if self._only is not None and key:
            return {self._only: key}
        found = self._expression.fullmatch(key)
        return found.groupdict() if found else None

    def fits(self, key: str) -> bool:
        """Say whether a key fits the pattern."""
        return key.startswith(self.prefix) and self._expression.fullmatch(key) is not None

    def format(self, parts: Mapping[str, object]) -> str:
        """Return the key with these parts.

        Raises:
            InvalidInput: A part is missing, or would be read differently from how it was written.
        """
        missing = [name for _, name in self._pieces if name is not None and not str(parts.get(name) or "")]
        if missing:
            message = f"{self.text!r} needs {', '.join(missing)}"
            raise InvalidInput(message)
        key = "".join(literal + (str(parts[name]) if name is not None else "") for literal, name in self._pieces)
        told = {name: str(parts[name]) for _, name in self._pieces if name is not None}
        if self.match(key) != told:
            message = f"{key!r} would not be read back as {told} under {self.text!r}"
            raise InvalidInput(message)
        return key

    @property
    def glob(self) -> str:
        """The pattern as Redis's MATCH takes it, never narrower than the pattern itself."""
        return "".join(
            re.sub(r"([*?\[\]\\^-])", r"\\\1", literal) + ("*" if name is not None else "") for literal, name in self._pieces
        )


def _expression(pieces: Sequence[tuple[str, str | None]]) -> str:
    text = ""
    for place, (literal, name) in enumerate(pieces):
        text += re.escape(literal)
        if name is None:
            continue
        following = pieces[place + 1][0] if place + 1 < len(pieces) else ""
        text += f"(?P<{name}>{f'[^{re.escape(following[0])}]+' if following else '.+'})"
    return text


def shape(key: str) -> str:
    """Return what a key looks like with its changing pieces left out, so that unknown keys can be counted by sort.

    Digits, long hexadecimal and everything that looks like an id become `*`: `session:*`, `cache:user:*`.
    """
    return ":".join("*" if _CHANGING.search(piece) else piece for piece in key.split(":"))


_CHANGING = re.compile(r"[0-9]|^[0-9a-fA-F-]{8,}$|.{33,}")
