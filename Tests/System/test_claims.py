# SPDX-License-Identifier: Apache-2.0
"""What the reclaimer promises, as ratios within one run. A short form by default; `make bench` runs the long one."""
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import time

import pytest

from conftest import BIN, SCALE, cgroup_file, wait_until

LONG = os.environ.get("EBB_LONG") == "1"
MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("limits")


def report(name, **numbers):
    """One row of the bench's table; shown with `-s`."""
    print("BENCH", name, json.dumps(numbers), flush=True)


def compressed_ram():
    """RAM that compressed swap takes, of the whole host."""
    return sum(int(p.read_text().split()[2]) for p in pathlib.Path("/sys/block").glob("zram*/mm_stat"))


# What an ordinary function brings in before it does anything.
ORDINARY = """
import asyncio, csv, decimal, email.message, http.client, logging, sqlite3, urllib.request, uuid, xml.etree.ElementTree
def handle(event, context):
    return {"id": str(uuid.UUID(int=7)), "sum": str(decimal.Decimal("0.1") + decimal.Decimal("0.2"))}
"""


class Caller:
    """One connection that stays open, so that the client's own cost stays small beside what is measured."""

    def __init__(self, daemon):
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60 * SCALE)

    def timed(self, name, headers=None):
        """Seconds of one call, and where its sandbox came from."""
        start = time.perf_counter()
        self.connection.request("POST", f"/invoke/{name}", b"{}", headers or {})
        response = self.connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - start
        assert response.status == 200, body
        return seconds, response.getheader("X-Fn-Start")


def within(bar, measure):
    """Whether a ratio of times meets its bar. Other load on the machine only makes it worse, and here there may be some:
    so it is measured again, twice at most. What is really slower fails each time."""
    ratio = measure()
    for _ in range(2):
        if ratio <= bar:
            break
        ratio = measure()
    assert ratio <= bar


@pytest.mark.parametrize("runtime, bar, count", [("python", 0.45, 20 if LONG else 5), ("node", 0.35, 10 if LONG else 3)])
def test_an_idle_function_keeps_a_fraction_of_its_memory_compressed_pages_counted(own_daemon, runtime, bar, count):
    daemon = own_daemon("reclaim: {idle_after: 1s}\ndefaults: {timeout: 120s, init_timeout: 120s}\nhost: {memory: 3GiB}\n").start()
    images = daemon.group / "fn.slice" / "images"
    wait_until(lambda: int((images / "memory.low").read_text()) > 0, "the runtimes' files to be read", 60)
    unswapped = compressed_ram()
    before = 0
    for index in range(count):
        daemon.deploy(f"hello-{runtime}", "--name", f"f{index}", "--memory", "128MiB")
        assert daemon.invoke(f"f{index}").status == 200
        before += daemon.sandbox(f"f{index}")["current"]
    wait_until(lambda: all(s["state"] == "shrunk" for s in daemon.sandboxes()), "all to be shrunk", 60)
    current = sum(s["current"] for s in daemon.sandboxes())
    swapped = sum(s["swap"] for s in daemon.sandboxes())
    after = current + compressed_ram() - unswapped
    report(f"idle footprint {runtime}", sandboxes=count, before_mib=before / MIB, after_mib=after / MIB, current_mib=current / MIB,
           swapped_mib=swapped / MIB, ratio=after / before, bar=bar)
    assert after <= bar * before


def test_the_same_budget_holds_more_than_twice_the_sandboxes(own_daemon):
    """Without a shrink as many fit as contracts do: budget divided by memory."""
    memory, fit = 96, 8 if LONG else 4
    count = int(fit * 2.5)
    daemon = own_daemon(
        f"host: {{memory: {memory * fit}MiB}}\nreclaim: {{idle_after: 10m}}\ndefaults: {{timeout: 120s}}\npools: {{queue_timeout: 60s}}\n"
    ).start()
    for index in range(count):
        daemon.deploy("counter", "--name", f"f{index}", "--memory", f"{memory}MiB", "--timeout", "100s")
        assert daemon.invoke(f"f{index}", {"by": index}).json["count"] == index
    living = daemon.sandboxes()
    told = daemon.request("GET", "/v1/decisions?limit=20000").json["decisions"]
    evictions = [d for d in told if d["kind"] == "evict"]
    for index in range(count):
        assert daemon.invoke(f"f{index}", {"by": 1000}).json["count"] == index + 1000, "the same process, its memory unchanged"
    report("density", fit_without=fit, living=len(living), ratio=len(living) / fit, evictions=len(evictions), bar=2.2)
    assert len(living) >= 2.2 * fit
    assert not evictions


