"""What agents' keys are likely to be: names that public code gives them, told from a key's words and a few of its elements.

Pure. Owns the vocabulary; whoever samples Redis asks here what a mapping of such keys would be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from segue.model import AgentKind, AgentMapping, ColumnSource, Encoding, RedisType, RowsOf
from segue.pipelines.agent_values import looks_pickled

WORDS: Mapping[AgentKind, frozenset[str]] = {
    AgentKind.EXPERIENCES: frozenset(
        {"experience", "experiences", "exp", "replay", "replay_buffer", "buffer", "rollout", "rollouts", "transition"}
        | {"transitions", "trajectory", "feedback", "rewards", "memory"}
    ),
    AgentKind.Q_VALUES: frozenset({"q", "qtable", "q_table", "q-table", "qvalue", "qvalues", "q_values", "q-values", "qvals"}),
    AgentKind.POLICIES: frozenset({"policy", "policies", "model", "weights", "params", "model-latest"}),
    AgentKind.METADATA: frozenset(
        {"state", "metadata", "meta", "heartbeat", "status", "config", "info", "episode", "profile", "agent"}
    ),
}
"""The words of a key that say what it is; kinds are tried in this order."""

MEMBERS: Mapping[str, Sequence[str]] = {
    "agent_id": ("agent_id", "agent", "agentId", "agent_name"),
    "state": ("state", "s", "obs", "observation"),
    "action": ("action", "a", "act"),
    "reward": ("reward", "r"),
    "next_state": ("next_state", "nextState", "s2", "s_next", "next_obs", "next_observation"),
    "done": ("done", "terminal", "terminated", "d"),
    "timestamp": ("timestamp", "ts", "time", "created_at", "t"),
}
"""The members of a document, or fields, that a column of experiences is found under; the first one that is there counts."""

_ENOUGH = ("state", "action", "reward")
_DOCUMENTS = ("data", "json", "payload", "event", "experience", "value")
_TABLE_LEVELS = 2
"""State and action: the levels of a document that is a whole table of Q-values."""
_SEPARATORS = ("|", "::", ":", "/")
DEFAULT_AGENT = "default"


@dataclass(frozen=True, slots=True)
class Guess:
    """What keys of one shape would be.

    Attributes:
        mapping: The mapping; None where none is proposed.
        remarks: What the operator should know: why not, or what is left behind.
    """

    mapping: AgentMapping | None
    remarks: Sequence[str]


def kind_of(pieces: Sequence[str]) -> AgentKind | None:
    """Return what a key is by its words, the last ones first; None where no word says so."""
    for kind, words in WORDS.items():
        if any(piece.lower() in words for piece in pieces):
            return kind
    return None


def guess(pieces: Sequence[str], type_: str, examples: Sequence[Any]) -> Guess:
    """Return what keys of a shape would be.

    Args:
        pieces: The shape's pieces between colons, `*` where they change.
        type_: Redis's type.
        examples: A few elements, as `ReadPiece.elements` has them.
    """
    kind = kind_of(pieces)
    if kind is None:
        return Guess(None, ["no word of the key says what it is"])
    try:
        redis_type = RedisType.JSON if type_ == "ReJSON-RL" else RedisType(type_)
    except ValueError:
        return Guess(None, [f"a {type_} cannot be mapped"])
    if any(looks_pickled(one) for one in _values(redis_type, examples)):
        return Guess(None, ["pickles, which are never loaded: write them in another encoding first"])
    key, names = _pattern(kind, pieces, redis_type)
    try:
        return _GUESSES[kind](key, names, redis_type, examples)
    except ValueError as fault:
        return Guess(None, [f"looks like {kind}, but {fault}"])


def _pattern(kind: AgentKind, pieces: Sequence[str], type_: RedisType) -> tuple[str, list[str]]:
    wanted = {
        AgentKind.EXPERIENCES: ["agent_id", "id"],
        AgentKind.Q_VALUES: ["agent_id", "state", "action"],
        AgentKind.POLICIES: ["agent_id", "version"],
        AgentKind.METADATA: ["agent_id", "name"],
    }[kind]
    changing = sum("*" in piece for piece in pieces)
    # A single part is the state in a table of Q-values, where nothing says that it is an agent.
    if changing == 1 and not any("agent" in piece for piece in pieces):
        if kind is AgentKind.Q_VALUES:
            wanted = ["state"]
        # Of experiences with a key each it is theirs.
        elif kind is AgentKind.EXPERIENCES and type_ in {RedisType.STRING, RedisType.HASH, RedisType.JSON}:
            wanted = ["id"]
    names: list[str] = []
    told = []
    for piece in pieces:
        if "*" in piece:
            names.append(wanted[len(names)] if len(names) < len(wanted) else f"part{len(names) + 1}")
            told.append("{" + names[-1] + "}")
        else:
            told.append(piece.replace("{", "{{").replace("}", "}}"))
    return ":".join(told), names


def _experiences(key: str, names: list[str], type_: RedisType, examples: Sequence[Any]) -> Guess:
    if type_ is RedisType.STREAM or type_ is RedisType.HASH:
        fields = _fields(type_, examples)
        columns, left = _found(fields, "field")
        if all(name in columns for name in _ENOUGH):
            if type_ is RedisType.STREAM:
                columns.setdefault("timestamp", "stream-time")
            return _made(AgentKind.EXPERIENCES, key, type_, Encoding.JSON, _with_agent(columns, names), left)
        document = next((name for name in _DOCUMENTS if name in fields), None)
        if document is None:
            message = "its fields hold neither state, action and reward nor a document"
            raise ValueError(message)
        encoding, held = _document([fields[document]])
        columns, left = _needed(held)
        if type_ is RedisType.STREAM:
            columns.setdefault("timestamp", "stream-time")
        return _made(AgentKind.EXPERIENCES, key, type_, encoding, _with_agent(columns, names), left, document=document)
    encoding, held = _document(_values(type_, examples))
    each = None
    if isinstance(held, list) and type_ in {RedisType.STRING, RedisType.JSON}:
        each, held = "/*", held[0] if held else {}
    columns, left = _needed(held)
    return _made(AgentKind.EXPERIENCES, key, type_, encoding, _with_agent(columns, names), left, each=each)


def _q_values(key: str, names: list[str], type_: RedisType, examples: Sequence[Any]) -> Guess:
    if names == ["state"] and type_ in {RedisType.STRING, RedisType.JSON} and _is_whole_table(_values(type_, examples)):
        # State and action are in the document, so that what changes in the key is whose table it is.
        key, names = key.replace("{state}", "{agent_id}"), ["agent_id"]
    parts = {name: f"part:{name}" for name in names if name in {"agent_id", "state", "action"}}
    more: dict[str, Any] = {}
    encoding, value = Encoding.NUMBER, "value"
    if type_ in {RedisType.HASH, RedisType.ZSET}:
        members = list(_fields(type_, examples)) if type_ is RedisType.HASH else [_text(one[0]) for one in examples]
        more["member"] = _member(members, names)
        more |= {"rows": RowsOf.FIELD} if type_ is RedisType.HASH else {}
        value = "score" if type_ is RedisType.ZSET else "value"
        encoding = Encoding.NUMBER if type_ is RedisType.HASH else Encoding.RAW
        named = [name for name in ("state", "action") if "{" + name + "}" in more["member"]]
    elif type_ in {RedisType.STRING, RedisType.JSON}:
        named = []
        if not _is_number(_values(type_, examples)):
            encoding, held = _document(_values(type_, examples))
            named = _levels(held, [name for name in ("state", "action") if name not in parts])
            more["each"] = "".join(f"/{{{name}}}" for name in named)
    else:
        message = f"a {type_} of Q-values is not foreseen"
        raise ValueError(message)
    columns = {**parts, **{name: f"part:{name}" for name in named}, "q_value": value}
    missing = {"state", "action"} - columns.keys()
    if missing:
        message = f"nothing says which {' and '.join(sorted(missing))} a value belongs to"
        raise ValueError(message)
    return _made(AgentKind.Q_VALUES, key, type_, encoding, _with_agent(columns, names), [], **more)


def _policies(key: str, names: list[str], type_: RedisType, examples: Sequence[Any]) -> Guess:
    columns = {name: f"part:{name}" for name in names if name in {"agent_id", "version"}}
    if type_ is RedisType.HASH:
        return _made(AgentKind.POLICIES, key, type_, Encoding.RAW, _with_agent({**columns, "policy": "value"}, names), [])
    encoding = _encoding(_values(type_, examples))
    column = "payload" if encoding is Encoding.RAW else "policy"
    return _made(AgentKind.POLICIES, key, type_, encoding, _with_agent({**columns, column: "value"}, names), [])


def _metadata(key: str, names: list[str], type_: RedisType, examples: Sequence[Any]) -> Guess:
    columns = {name: f"part:{name}" for name in names if name in {"agent_id", "name"}}
    if "name" not in columns:
        columns["name"] = f"const:{key.rpartition(':')[2]}" if not key.endswith("}") else "const:agent"
    encoding = Encoding.RAW if type_ is RedisType.HASH else _encoding(_values(type_, examples))
    return _made(AgentKind.METADATA, key, type_, encoding, _with_agent({**columns, "value": "value"}, names), [])


_GUESSES = {
    AgentKind.EXPERIENCES: _experiences,
    AgentKind.Q_VALUES: _q_values,
    AgentKind.POLICIES: _policies,
    AgentKind.METADATA: _metadata,
}


def _made(
    kind: AgentKind,
    key: str,
    type_: RedisType,
    encoding: Encoding,
    columns: Mapping[str, str],
    left: Sequence[str],
    **more: Any,
) -> Guess:
    sources = {name: ColumnSource.parse(source) for name, source in columns.items()}
    remarks = [f"not carried over: {', '.join(left)}"] if left else []
    if str(sources["agent_id"]) == f"const:{DEFAULT_AGENT}":
        remarks.append(f"nothing says whose they are: agent_id is {DEFAULT_AGENT!r}")
    return Guess(AgentMapping(kind, key, type_, encoding, sources, **more), remarks)


def _with_agent(columns: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Put whose it is first: from the key, from the document, or nobody in particular."""
    agent = "part:agent_id" if "agent_id" in names else columns.get("agent_id", f"const:{DEFAULT_AGENT}").removesuffix("?")
    return {"agent_id": agent, **{name: source for name, source in columns.items() if name != "agent_id"}}


