"""The agents of docs/migration-guide.md: they keep experiences, Q-values and what they are doing in Redis, and go on meanwhile.

    python docs/examples/agent_service.py load       # what two agents have kept in Redis so far, by plain redis-py
    python docs/examples/agent_service.py serve      # they live on, by the library, until SIGTERM or Ctrl-C

Addresses and secrets come from the environment, as for `segue`. `serve` opens ./segue.toml and prints every 5 s how it went.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter

import redis

import segue

AGENTS = ("a-1", "a-2")


def load() -> None:
    """Write what agents kept before, as they did it themselves."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        for agent in AGENTS:
            client.delete(f"agent:{agent}:experiences")
            for turn in range(500):
                lived = {"state": {"x": turn}, "action": "left", "reward": turn / 4, "timestamp": 1_760_000_000 + turn}
                client.rpush(f"agent:{agent}:experiences", json.dumps(lived))
            client.hset(f"q:{agent}:s1", mapping={"left": 0.25, "right": -1.0})
            client.hset(f"agent:{agent}:meta", mapping={"status": "idle"})
    print(f"{len(AGENTS)} agents")


def live(store: segue.AgentStateStore, seen: Counter[str], closed: threading.Event) -> None:
    """Append an experience, change a Q-value, read it back; count values that are not what was written."""
    turn = 0
    while not closed.wait(0.05):
        turn += 1
        agent = AGENTS[turn % len(AGENTS)]
        try:
            store.append(segue.Experience(state={"x": turn}, action="right", reward=1.0), agent_id=agent)
            store.put_q_values(agent, "s1", {"right": float(turn)})
            seen["wrong"] += store.q_value(agent, "s1", "right") != turn
        except segue.SegueError as fault:
            seen["failed"] += 1
            print(f"failed: {fault}", flush=True)
        else:
            seen["lived"] += 1


def serve() -> None:
    """Live until somebody asks to stop."""
    closed = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: closed.set())
    with segue.connect_agents("segue.toml") as store:
        seen: Counter[str] = Counter()
        thread = threading.Thread(target=live, args=(store, seen, closed))
        thread.start()
        while not closed.wait(5):
            counted = f"lived {seen['lived']}, failed {seen['failed']}, wrong {seen['wrong']}"
            print(f"{time.strftime('%H:%M:%S')} {store.mode}: {counted}", flush=True)
        thread.join()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["load"]:
            load()
        case ["serve"]:
            serve()
        case _:
            sys.exit(__doc__)