def test_a_wake_costs_a_tenth_of_a_cold_start_at_most(own_daemon):
    daemon = own_daemon("reclaim: {idle_after: 300ms}\ndefaults: {timeout: 120s}\n").start()
    caller = Caller(daemon)

    def deploy():
        daemon.fn("rm", "-y", "ordinary")  # and with it what was learnt: each round is a first one
        daemon.deploy_code("ordinary", {"app.py": ORDINARY}, "python", "app.handle")

    def measure():
        cold, woken, warm = [], [], []
        for _ in range(15 if LONG else 5):
            deploy()
            seconds, start = caller.timed("ordinary")
            assert start == "cold"
            cold.append(seconds)
            daemon.sandbox("ordinary", "shrunk")
            seconds, start = caller.timed("ordinary")
            assert start == "thawed"
            woken.append(seconds)
            warm.append(caller.timed("ordinary")[0])
        ratio = statistics.median(woken) / statistics.median(cold)
        report("wake", warm_ms=statistics.median(warm) * 1000, cold_ms=statistics.median(cold) * 1000,
               woken_ms=statistics.median(woken) * 1000, ratio=ratio, bar=0.10)
        return ratio

    within(0.10, measure)


def test_growing_a_warm_sandbox_costs_next_to_nothing_beside_a_new_one(own_daemon):
    """From 128 to 1024 MiB, ledger included: what a grown request takes longer than one that needs no growth."""
    daemon = own_daemon("reclaim: {mode: off}\ndefaults: {timeout: 120s}\nhost: {memory: 3GiB}\n").start()
    daemon.deploy("hello-python", "--memory", "128MiB")
    caller = Caller(daemon)
    caller.timed("hello-python")
    big = {"X-Fn-Memory-Mb": "1024"}
    living = daemon.sandbox("hello-python")

    def is_small():
        return cgroup_file(living, "memory.max") == str(128 * MIB)

    def measure():
        plain, grown, cold = [], [], []
        for _ in range(60 if LONG else 25):
            wait_until(is_small, "128 MiB")
            plain.append(caller.timed("hello-python")[0])
            wait_until(is_small, "128 MiB")
            grown.append(caller.timed("hello-python", big)[0])
        for _ in range(5):
            cold.append(caller.timed("hello-python", {"X-Fn-Cold": "1"})[0])
        took = max(0, statistics.median(grown) - statistics.median(plain))
        ratio = took / statistics.median(cold)
        report("resize", plain_ms=statistics.median(plain) * 1000, grown_ms=statistics.median(grown) * 1000,
               cold_ms=statistics.median(cold) * 1000, ratio=ratio, bar=0.005)
        return ratio

    within(0.005 if LONG else 0.015, measure)  # few samples are noisy


@pytest.mark.parametrize("multiple", [1.6, 1.75, 1.9] if LONG else [1.75])
def test_replayed_traces_see_half_the_cold_starts_of_other_policies(multiple):
    for seed in (1, 2, 3) if LONG else (1,):
        hours = 24 if LONG else 3
        result = subprocess.run(
            [BIN / "fn", "simulate", "--generate", "--seed", str(seed), "--hours", str(hours), "--memory", f"{multiple}x", "-o", "json"],
            capture_output=True, timeout=600 * SCALE)
        assert result.returncode == 0, result.stderr
        cold = {p["policy"]: p["coldStarts"] for p in json.loads(result.stdout)["policies"]}
        report("simulation", multiple=multiple, seed=seed, hours=hours, ratio_lru=cold["Ebb"] / cold["LRU"],
               ratio_greedy_dual=cold["Ebb"] / cold["GreedyDual"], bar=0.5)
        assert cold["Ebb"] <= 0.5 * cold["LRU"]
        assert cold["Ebb"] <= 0.5 * cold["GreedyDual"]


def test_the_controller_costs_a_hundredth_of_a_core_for_a_thousand_sandboxes(own_daemon):
    """Scaled from what is idle here: its processor time with N sandboxes less that with none, for each of them."""
    daemon = own_daemon("reclaim: {idle_after: 500ms}\ndefaults: {timeout: 120s}\nhost: {memory: 3GiB}\n").start()

    def seconds(window):
        def used():
            fields = pathlib.Path(f"/proc/{daemon.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        before = used()
        time.sleep(window)
        return (used() - before) / window

    window = 20 if LONG else 8
    none = seconds(window)
    count = 40 if LONG else 10
    for index in range(count):
        daemon.deploy("hello-python", "--name", f"f{index}")
        daemon.invoke(f"f{index}")
    wait_until(lambda: all(s["state"] == "shrunk" for s in daemon.sandboxes()), "all to be shrunk", 60)
    some = seconds(window)
    report("controller", sandboxes=count, share_without=none, share_with=some, share_for_1000=max(0, some - none) * 1000 / count)
    assert some - none < 0.5, "a core is not eaten; the long form's number is for a real machine"