def _needed(held: object) -> tuple[dict[str, str], list[str]]:
    if not isinstance(held, dict):
        message = "its documents are no objects"
        raise ValueError(message)  # noqa: TRY004  # what is caught is why nothing is proposed
    columns, left = _found(held, "json")
    missing = [name for name in _ENOUGH if name not in columns]
    if missing:
        message = f"its documents have nothing called {', '.join(missing)}"
        raise ValueError(message)
    return columns, left


def _found(held: Mapping[Any, Any], origin: str) -> tuple[dict[str, str], list[str]]:
    columns, used = {}, set()
    for column, names in MEMBERS.items():
        name = next((name for name in names if name in held), None)
        if name is not None:
            used.add(name)
            optional = "" if column in (*_ENOUGH, "agent_id") else "?"
            columns[column] = f"json:/{_escaped(name)}{optional}" if origin == "json" else f"field:{name}{optional}"
    return columns, sorted(str(name) for name in held if name not in used)


def _member(members: Sequence[str], names: Sequence[str]) -> str:
    if "state" in names:
        return "{action}"
    separator = next((one for one in _SEPARATORS if members and all(one in member for member in members)), None)
    return "{state}" + separator + "{action}" if separator else "{state}" if "action" in names else "{action}"


def _levels(held: object, names: Sequence[str]) -> list[str]:
    """Return the names for the levels of objects above the numbers."""
    if _depth(held) != len(names):
        message = f"its documents are not {len(names)} levels of objects with numbers below"
        raise ValueError(message)
    return list(names)


