"""The pages of docs/ that are made from the code. Run it to write them; `tests/unit/test_references.py` compares.

Owns how such a page looks. What it says (names, types, defaults, sentences) belongs to the modules that it reads.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from segue import cli, config
from segue.errors import SegueError
from segue.model import AgentMode, StorageMode, StoreName
from segue.model.agent_modes import AgentStoreName
from segue.telemetry.metrics import Declared

DOCS = Path(__file__).parents[1] / "docs"
MADE = "Made from the code by `scripts/references.py`."


def command_line() -> str:
    """Return docs/cli.md."""
    root = typer.main.get_command(cli.app)
    context = typer.Context(root, info_name="segue", **root.context_settings)
    verbs = list(_verbs(root, context))
    codes = sorted((kind.exit_code, kind.__name__, kind) for kind in _tree(SegueError) if "exit_code" in vars(kind))
    return _page(
        "# The command line",
        "",
        f"{MADE} `segue VERB --help` says the same, and `--help` goes with every verb.",
        "",
        "A flag goes before the environment, the environment before the file ([configuration.md](configuration.md)), the file",
        "before a default. An option without a default here does nothing where it is left out, unless its meaning says what.",
        "",
        *_table(
            "verb | what it does", [(f"[`{path}`](#{path.replace(' ', '-')})", _first(verb.help)) for path, verb, _ in verbs]
        ),
        "",
        "## Before the verb",
        "",
        "As in `segue --log-level debug relay`.",
        "",
        *_options(root, context),
        "",
        "`segue --version` asks the stores that the file or the environment names, all at once and for a few seconds; one that",
        "does not answer is said in its place, and the exit code is 0. `segue --install-completion` lets the shell",
        "that runs it (Bash, Zsh, Fish, PowerShell) complete verbs and options from its next start on.",
        "",
        "## Exit codes",
        "",
        *_table(
            "code | error | meaning",
            [("0", "", "Done."), *((f"{code}", f"`{name}`", _first(kind.__doc__)) for code, name, kind in codes)],
        ),
        "",
        "An error without a code of its own has that of what it is a kind of, in the end 1.",
        *(
            line
            for path, verb, below in verbs
            for line in ("", f"## `{path}`", "", inspect.cleandoc(verb.help), "", *_options(verb, below))
        ),
    )


def _tree(kind: type[SegueError]) -> Iterator[type[SegueError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


def _verbs(group: Any, context: typer.Context) -> Iterator[tuple[str, Any, typer.Context]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        below = typer.Context(command, info_name=name, parent=context)
        if hasattr(command, "list_commands"):
            yield from _verbs(command, below)
        else:
            yield below.command_path, command, below


def _options(command: Any, context: typer.Context) -> Iterator[str]:
    rows = []
    for one in command.get_params(context):
        if one.name == "help":
            continue
        names = [one.metavar] if one.param_type_name == "argument" else [*one.opts, *one.secondary_opts]
        kind = "" if getattr(one, "is_flag", False) else _named(one.type_descriptor.annotation) + _within(one.min, one.max)
        variable = f"`{one.envvar}`" if one.envvar else ""
        rows.append((_code(names), kind, _literal(one.default) if one.default else "", variable, one.help))
    return _table("option | value | default | environment | meaning", rows) if rows else iter(["It has no options."])


def configuration() -> str:
    """Return docs/configuration.md."""
    return _page(
        "# Configuration",
        "",
        MADE,
        "",
        "Settings come from flags ([cli.md](cli.md)), then the environment, then the file (`segue.toml`, or what `--config`",
        "or `SEGUE_CONFIG` names), then the defaults here. `segue init` writes a file to begin with. A setting that is not",
        "known is refused, and all faults are told at once. Each heading is a TOML table; one in double brackets may be given",
        "several times.",
        "",
        "Secrets belong in the environment, or in files that the `…_FILE` variables name; they are shown nowhere. Addresses",
        "must not hold credentials, but for `redis.url` and `postgres.url`, where they are customary.",
        *(line for path, section, kind in _sections(config.Settings) for line in _section(path, section, kind)),
    )


def _sections(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """Give the tables within a model: the path in TOML, what is in it, and what chooses it where there are several."""
    for name, field in model.model_fields.items():
        path = f"{above}{field.alias or name}"
        choices = _models(field)
        for one in choices:
            kind = f", kind `{get_args(one.model_fields['kind'].annotation)[0]}`" if len(choices) > 1 else ""
            yield (f"[[{path}]]" if get_origin(field.annotation) is tuple else f"[{path}]"), one, kind
            yield from _sections(one, f"{path}.")


def _section(path: str, section: type[BaseModel], kind: str) -> Iterator[str]:
    given = {place: f"`{name}`" for name, place in config.PLAIN_VARIABLES.items()}
    also_files = {**config.SECRET_VARIABLES, **config.ADDRESS_VARIABLES}
    given |= {place: f"`{name}`, `{name}_FILE`" for name, place in also_files.items()}
    yield from ("", f"## `{path}`{kind}", "", inspect.cleandoc(section.__doc__ or ""), "")
    yield from _table(
        "key | type | default | unit | environment | meaning",
        [
            (
                f"`{field.alias or name}`",
                _named(field.annotation, field.metadata),
                _default(field),
                _unit(field),
                given.get((path.strip("[]"), name), ""),
                " ".join((field.description or "").split()),
            )
            for name, field in section.model_fields.items()
            if not _models(field)
        ],
    )


def _models(field: FieldInfo) -> list[type[BaseModel]]:
    return [one for one in _flat(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)]


def _flat(annotation: Any) -> Iterator[Any]:
    """Give the types in an annotation, and what they are annotated with."""
    if get_origin(annotation) in {None, Literal}:
        yield annotation
        return
    for one in get_args(annotation):
        yield from _flat(one)


def _unit(field: FieldInfo) -> str:
    return "".join(one.name for one in [*field.metadata, *_flat(field.annotation)] if isinstance(one, config.Unit))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "none" if field.default in (None, (), {}) else _literal(field.default)


def _literal(value: Any) -> str:
    if isinstance(value, Enum):
        return f"`{value.value}`"
    return f"{value:.12g}" if isinstance(value, (int, float)) else f"`{value}`"


_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    Path: "path",
    SecretStr: "secret text",
    Any: "any value",
}


def _named(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return a type in words: what it takes, and within which bounds."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _named(arguments[0], arguments[1:])
    if origin is Literal:
        return _code(arguments)
    if origin in {Union, types.UnionType}:
        return " or ".join(_named(one, metadata) for one in arguments if one is not type(None))
    if origin in {tuple, list, dict}:
        return f"table of {_named(arguments[1])}" if origin is dict else f"list of {_named(arguments[0])}"
    if issubclass(annotation, Enum):
        return _code(one.value for one in annotation)
    constraints = [one for given in metadata for one in (given.metadata if isinstance(given, FieldInfo) else [given])]
    above = "".join(f", above {one.gt}" for one in constraints if isinstance(one, Gt))
    least = [one.ge for one in constraints if isinstance(one, Ge)]
    most = [one.le for one in constraints if isinstance(one, Le)]
    return _WORDS[annotation] + above + _within(*(least or [None]), *(most or [None]))


def _within(least: Any, most: Any) -> str:
    if least is None:
        return "" if most is None else f", at most {most:.12g}"
    return f", at least {least:.12g}" if most is None else f", {least:.12g} to {most:.12g}"


def metrics() -> str:
    """Return docs/metrics.md."""
    rows = [(f"`{one.name}`", one.kind, _code(one.labels), one.meaning) for one in Declared().described]
    return _page(
        "# Metrics",
        "",
        MADE,
        "",
        "Every metric has the label `collection`; the other labels are in the table. A histogram is exposed as `_bucket`,",
        "`_sum` and `_count`; all in milliseconds have the same buckets. Counters and histograms begin at 0 where their labels",
        "are known beforehand; a gauge appears when its process knows a value.",
        "",
        f"Stores: {_code(StoreName)}. Modes: {_code(StorageMode)}.",
        f"Of agent state, whose `collection` is `agentdb`: stores {_code(AgentStoreName)}, modes {_code(AgentMode)}.",
        "",
        *_table("name | type | labels | meaning", rows),
    )


def _first(text: str | None) -> str:
    """Return the first paragraph, in one line."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: str, rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {head} |"
    yield "|" + "---|" * len(head.split(" | "))
    yield from ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _page(*lines: str) -> str:
    return "\n".join(lines) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {"cli.md": command_line, "configuration.md": configuration, "metrics.md": metrics}

if __name__ == "__main__":
    for name, made in PAGES.items():
        (DOCS / name).write_text(made(), encoding="utf-8")
