# SPDX-License-Identifier: Apache-2.0
"""A function that is called again and again costs the daemon nothing that stays. `make soak` makes a million calls."""
import pathlib

from test_warm_path import LONG, daemon, echo, load  # noqa: F401  (fixtures)

CALLS = 1_000_000 if LONG else 40_000
# What is kept of calls on purpose (decisions, learnt histograms) is full after this many.
FULL = 30_000


def resident(pid):
    """MiB."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / (1 << 20)


def test_calls_leave_memory_and_descriptors_as_they_were(daemon, echo):  # noqa: F811
    pid = daemon.process.pid
    load(daemon.port, echo.path, 8, FULL)
    before, open_before = resident(pid), len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
    seen = []
    for _ in range(10):
        load(daemon.port, echo.path, 8, CALLS // 10)
        seen.append(resident(pid))
    open_after = len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
    print("SOAK calls", {"calls": CALLS, "before_mib": round(before, 1), "after_mib": [round(s, 1) for s in seen],
                         "descriptors": (open_before, open_after)}, flush=True)
    assert seen[-1] <= before + 8
    assert open_after <= open_before
    assert len(daemon.sandboxes("echo")) == 1
