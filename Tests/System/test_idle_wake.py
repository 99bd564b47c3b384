# SPDX-License-Identifier: Apache-2.0
"""Memory leaves a function when it idles, and is there when it is called."""
import concurrent.futures

import pytest

from conftest import cgroup_file, wait_until

CONFIG = "reclaim: {idle_after: 1s}\ndefaults: {timeout: 120s}\n"
MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("limits")


@pytest.fixture(autouse=True)
def counter(daemon):
    """New for each test: what was learnt of the one before it is gone with it."""
    daemon.fn("rm", "-y", "counter")
    daemon.deploy("counter", "--timeout", "100s")


def test_an_idle_sandbox_is_frozen_reclaimed_and_lowered_and_wakes_as_the_same_process(daemon):
    first = daemon.invoke("counter", {"ballast_mb": 40}).json
    before = daemon.sandbox("counter", "idle", "shrinking", "shrunk")
    shrunk = daemon.sandbox("counter", "shrunk")
    assert cgroup_file(shrunk, "cgroup.freeze") == "1"
    current, limit = int(cgroup_file(shrunk, "memory.current")), int(cgroup_file(shrunk, "memory.max"))
    assert current < 20 * MIB, "its 40 MiB have left"
    assert int(cgroup_file(shrunk, "memory.swap.current")) > 30 * MIB
    assert limit < 40 * MIB, "the limit follows what is left"
    assert int(cgroup_file(shrunk, "memory.high")) <= limit
    compressed = shrunk["held"] - limit
    assert 0 < compressed < 20 * MIB, "the ledger charges what the compressed pages take, too"

    answer = daemon.invoke("counter")
    assert answer.headers["x-fn-start"] == "thawed"
    assert answer.json["count"] == first["count"] + 1
    assert answer.json["sum"] == 40 * 256, "what was in memory is unchanged"
    woken = daemon.sandbox("counter")
    assert (woken["pid"], woken["startTime"]) == (before["pid"], before["startTime"])
    assert "oom_kill 0" in cgroup_file(woken, "memory.events")


def test_a_woken_sandbox_runs_with_its_whole_contract_and_without_a_throttle(daemon):
    daemon.invoke("counter")
    daemon.sandbox("counter", "shrunk")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        call = threads.submit(daemon.invoke, "counter", {"hold_ms": 6000})
        busy = daemon.sandbox("counter", "busy")
        assert cgroup_file(busy, "memory.max") == str(128 * MIB)
        assert cgroup_file(busy, "memory.high") == "max"
        assert cgroup_file(busy, "cgroup.freeze") == "0"
        assert call.result().status == 200
    assert "high 0" in cgroup_file(busy, "memory.events")


def test_the_ledger_gets_back_what_a_shrunk_sandbox_gave(daemon):
    daemon.invoke("counter")
    shrunk = daemon.sandbox("counter", "shrunk")
    ledger = daemon.request("GET", "/v1/ledger").json
    limit = int(cgroup_file(shrunk, "memory.max"))
    assert limit <= ledger["holders"][shrunk["id"]] < limit + 16 * MIB
    assert ledger["promised"] == sum(ledger["holders"].values()) <= ledger["budget"]


def test_requests_that_race_with_shrinks_are_all_answered(daemon):
    daemon.invoke("counter")
    for _ in range(12):
        daemon.sandbox("counter", "idle", "shrinking", "shrunk")
        before = daemon.invoke("counter").json["count"]
        assert daemon.invoke("counter").json["count"] == before + 1


def test_an_update_of_a_shrunk_sandbox_holds_when_it_wakes(daemon):
    daemon.invoke("counter")
    daemon.sandbox("counter", "shrunk")
    daemon.fn("update", "counter", "--memory", "200MiB")
    daemon.invoke("counter")
    awake = daemon.sandbox("counter", "idle", "busy", "shrinking", "shrunk")
    wait_until(lambda: daemon.invoke("counter").status == 200, "an answer")
    assert daemon.describe("counter")["memory"] == 200 * MIB
    assert daemon.sandbox("counter")["pid"] == awake["pid"]


def test_when_memory_is_short_idle_sandboxes_give_theirs_to_new_requests(own_daemon):
    small = own_daemon("host: {memory: 300MiB}\nreclaim: {idle_after: 10m}\ndefaults: {timeout: 120s}\npools: {queue_timeout: 60s}\n").start()
    for name in ("one", "two", "three", "four"):
        small.deploy("hello-python", "--name", name, "--memory", "128MiB", "--timeout", "100s")
        assert small.invoke(name).status == 200
    states = {s["function"]: s["state"] for s in small.sandboxes()}
    assert set(states) == {"one", "two", "three", "four"}, "none was evicted"
    assert "shrunk" in states.values()
    ledger = small.request("GET", "/v1/ledger").json
    assert ledger["promised"] <= ledger["budget"]


def test_when_everything_is_busy_a_request_is_refused_with_the_numbers(own_daemon):
    small = own_daemon("host: {memory: 150MiB}\ndefaults: {timeout: 120s}\npools: {queue_timeout: 1s}\n").start()
    small.deploy("counter", "--timeout", "100s")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        call = threads.submit(small.invoke, "counter", {"hold_ms": 15000})
        small.sandbox("counter", "busy")
        refused = small.invoke("counter")
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
        assert "128MiB are needed" in refused.json["error"]["message"]
        assert small.fn("invoke", "counter").returncode == 75
        assert call.result().status == 200
