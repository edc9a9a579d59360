"""May the account change the mode where the application is deployed? Only where the configuration names a cluster.

Source: Kubernetes answers a SelfSubjectAccessReview to every account; `kubectl patch` reads first, so both verbs are needed.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Outcome, Room, Severity, Store, error, ok


def look(room: Room, store: str) -> Finding:
    """Ask the cluster."""
    del store
    if room.cluster is None:
        return Finding(Outcome.NOT_CONFIGURED, "not configured")
    missing = room.cluster.missing()
    if missing:
        return error(f"not allowed: {', '.join(missing)}", "Give the account's Role:\n" + "\n".join(missing.values()))
    return ok("what [rollout] does is allowed")


CHECK = Check(
    id="kubernetes-permissions",
    severity=Severity.ERROR,
    what="The account may read and patch the ConfigMap or the Deployment that [rollout] names, and list its pods.",
    fix="Give its Role the verbs get and patch on that object, and list on pods for a Deployment.",
    look=look,
    stores=(Store.KUBERNETES,),
)
