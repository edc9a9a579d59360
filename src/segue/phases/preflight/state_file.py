"""Can the tool keep its own records?"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, error, gib, ok

NEEDED = 256 * 2**20
"""Records of a run are a few hundred bytes a range and a quarantined item; a million quarantined ones take about this."""


def look(room: Room, store: str) -> Finding:
    """Look at the folder of the state file, where the quarantine is written too."""
    del store
    path = room.state_path
    if not room.machine.may_write(path):
        return error(f"{path} cannot be written", FIX)
    free = room.machine.free_bytes(path)
    if free < NEEDED:
        return error(f"{path}: {gib(free)} are free, {gib(NEEDED)} may be needed", FIX, free_bytes=free)
    return ok(f"{path} can be written, {gib(free)} are free", free_bytes=free)


FIX = "Set [state] path (SEGUE_STATE_PATH) to a file in a folder that can be written and has room."

CHECK = Check(
    id="state-file",
    severity=Severity.ERROR,
    what=f"The state file and the quarantine beside it can be written, with {gib(NEEDED)} free.",
    fix=FIX,
    look=look,
    stores=(Store.MACHINE,),
)
