"""`segue init`: look into Neo4j and write `segue.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segue import bootstrap
from segue.cli import init_agentdb, options
from segue.cli.output import Format, Listing, Result, error_data, publish
from segue.config import load
from segue.config_file import CollectionText, render
from segue.errors import ConfigError, SegueError
from segue.phases.discover import Proposal
from segue.pipelines.layouts import Preset, legal_name
from segue.telemetry.logging import LogFormat, configure


def init(
    config: options.Config = options.CONFIG_PATH,
    index: Annotated[list[str] | None, typer.Option("--index", help="A vector index; several times for several.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="The property that identifies an item.")] = None,
    preset: Annotated[Preset, typer.Option("--preset", help="For whom the Milvus fields are laid out.")] = Preset.SEGUE,
    agentdb: Annotated[
        bool, typer.Option("--agentdb", help="Look into Redis instead, and add the mappings of agent state to the file.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the file instead of writing it.")] = False,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
    no_input: options.NoInput = False,
) -> None:
    """Find vector indexes, key and properties in Neo4j, and write a commented segue.toml.

    Takes the only vector index there is, and the only property under a uniqueness constraint; where there are several or
    none, it lists them and names the flag that chooses. Addresses and secrets come from the environment: NEO4J_URI,
    NEO4J_USERNAME, NEO4J_PASSWORD (or NEO4J_PASSWORD_FILE), MILVUS_URI; with --agentdb from REDIS_URL and DATABASE_URL.
    """
    del no_input
    configure(log_format)
    try:
        if agentdb:
            text, result = init_agentdb.proposed(config)
            if dry_run:
                typer.echo(text, nl=False)
                return
            _write(config, text)
            told = {"verb": "init", "status": "ok", "config": str(config), "agentdb": dict(result.data)}
            publish([result], told, output_format, output_file)
            return
        if config.exists() and not force and not dry_run:
            msg = f"{config} exists"
            raise ConfigError(msg, hint="Replace it with --force, or write another: --config FILE.")
        text, results = _proposed(config, index or [], key, preset)
        if dry_run:
            typer.echo(text, nl=False)
            return
        _write(config, text)
    except SegueError as fault:
        publish([], {"verb": "init", "status": "failed", "error": error_data(fault)}, output_format, output_file)
        raise
    data = {"verb": "init", "status": "ok", "config": str(config), "collections": [result.data for result in results]}
    publish(results, data, output_format, output_file)


def _proposed(config: Path, indexes: list[str], key: str | None, preset: Preset) -> tuple[str, list[Result]]:
    settings = load(None)
    found = bootstrap.proposals(settings, indexes=indexes, key=key, preset=preset)
    collections = [CollectionText(legal_name(one.spec.index), preset.value, one.spec, _remarks(one)) for one in found]
    text = render(collections, neo4j_uri=settings.neo4j.uri, database=settings.neo4j.database, milvus_uri=settings.milvus.uri)
    return text, [_result(one, collection.name, config) for one, collection in zip(found, collections, strict=True)]


def _write(config: Path, text: str) -> None:
    try:
        config.write_text(text, encoding="utf-8")
    except OSError as fault:
        msg = f"cannot write {config}: {fault.strerror}"
        raise ConfigError(msg, hint="Choose another --config.") from fault


def _remarks(found: Proposal) -> list[str]:
    return [
        f"{found.items:,} nodes, {found.embedded:,} with a vector when this was written.",
        *(f"NOTE: {note}" for note in found.notes),
    ]


def _result(found: Proposal, name: str, config: Path) -> Result:
    spec = found.spec
    carried = [(one.name, one.type.value) for one in spec.properties]
    return Result(
        title=f"{config}: collection {name}",
        facts=[
            ("vector index", spec.index),
            ("items", f"{found.items:,} :{spec.label} nodes, {found.embedded:,} with a vector"),
            ("vector", f"{spec.vector}, {spec.dimension} dimensions, {spec.metric.value}"),
            ("key", f"{spec.key} ({spec.key_type.value})"),
            ("next", "segue migrate-embeddings --dry-run"),
        ],
        listings=[Listing("properties that travel", ("property", "becomes"), carried)] if carried else [],
        notes=found.notes,
        data={
            "name": name,
            "index": spec.index,
            "label": spec.label,
            "key": spec.key,
            "key_type": spec.key_type.value,
            "vector": spec.vector,
            "dimension": spec.dimension,
            "metric": spec.metric.value,
            "items": found.items,
            "embedded": found.embedded,
            "properties": dict(carried),
            "notes": list(found.notes),
        },
    )
