"""Of which dimensions are the vectors, and how long are they?

Source: cosine takes any length; under `dot` only normalised vectors have Neo4j's order, (1 + ip) / 2.
"""

from __future__ import annotations

from segue.model import Metric, Reason
from segue.phases.preflight.check import Check, Finding, Room, Severity, ok, warning

MOSTLY = 0.999


def look(room: Room, name: str) -> Finding:
    """Read items, and look at their vectors."""
    one = room.candidates[name]
    found, spec = one.inventory, one.spec
    wrong = [f"{detail.partition(': ')[2]} ({nodes:,})" for detail, nodes in found.details if detail.startswith("wrong_dim")]
    facts = {"read": found.seen, "norms": found.norms, "normalised": round(found.unit, 4), "other_dimensions": wrong}
    if found.norms is None:
        return warning(f"of {found.scope} none has a vector that can go", "See `quarantine`.", **facts)
    least, middle, most = found.norms
    evidence = f"{found.scope}: {spec.dimension} dimensions, norms {least:.3g} to {most:.3g} (median {middle:.3g})"
    evidence += f", {found.unit:.1%} normalised"
    if found.reasons.get(Reason.WRONG_DIMENSION):
        said = f"{evidence}; {found.reasons[Reason.WRONG_DIMENSION]:,} of other dimensions: {', '.join(wrong)}"
        return warning(
            said, "Embed those items anew with the model of the others, or leave them: they are quarantined.", **facts
        )
    if spec.metric is Metric.DOT and found.unit < MOSTLY:
        return warning(f"{evidence}; under dot their length counts", "Choose cosine, or normalise them.", **facts)
    return ok(evidence, **facts)


CHECK = Check(
    id="vectors",
    severity=Severity.WARNING,
    what="Every vector has the index's dimension; under `dot` all are normalised. Shows dimensions and norms.",
    fix="Embed those items anew, or leave them: they are quarantined.",
    look=look,
    needs=("items",),
    seconds=600.0,
)
