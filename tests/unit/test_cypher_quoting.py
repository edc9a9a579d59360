"""Quoted identifiers, read back by the rules of Cypher's lexer; `tests/contract` asks the servers themselves."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segue.errors import ConfigError
from segue.stores.cypher import query, quoted

NAMES = st.text(st.sampled_from("\\`u0051cC\n a😀'\"") | st.characters(exclude_characters="\0"), min_size=1)


def read(text: str) -> str:
    """Return the name that Cypher reads from a quoted identifier.

    A backslash behind an even number of backslashes, some u and four hexadecimal digits are a character, and that is not
    looked at again; then, within the back-ticks, two back-ticks are one.
    """
    unescaped = re.sub(r"(?<!\\)((?:\\\\)*)\\u+([0-9a-fA-F]{4})", lambda found: found[1] + chr(int(found[2], 16)), text)
    assert unescaped[0] == unescaped[-1] == "`"
    inner = unescaped[1:-1]
    assert "`" not in inner.replace("``", "")
    return inner.replace("``", "`")


@given(NAMES)
@example("\\u0060")
@example("\\\\u0060")
@example("`\\`u0041")
def test_a_quoted_name_is_read_as_that_name(name: str) -> None:
    """No character ends the name early, starts an escape, or is lost."""
    assert read(quoted(name)) == name


@pytest.mark.parametrize("name", ["", "\0", "a\0b"])
def test_what_can_be_no_name_is_refused(name: str) -> None:
    """Neo4j has no empty name and none with NUL."""
    with pytest.raises(ConfigError):
        quoted(name)


def test_places_are_filled_once() -> None:
    """What is filled in is not looked at again, so a name that looks like a place stays a name."""
    name = quoted("<<bounds>>")
    text = query("count", label=name, bounds="true")
    assert f"MATCH (n:{name})" in text
    assert "<<" not in text.replace(name, "")


def test_a_place_without_text_is_an_error() -> None:
    """A query is never sent with a place left open."""
    with pytest.raises(KeyError):
        query("count", label="`L`")
