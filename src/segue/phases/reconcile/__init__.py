"""The reconcile: compares both sides, and makes the sink equal again where asked. Begin at `Reconcile.run` in `comparing`.

Items are enumerated by a pass over their label and looked up by key, rows by ranges of keys at the Strong level; neither goes
the copy's way. Beside writers nothing is a difference at one look: it must still be there, the same, at a second one, with
the key's mark clean and unchanged between them. Whatever moved is looked at again in the end. Knows ports only.
"""

from segue.phases.reconcile.comparing import Reconcile
from segue.phases.reconcile.repair import Plan
from segue.phases.reconcile.verdict import Job, Outcome, Sides, Watch

__all__ = ["Job", "Outcome", "Plan", "Reconcile", "Sides", "Watch"]
