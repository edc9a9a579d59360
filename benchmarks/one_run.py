"""One run of one contender in a process of its own: `one_run.py TASK`, a JSON object; prints the sample as JSON.

Reads the servers' addresses and passwords from the sandbox's own records, so that none is on a command line.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial

from contender import Contender, Task
from measuring import Sample, Window
from scripts import careful, common
from segue import sandbox
from segue_itself import read_only, segue, write_only

CONTENDERS: dict[str, Contender] = {
    "segue": segue,
    "careful-4": partial(careful, threads=4),
    "careful-1": partial(careful, threads=1),
    "common": common,
    "read-only": read_only,
    "write-only": write_only,
}


def run(task: Task) -> Sample:
    """Run it.

    Raises:
        SystemExit: Not every item went.
    """
    servers = sandbox.running()
    with CONTENDERS[task.contender](task, servers) as work:
        with Window(servers) as window:
            rows = work()
        sample = window.sample(task.contender, rows)
        if rows != task.items:
            message = f"{rows:,} rows went, {task.items:,} should have"
            raise SystemExit(message)
    return sample


if __name__ == "__main__":
    print(json.dumps(asdict(run(Task(**json.loads(sys.argv[1]))))))
