"""The tree of errors, and what its docstring says of it."""

from __future__ import annotations

import re

import pytest

from segue import errors
from segue.errors import SegueError


def every_class(root: type[SegueError] = SegueError) -> list[type[SegueError]]:
    """Return an error and all below it, in the order of definition."""
    return [root, *(found for below in root.__subclasses__() for found in every_class(below))]


def drawn() -> list[tuple[int, str, int | None]]:
    """Return what the module's docstring draws: depth, name, and the exit code where it gives one."""
    assert errors.__doc__ is not None
    lines = re.findall(r"^ {4}( *)([A-Z]\w+)(?: +(?:exit code )?(\d+)?.*)?$", errors.__doc__, flags=re.MULTILINE)
    return [(len(indent) // 2, name, int(code) if code else None) for indent, name, code in lines]


def test_the_docstring_draws_the_tree() -> None:
    """Every class is drawn below its parent, and no other; each exit code drawn is the class's own."""
    path: list[str] = []
    seen = []
    for depth, name, code in drawn():
        path = [*path[:depth], name]
        found = getattr(errors, name)
        parent = SegueError.__mro__[1] if depth == 0 else getattr(errors, path[-2])
        first, *others = found.__bases__
        assert first is parent
        # What applications catch as one of Python's own errors is one.
        assert all(other.__module__ == "builtins" for other in others)
        assert code is None or found.exit_code == code
        seen.append(found)
    assert seen == every_class()
    assert len(seen) > 10


@pytest.mark.parametrize("error", every_class())
def test_an_error_says_what_and_what_next(error: type[SegueError]) -> None:
    """Message and hint are kept apart, the message alone is the text, and the exit code is one of DESIGN's."""
    raised = error("what is wrong", hint="what to do")
    assert (str(raised), raised.message, raised.hint) == ("what is wrong", "what is wrong", "what to do")
    assert error("alone").hint == ""
    assert error.exit_code in {1, 2, 3, 4, 5, 130}
    assert error.__doc__
