# SPDX-License-Identifier: Apache-2.0
"""Sandboxes that come and go leave nothing: memory, descriptors, namespaces and the kernel's own objects stay as they were.

`make soak` starts a hundred thousand, on a machine where nobody else makes namespaces; `EBB_STARTS` is another number.
"""
import http.client
import os
import time

from conftest import SCALE, wait_until
from leaks import Leaks, holdings, kernel_objects
from test_soak import resident
from test_warm_path import BUILT, LONG, daemon, deploy  # noqa: F401  (fixtures)

STARTS = int(os.environ.get("EBB_STARTS") or (100_000 if LONG else 400))
# Kept on purpose, and full after this many: decisions, logs' buffers, what is learnt.
FULL = max(100, min(8000, STARTS // 3))
ROUNDS = 10


def start(daemon, count):  # noqa: F811
    """As many cold starts, two at a time, each one answered. Milliseconds for each."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60 * SCALE)
    for _ in range(count):
        connection.request("POST", "/invoke/echo", b'{"n":1}', {"X-Fn-Cold": "1"})
        answer = connection.getresponse()
        body = answer.read()
        assert (answer.status, body, answer.headers["x-fn-start"]) == (200, b'{"n":1}', "cold"), body
    connection.close()
    return (time.monotonic() - began) / count * 1000


def quiet(daemon):  # noqa: F811
    wait_until(lambda: len(daemon.sandboxes("echo")) <= 1, "all but the last to be gone", 30)


def test_cold_starts_leave_memory_descriptors_and_namespaces_as_they_were(daemon):  # noqa: F811
    deploy(daemon, "echo", {"bootstrap": BUILT / "echo"}, "provided")
    start(daemon, FULL)
    quiet(daemon)
    leaks, objects, before = Leaks(daemon, at_once=16), kernel_objects(daemon), resident(daemon.process.pid)
    memory, each = [], []
    for _ in range(ROUNDS):
        each.append(start(daemon, max(1, (STARTS - FULL) // ROUNDS)))
        memory.append(resident(daemon.process.pid))
    quiet(daemon)
    after = kernel_objects(daemon)
    print("SOAK cold starts", {
        "starts": STARTS, "ms_each": [round(ms, 2) for ms in each], "before_mib": round(before, 1),
        "after_mib": [round(mib, 1) for mib in memory],
        "descriptors": sum(n for kind, n in holdings(daemon).items() if kind.startswith("descriptor")),
        "namespaces": {kind: n for kind, n in holdings(daemon).items() if kind.startswith("namespace")},
        "kernel_before": dict(objects), "kernel_after": dict(after)}, flush=True)
    leaks.check()
    assert memory[-1] <= before + 8
    if LONG:
        # A few hundred of each are other programs'; one for each start would be tens of thousands.
        for name, count in objects.items():
            assert after[name] <= count + 500, f"{name}: {count} before, {after[name]} after {STARTS} starts"
