"""What a page shows against what a command printed: lines alike but for numbers, durations, sizes, ids and widths.

Owns what counts as alike; a pure function of two texts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from documents.page import ELLIPSES

_ID = re.compile(r"\b(?=[0-9a-f-]*[a-f])(?=[0-9a-f-]*\d)[0-9a-f]{8}[0-9a-f-]*\b")
_UNIT = r"(?: ?(?:ms|µs|s|min|h|days?|[KMGT]i?B|bytes|B)\b)?"
_NUMBER = rf"(?:(?<!\w)[-+])?(?<![A-Za-z])\d+(?:,\d{{3}})*(?:\.\d+)?{_UNIT}"
_NUMBERS = re.compile(rf"{_NUMBER}(?: {_NUMBER})*")
_RULE = re.compile(r"[─━═-]{3,}")


def difference(shown: Sequence[str], printed: str) -> str | None:
    """Return what a page shows and a command did not print, as a diff; None where they are alike."""
    found = _lines(printed.splitlines())
    pattern = "".join(_pattern(line) for line in _lines(shown))
    if re.fullmatch(pattern, "".join(f"{line}\n" for line in found)):
        return None
    return "\n".join(difflib.unified_diff(_lines(shown), found, "shown", "printed", lineterm="", n=99))


def _lines(lines: Sequence[str]) -> list[str]:
    masked = (_masked(line) for line in lines)
    return [line for line in masked if line]


def _masked(line: str) -> str:
    line = _RULE.sub("─", line)
    line = _ID.sub("#", line)
    line = _NUMBERS.sub("#", line)
    return " ".join(line.split())


def _pattern(line: str) -> str:
    if line in ELLIPSES:
        return r"(?:.*\n)*?"
    return ".*".join(re.escape(part) for part in re.split(r"…|\.\.\.", line)) + "\n"
