"""The report as one HTML file: no script, nothing loaded from elsewhere, light or dark as its reader prefers.

Owns the page; the charts are drawn in `charts`. What is shown is what `phases/report.py` put together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from segue.cli.charts import Bar, Moment, Series, Span, bars, grouped, lines, spans
from segue.model import Event, EventKind, StoreName
from segue.phases.report import CollectionReport, Copying, is_comparison, moment

Rows = Sequence[Sequence[str]]

_OUTCOMES = {
    "matched": "good",
    "repaired": "good",
    "mismatched": "bad",
    "missing": "bad",
    "orphaned": "bad",
    "in_motion": "none",
}
"""What a comparison counts, and how it is drawn."""


def page(data: Mapping[str, Any], reports: Sequence[CollectionReport]) -> str:
    """Return the whole file.

    Args:
        data: The report for programs: when it was made, by what, and the configuration.
        reports: The collections.
    """
    head = (
        f"<p class=meta>Made {escape(data['made_at'])} by segue {escape(data['version'])}, configuration "
        f"{escape(data['config']['file'])}, digest <code>{escape(data['config']['digest'])}</code>. Times are UTC.</p>"
    )
    body = "".join(_section(report) for report in reports)
    settings = json.dumps(data["config"]["settings"], indent=2, ensure_ascii=False)
    config = (
        "<section><h2>Configuration</h2><details><summary>every setting, secrets left out</summary>"
        f"<pre>{escape(settings)}</pre></details></section>"
    )
    title = "Migration report: " + ", ".join(report.seen.collection for report in reports)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main><h1>{escape(title)}</h1>{head}\n{body}\n{config}"
        "</main></body></html>\n"
    )


def _section(report: CollectionReport) -> str:
    parts = [
        f"<h2>{escape(report.seen.collection)}</h2><p class=verdict>{escape(report.verdict)}.</p>",
        _unreachable(report),
        _cards(report),
        _block("What was proven", _proofs(report)),
        _block("What is left", _list(report.left or ["nothing"])),
        _block("Phases", _phases(report)),
        _block("Overridden gates", _overrides(report)),
        _block("Progress", _progress(report.copies)),
        _block("Search latency", _latencies(report)),
        _block("Validation", _validations(report)),
        _block("Quarantine by reason", _quarantine(report)),
        _block("What was done", _events(report.events)),
    ]
    return f"<section>{''.join(parts)}</section>\n"


def _unreachable(report: CollectionReport) -> str:
    faults = report.seen.unreachable
    return (
        f'<div class="warning"><p>Not everything could be reached when this was made:</p>{_list(faults)}</div>'
        if faults
        else ""
    )


def _cards(report: CollectionReport) -> str:
    control, counts = report.seen.control, report.counts
    cards = [("mode", control.mode.value if control else "not known", f"epoch {control.epoch}" if control else "")]
    if counts is not None:
        left = f"{counts.quarantined:,} quarantined, {counts.pending:,} pending"
        cards.append(("migrated", f"{counts.migrated:,} of {counts.source:,}", left))
    if report.seen.sink and report.seen.sink.rows is not None:
        cards.append(("rows in Milvus", f"{report.seen.sink.rows:,}", report.seen.sink.physical or ""))
    if report.speed_up:
        cards.append(("speed-up", f"{report.speed_up:.1f} times", "Neo4j's median to Milvus's"))
    for store, (went, tried) in report.writes.items():
        cards.append((f"writes to {store}", f"{went / tried:.2%}", f"{went:,} of {tried:,}"))
    if report.shadow_reads:
        cards.append(("shadow reads", f"{report.shadow_overlap or 0:.1%}", f"overlap of {report.shadow_reads:,}"))
    drawn = "".join(
        f"<div class=card><h4>{escape(name)}</h4><b>{escape(value)}</b><small>{escape(more)}</small></div>"
        for name, value, more in cards
    )
    return f"<div class=cards>{drawn}</div>"


def _proofs(report: CollectionReport) -> str:
    words = {True: ("yes", "good"), False: ("no", "bad"), None: ("not yet", "none")}
    rows = ""
    for one in report.proofs:
        word, style = words[one.holds]
        rows += f'<tr><td>{escape(one.what)}</td><td class="{style}">{word}</td><td>{escape(one.evidence)}</td></tr>'
    return f"<table><tr><th>what<th>shown<th>by</tr>{rows}</table>"


def _phases(report: CollectionReport) -> str:
    modes = [
        Span(
            one.mode.value,
            f"{one.mode}, epoch {one.epoch}: {_clock(one.start)} to {'now' if one.is_present else _clock(one.end)}",
            one.start,
            one.end,
            f"mode-{one.mode}",
        )
        for one in report.stretches
    ]
    now = report.seen.at
    copies = [
        Span(
            "copy",
            f"copy: {one.text}",
            one.start,
            one.end or min(now, one.points[-1][0] if one.points else now),
            f"copy-{_word(one)}",
        )
        for one in report.copies
    ]
    # A validation is a moment in the journal; how long it took is in its data.
    checks = [_validated(one) for one in report.of(EventKind.VALIDATION)]
    rows = [(name, row) for name, row in (("mode", modes), ("copies", copies), ("validations", checks)) if row]
    marks = [Moment(f"gate {one.gate} overridden: {one.reason}", one.at, "override") for one in report.overrides]
    table = _table(
        ("mode", "epoch", "from", "until", "for", "why"),
        [
            (
                one.mode.value,
                str(one.epoch),
                _clock(one.start),
                "now" if one.is_present else _clock(one.end),
                _lasted((one.end - one.start).total_seconds()),
                one.reason,
            )
            for one in report.stretches
        ],
    )
    told = "<p>A triangle marks an overridden gate.</p>" if marks else ""
    return spans("the modes, copies and validations over time", rows, marks) + told + table


def _validated(event: Event) -> Span:
    is_good = event.data.get("clean", event.data.get("good"))
    start = datetime.fromtimestamp(event.at - float(event.data.get("began_seconds_ago") or 0.0), UTC)
    return Span("", event.text, start, moment(event), "good" if is_good else "bad")


def _overrides(report: CollectionReport) -> str:
    if not report.overrides:
        return "<p>none</p>"
    rows = [(one.gate, one.mode.value, _clock(one.at), one.by, one.reason) for one in report.overrides]
    return _table(("gate", "before", "when", "by", "why"), rows)


def _progress(copies: Sequence[Copying]) -> str:
    if not copies:
        return "<p>No copy is recorded.</p>"
    points = [point for copying in copies for point in copying.points]
    drawn = ""
    if points:
        migrated = Series("migrated", "line-1", [(at, float(done)) for at, done, _, _ in points])
        quarantined = Series("quarantined", "line-2", [(at, float(left)) for at, _, left, _ in points])
        drawn = lines("items copied over time", [migrated, quarantined], "items", float(points[-1][3]))
    rows = [
        (
            _clock(one.start),
            _clock(one.end) if one.end else "not ended",
            one.text,
            str(one.data.get("workers", "")),
            f"{one.data['migrated_now'] / one.data['copy_seconds']:,.0f}" if one.data.get("migrated_now") else "",
            one.by,
            one.version,
            str(one.data.get("config", "")),
        )
        for one in copies
    ]
    return drawn + _table(("from", "until", "came to", "workers", "rows/s", "by", "segue", "configuration"), rows)


def _latencies(report: CollectionReport) -> str:
    if not report.measured:
        return "<p>Nobody was asked who counts searches: --metrics-url, --prometheus-url or [monitor] in the configuration.</p>"
    groups = []
    for name in ("p50", "p95", "p99"):
        row = [
            Bar(one.store.value, value, f"{value:,.1f} ms", _style(one.store))
            for one in report.measured
            if (value := getattr(one, name)) is not None
        ]
        groups.append((f"{name}: {name[1:]} % of searches are not slower", row))
    legend = [(one.store.value, _style(one.store)) for one in report.measured]
    rows = [
        (
            one.store.value,
            f"{one.count:,}",
            *("" if value is None else f"{value:,.1f}" for value in (one.mean, one.p50, one.p95, one.p99)),
        )
        for one in report.measured
    ]
    faster = f"<p>Milvus's median is {report.speed_up:.1f} times shorter.</p>" if report.speed_up else ""
    return (
        grouped("search latencies of both stores", groups, legend)
        + faster
        + _table(("store", "searches", "mean ms", "p50 ms", "p95 ms", "p99 ms"), rows)
    )


def _validations(report: CollectionReport) -> str:
    events = report.of(EventKind.VALIDATION)
    if not events:
        return "<p>Both sides were never compared.</p>"
    compared, found = [], []
    for event in events:
        when = _clock(moment(event))
        if is_comparison(event):
            for name, style in _OUTCOMES.items():
                if number := event.data.get(name):
                    compared.append(Bar(f"{when} {name}", float(number), f"{number:,}", style))
        for one in event.data.get("asked", ()):
            for store in StoreName:
                mean = one[store.value]["mean"]
                found.append((f"{when} {one['filter']}".strip(), Bar(store.value, mean, f"{mean:.2%}", _style(store))))
    table = _table(("when", "came to", "by", "segue"), [(_clock(moment(one)), one.text, one.by, one.version) for one in events])
    recalls = [
        (heading, [bar for name, bar in found if name == heading]) for heading in dict.fromkeys(name for name, _ in found)
    ]
    drawn = bars("keys by what came of comparing them", compared)
    if recalls:
        drawn += "<p>Of what is truly nearest, each store found:</p>" + grouped("recall of both stores", recalls)
    return drawn + table


def _quarantine(report: CollectionReport) -> str:
    if not report.reasons:
        return "<p>none</p>"
    rows = [Bar(reason, float(number), f"{number:,}", "bad") for reason, number in report.reasons.items()]
    drawn = bars("quarantined items by reason", rows)
    examples = report.seen.copy.examples if report.seen.copy else ()
    table = _table(
        ("key", "reason", "detail"),
        [("" if one.key is None else str(one.key), one.reason.value, one.detail) for one in examples],
    )
    return drawn + (f"<details><summary>the first of them</summary>{table}</details>" if examples else "")


def _events(events: Sequence[Event]) -> str:
    if not events:
        return "<p>Nothing is recorded.</p>"
    rows = [
        (_clock(moment(one)), one.kind.value, one.text, one.by, one.version, str(one.data.get("run", ""))) for one in events
    ]
    return _table(("when", "what about", "what", "by", "segue", "run"), rows)


def _block(title: str, content: str) -> str:
    return f"<h3>{escape(title)}</h3>{content}"


def _list(lines_: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in lines_)}</ul>"


def _table(headings: Sequence[str], rows: Rows) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(one)}" for one in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=scroll><table><tr>{head}</tr>{body}</table></div>"


def _word(copying: Copying) -> str:
    return "good" if copying.state == "complete" else "bad" if copying.state == "failed" else "none"


def _style(store: StoreName) -> str:
    return f"store-{store}"


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _lasted(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3_600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}"


_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--soft:#57606a;--grid:#d8dee4;--card:#f6f8fa;
--neo4j:#0969da;--milvus:#bc4c00;--good:#1a7f37;--bad:#cf222e;--none:#8c959f;
--m0:#8c959f;--m1:#0969da;--m2:#8250df;--m3:#1a7f37}
@media (prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--soft:#9198a1;--grid:#30363d;--card:#161b22;
--neo4j:#58a6ff;--milvus:#f0883e;--good:#3fb950;--bad:#f85149;--none:#6e7681;
--m0:#6e7681;--m1:#388bfd;--m2:#a371f7;--m3:#2ea043}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:980px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:24px}h2{margin-top:40px;border-bottom:1px solid var(--grid)}h3{margin:28px 0 8px}
.meta,small{color:var(--soft)}.verdict{font-size:17px}
.warning{border-left:4px solid var(--bad);padding:2px 14px;background:var(--card)}
.cards{display:flex;flex-wrap:wrap;gap:12px}.card{background:var(--card);padding:10px 16px;border-radius:8px;min-width:130px}
.card h4{margin:0;font-weight:400;color:var(--soft);font-size:13px}.card b{display:block;font-size:20px}
table{border-collapse:collapse;font-size:13px;width:100%}th,td{text-align:left;padding:5px 10px 5px 0;vertical-align:top}
th{color:var(--soft);font-weight:600}tr{border-bottom:1px solid var(--grid)}.scroll{overflow-x:auto}
td.good{color:var(--good)}td.bad{color:var(--bad)}td.none{color:var(--soft)}
pre{background:var(--card);padding:12px;overflow:auto;font-size:12px}code{font-size:13px}summary{cursor:pointer}
svg{display:block;width:100%;max-width:900px;height:auto;margin:6px 0 12px;font:12px system-ui,sans-serif}
svg text{fill:var(--ink)}svg .tick{fill:var(--soft)}svg .end{text-anchor:end}svg .middle{text-anchor:middle}
svg .heading{fill:var(--soft);font-weight:600}svg .on-bar{fill:#fff;font-weight:600}
svg .grid{stroke:var(--grid);stroke-width:1}svg .axis{stroke:var(--soft)}
svg .ceiling{stroke:var(--soft);stroke-dasharray:5 4}
svg .line{fill:none;stroke-width:2}svg .line.line-1{stroke:var(--neo4j)}svg .line.line-2{stroke:var(--milvus)}
svg .line-1{fill:var(--neo4j)}svg .line-2{fill:var(--milvus)}svg .line{fill:none}
svg .store-neo4j{fill:var(--neo4j)}svg .store-milvus{fill:var(--milvus)}
svg .good,svg .copy-good{fill:var(--good)}svg .bad,svg .copy-bad{fill:var(--bad)}svg .none,svg .copy-none{fill:var(--none)}
svg .mode-neo4j_only{fill:var(--m0)}svg .mode-dual_write{fill:var(--m1)}
svg .mode-shadow_milvus{fill:var(--m2)}svg .mode-hybrid{fill:var(--m3)}
svg path.moment{fill:var(--bad)}svg line.moment{stroke:var(--bad);stroke-dasharray:3 3}
"""
