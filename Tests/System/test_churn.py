# SPDX-License-Identifier: Apache-2.0
"""No shrink and no live edit ever kills. A short form by default; `make soak` runs ten thousand events."""
import concurrent.futures
import os
import random
import threading
import time

import pytest

from conftest import cgroup_file
from leaks import nothing_left

LONG = os.environ.get("EBB_LONG") == "1"
EVENTS = int(os.environ.get("EBB_EVENTS") or (10000 if LONG else 400))
MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("limits")

ALLOCATOR = """
import time
kept = []
def handle(event, context):
    if event.get("forget"):
        kept.clear()
    for _ in range(event.get("mib", 0)):
        block = bytearray(1 << 20)
        block[::4096] = b"x" * 256
        kept.append(block)
    time.sleep(event.get("pause_ms", 0) / 1000)
    touched = sum(block[0] == 120 for block in kept)
    size = len(kept)
    del kept[20:]
    return {"held": size, "touched": touched, "number": event["number"]}
"""


def test_random_growing_shrinking_waking_and_resizing_kills_nobody_and_loses_nothing(own_daemon):
    seed = int(os.environ.get("EBB_SEED") or 1)
    source = random.Random(seed)
    daemon = own_daemon(
        "host: {memory: 700MiB}\nreclaim: {idle_after: 200ms}\ndefaults: {timeout: 600s, init_timeout: 120s}\nlimits: {timeout: 15m}\n"
        "pools: {queue_timeout: 60s}\n").start()
    names = [f"f{i}" for i in range(6)]
    for name in names:
        daemon.deploy_code(name, {"app.py": ALLOCATOR}, "python", "app.handle", "--memory", "128MiB", "--timeout", "500s")
    lost, done = [], 0
    watched = {}
    stop = threading.Event()

    def watch():
        """The kernel's own counters, of every sandbox that ever lived."""
        while not stop.is_set():
            for sandbox in daemon.sandboxes():
                try:
                    text = cgroup_file(sandbox, "memory.events.local")
                except OSError:
                    continue
                watched[sandbox["id"]] = dict(line.split() for line in text.splitlines())
            time.sleep(0.2)

    def call(number):
        event = {"number": number, "mib": source.randrange(0, 24), "pause_ms": source.choice([0, 0, 5, 40]), "forget": source.random() < 0.3}
        headers = {"X-Fn-Memory-Mb": str(source.choice([96, 128, 160, 224]))} if source.random() < 0.4 else None
        answer = daemon.invoke(source.choice(names), event, headers)
        if answer.status != 200 or answer.json["number"] != number or answer.json["held"] != answer.json["touched"]:
            lost.append((number, answer.status, answer.body[:200]))
            view = daemon.request("GET", "/v1/ledger").json
            print("LOST", lost[-1], {s["id"]: (s["state"], s["held"] >> 20, s.get("max"), s.get("pending")) for s in daemon.sandboxes()},
                  view["promised"] >> 20, view["free"] >> 20, view["host"], flush=True)

    def edit():
        answer = daemon.request("PATCH", f"/v1/functions/{source.choice(names)}", b'{"memory":%d}' % (source.choice([96, 112, 128, 192]) * MIB))
        if answer.status != 200:
            lost.append(("edit", answer.status, answer.body[:200]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            while done < EVENTS and not lost:
                batch = []
                for _ in range(20):
                    done += 1
                    batch.append(threads.submit(edit) if source.random() < 0.15 else threads.submit(call, done))
                for each in batch:
                    each.result()
                if source.random() < 0.5:
                    time.sleep(source.random() * 0.6)  # long enough for some to be shrunk
    finally:
        stop.set()
        watcher.join()
    told = daemon.request("GET", "/v1/decisions?limit=20000").json["decisions"]
    kinds = {kind: sum(d["kind"] == kind for d in told) for kind in ("run", "shrunk", "lower", "grow", "pending", "evict", "keep")}
    print("SOAK churn", {"events": done, "seed": seed, **kinds, "sandboxes": len(watched)}, flush=True)
    assert not lost
    assert kinds["shrunk"] > 0 and kinds["lower"] > 0
    for sandbox, events in watched.items():
        assert events["oom_kill"] == "0", sandbox
        assert events["high"] == "0", f"{sandbox} was throttled"
    daemon.stop()
    nothing_left(daemon)