def _depth(held: object) -> int | None:
    """Return how many levels of objects lie above the numbers of a document, None where no number lies below."""
    depth = 0
    while isinstance(held, dict) and held:
        depth, held = depth + 1, next(iter(held.values()))
    return depth if isinstance(held, (int, float)) else None


def _is_whole_table(values: Sequence[bytes]) -> bool:
    """Say whether documents hold states, and in each of them actions."""
    with suppress(ValueError):
        return _depth(_document(values)[1]) == _TABLE_LEVELS
    return False


def _fields(type_: RedisType, examples: Sequence[Any]) -> dict[str, bytes]:
    flat = examples[0] if type_ is RedisType.HASH else examples[0][1]
    return {_text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _values(type_: RedisType, examples: Sequence[Any]) -> list[bytes]:
    if type_ is RedisType.HASH:
        return [value for flat in examples for value in flat[1::2]]
    if type_ is RedisType.STREAM:
        return [value for _, flat in examples for value in flat[1::2]]
    return [one[0] for one in examples] if type_ is RedisType.ZSET else list(examples)


def _document(values: Sequence[bytes]) -> tuple[Encoding, object]:
    encoding = _encoding(values)
    if encoding is Encoding.JSON:
        return encoding, json.loads(values[0])
    if encoding is Encoding.MSGPACK:
        return encoding, msgspec.msgpack.decode(values[0])
    message = "its values are neither JSON nor MessagePack"
    raise ValueError(message)


def _encoding(values: Sequence[bytes]) -> Encoding:
    if _all_decode(values, json.loads):
        return Encoding.JSON
    if values and all(one[:1] >= b"\x80" for one in values) and _all_decode(values, msgspec.msgpack.decode):
        return Encoding.MSGPACK
    return Encoding.RAW


def _all_decode(values: Sequence[bytes], decode: Any) -> bool:
    with suppress(ValueError, msgspec.DecodeError, RecursionError):
        for one in values:
            decode(one)
        return bool(values)
    return False


def _is_number(values: Sequence[bytes]) -> bool:
    with suppress(ValueError):
        return bool(values) and all(isinstance(float(one), float) for one in values)
    return False


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
