"""Options that several verbs have, with one meaning everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segue.cli.output import Format
from segue.config import DEFAULT_PATH
from segue.telemetry.logging import LogFormat

Config = Annotated[Path, typer.Option("--config", help="The configuration file.", envvar="SEGUE_CONFIG", show_default=True)]
OutputFormat = Annotated[Format, typer.Option("--format", help="How the result is printed on stdout.")]
OutputFile = Annotated[Path | None, typer.Option("--output-file", help="Write the result there instead of stdout.")]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        envvar="SEGUE_LOG_FORMAT",
        # So that nobody else has to know of `auto`.
        callback=lambda chosen: chosen.resolved,
        help="How messages are written on stderr; auto: text on a terminal, JSON elsewhere.",
    ),
]
NoInput = Annotated[bool, typer.Option("--no-input", help="Never ask; nothing here does.")]
Collection = Annotated[str | None, typer.Option("--collection", help="Only this collection. Default: all.")]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=1,
        max=65_535,
        envvar="SEGUE_METRICS_PORT",
        help="Serve Prometheus metrics at /metrics on this port while it runs.",
    ),
]

MetricsUrl = Annotated[
    list[str] | None,
    typer.Option(
        "--metrics-url",
        help="A /metrics page to read: an instance of the application, a relay, a copy; several times for several. "
        "Default: monitor.urls.",
    ),
]
PrometheusUrl = Annotated[
    str | None,
    typer.Option(
        "--prometheus-url", help="The Prometheus that scrapes them, asked in place of each. Default: monitor.prometheus_url."
    ),
]


def watched(metrics_url: list[str] | None, prometheus_url: str | None) -> dict[tuple[str, str], Any]:
    """Return what these two flags say, as `config.load` takes it; a Prometheus alone stands for every page."""
    urls = metrics_url or ([] if prometheus_url else None)
    return {("monitor", "urls"): urls, ("monitor", "prometheus_url"): prometheus_url}


CONFIG_PATH = DEFAULT_PATH
