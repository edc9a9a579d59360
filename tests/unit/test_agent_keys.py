"""Patterns of Redis keys: what is put together is read back the same, and what looks alike is counted together."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.bootstrap import agent_state
from segue.delivery import in_parts
from segue.errors import ConfigError, DataError, FatalError, InvalidInput
from segue.model import AgentKind, AgentRow
from segue.pipelines.agent_keys import KeyPattern, shape


@pytest.mark.parametrize(("pattern", "key", "parts"), [
    ("agent:{agent_id}:experiences", "agent:a1:experiences", {"agent_id": "a1"}),
    ("q:{agent_id}:{state}", "q:a1:room:3", {"agent_id": "a1", "state": "room:3"}),
    ("agent:{{{id}}}:x", "agent:{42}:x", {"id": "42"}),
    ("rl:experiences", "rl:experiences", {}),
    ("{action}", "left", {"action": "left"}),
    ("{state}|{action}", "s|1|left", {"state": "s", "action": "1|left"}),
    ("agent:{agent_id}:experiences", "agent::experiences", None),
    ("agent:{agent_id}:experiences", "agent:a:b:experiences", None),
    ("agent:{agent_id}", "agents:a", None),
    ("{action}", "", None),
])  # fmt: skip
def test_keys_and_their_parts(pattern: str, key: str, parts: dict[str, str] | None) -> None:
    """A part reaches up to the next literal text, the last one takes what is left; nothing is no part."""
    assert KeyPattern(pattern).match(key) == parts


@given(st.text(min_size=1), st.text(min_size=1))
def test_what_is_put_together_is_read_back(agent: str, state: str) -> None:
    """Any parts are read back as they were, or refused when the key is made."""
    pattern = KeyPattern("q*[x]:{agent_id}:{state}")
    try:
        key = pattern.format({"agent_id": agent, "state": state})
    except InvalidInput:
        assert ":" in agent
    else:
        assert pattern.match(key) == {"agent_id": agent, "state": state}
        # Redis's glob is a pattern of the same sort; a backslash is the one sign that Python's has not.
        assert fnmatch.fnmatchcase(key, pattern.glob.replace("\\*", "[*]").replace("\\[", "[[]").replace("\\]", "]"))


def test_shapes() -> None:
    """What changes from key to key is left out: numbers, ids, long pieces."""
    found = [shape(key) for key in ("session:17", "cache:9f86d081:user", "agent:anna:state", f"x:{'y' * 40}")]
    assert found == ["session:*", "cache:*:user", "agent:anna:state", "x:*"]


def rows_of(number: int) -> list[AgentRow]:
    """Return so many rows."""
    return [AgentRow(AgentKind.METADATA, 0, f"k{n}", "", bytes([n]) * 16, b"", 0, None, ()) for n in range(number)]


@given(st.sets(st.integers(0, 19), max_size=6))
def test_only_the_guilty_rows_stay_behind(guilty: set[int]) -> None:
    """However refused rows lie among the others, exactly they are named, and every other one arrives once."""
    arrived: list[str] = []

    def send(rows: list[AgentRow]) -> None:
        if any(int(row.key[1:]) in guilty for row in rows):
            message = "refused"
            raise DataError(message)
        arrived.extend(row.key for row in rows)

    _, found = in_parts(rows_of(20), send)
    assert {one.key for one in found} == {f"k{n}" for n in guilty}
    assert sorted(arrived) == sorted(f"k{n}" for n in range(20) if n not in guilty)


def test_a_table_that_refuses_everything_is_no_matter_of_rows() -> None:
    """When row after row is refused, the copy stops with the reason instead of putting everything into quarantine."""

    def send(rows: list[AgentRow]) -> None:
        message = f"refused {len(rows)}"
        raise DataError(message)

    with pytest.raises(FatalError, match="row after row"):
        in_parts(rows_of(64), send)


def test_without_the_extra_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Segue was installed without the clients, the missing packages and the command that installs them are named."""
    monkeypatch.setattr(agent_state, "_EXTRA", ("msgspec", "no_such_client"))
    with pytest.raises(ConfigError, match="not installed: no_such_client") as refusal:
        agent_state.require_extra()
    assert refusal.value.hint == "pip install 'segue[agentdb]'"
