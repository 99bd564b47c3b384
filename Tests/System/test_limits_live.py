# SPDX-License-Identifier: Apache-2.0
"""Limits move while sandboxes live; every number is read from the kernel's own files."""
import concurrent.futures
import os
import time

import boto3
import pytest

from conftest import cgroup_file, wait_until

CONFIG = "reclaim: {mode: off}\ndefaults: {timeout: 120s}\nlimits: {memory: 2GiB, cpus: 4}\n"
MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("limits")


def identity(sandbox):
    return sandbox["id"], sandbox["pid"], sandbox["startTime"]


@pytest.fixture
def counter(daemon):
    daemon.fn("rm", "--yes", "counter")
    wait_until(lambda: not daemon.sandboxes("counter"), "old sandboxes to end")
    daemon.deploy("counter", "--timeout", "100s")
    assert daemon.invoke("counter").json["count"] == 1
    return daemon.sandbox("counter", "idle")


def test_a_sandbox_starts_with_its_limits_in_the_kernels_files(counter):
    assert cgroup_file(counter, "memory.max") == str(128 * MIB)
    assert cgroup_file(counter, "memory.high") == "max"
    assert cgroup_file(counter, "memory.low") == "0"
    assert cgroup_file(counter, "memory.swap.max") == str(128 * MIB)
    assert cgroup_file(counter, "memory.oom.group") == "1"
    assert cgroup_file(counter, "cpu.max") == "100000 100000"
    assert cgroup_file(counter, "cpu.weight") == "100"
    assert cgroup_file(counter, "pids.max") == "128"


def test_fn_update_changes_an_idle_sandbox_without_restarting_it(daemon, counter):
    assert daemon.fn("update", "counter", "--memory", "256MiB", "--cpus", "2").returncode == 0
    wait_until(lambda: cgroup_file(counter, "memory.max") == str(256 * MIB), "memory.max to rise")
    wait_until(lambda: cgroup_file(counter, "cpu.max") == "200000 100000", "cpu.max to rise")
    assert daemon.fn("update", "counter", "--memory", "96MiB").returncode == 0
    wait_until(lambda: cgroup_file(counter, "memory.max") == str(96 * MIB), "memory.max to fall")
    assert daemon.invoke("counter").json["count"] == 2
    assert identity(daemon.sandbox("counter")) == identity(counter)


def test_a_running_sandbox_grows_and_shrinks_under_its_request(daemon, counter):
    with concurrent.futures.ThreadPoolExecutor() as threads:
        call = threads.submit(daemon.invoke, "counter", {"hold_ms": 20000})
        daemon.sandbox("counter", "busy")
        daemon.fn("update", "counter", "--memory", "300MiB", "--cpus", "0.5")
        wait_until(lambda: cgroup_file(counter, "memory.max") == str(300 * MIB), "memory.max to rise")
        wait_until(lambda: cgroup_file(counter, "cpu.max") == "50000 100000", "cpu.max to fall")
        daemon.fn("update", "counter", "--memory", "100MiB", "--cpus", "1")
        wait_until(lambda: cgroup_file(counter, "memory.max") == str(100 * MIB), "memory.max to fall")
        assert daemon.sandbox("counter")["state"] == "busy"
        assert call.result().json["count"] == 2
    assert identity(daemon.sandbox("counter")) == identity(counter)


def test_lambdas_update_changes_the_kernels_file(daemon, counter):
    client = boto3.client(
        "lambda", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{daemon.port}", aws_access_key_id="x",
        aws_secret_access_key="x")
    client.update_function_configuration(FunctionName="counter", MemorySize=200)
    wait_until(lambda: cgroup_file(counter, "memory.max") == str(200 * MIB), "memory.max to rise")
    assert daemon.invoke("counter").json["count"] == 2


def test_an_edited_config_file_changes_living_sandboxes(daemon, counter):
    daemon.config.write_text(CONFIG + "functions:\n  count*: {memory: 180MiB, memory_low: 16MiB, cpus: 0.7}\n")
    wait_until(lambda: cgroup_file(counter, "memory.max") == str(180 * MIB), "memory.max to follow the file")
    assert cgroup_file(counter, "cpu.max") == "70000 100000"
    assert daemon.describe("counter")["origins"]["memory"] == "operator"
    daemon.invoke("counter", {"by": 0})
    assert cgroup_file(counter, "memory.low") == str(16 * MIB), "protected from its next request on"
    daemon.config.write_text(CONFIG)
    wait_until(lambda: cgroup_file(counter, "memory.max") == str(128 * MIB), "memory.max to return")
    assert daemon.invoke("counter").json["count"] == 2
    assert identity(daemon.sandbox("counter")) == identity(counter)


def test_shrinking_below_usage_kills_nothing_and_is_shown_pending(daemon, counter):
    daemon.fn("update", "counter", "--memory", "256MiB")
    # What is held is read again and again, so that it cannot be swapped out and stay out.
    daemon.deploy_code("holder", {"app.py": HOLDER}, "python", "app.handle", "--memory", "256MiB", "--timeout", "100s")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        call = threads.submit(daemon.invoke, "holder", {"mb": 120, "seconds": 25})
        holder = daemon.sandbox("holder", "busy")
        wait_until(lambda: int(cgroup_file(holder, "memory.current")) > 110 * MIB, "the function to hold its memory", 30)
        daemon.fn("update", "holder", "--memory", "48MiB")
        pending = daemon.describe("holder")["pending"]
        assert [(p["sandbox"], p["to"]) for p in pending] == [(holder["id"], 48 * MIB)]
        assert cgroup_file(holder, "memory.max") == str(256 * MIB)
        assert call.result().json["pages"] == 120 * 256
    wait_until(lambda: cgroup_file(holder, "memory.max") == str(48 * MIB), "the new limit, once it is idle", 30)
    assert daemon.describe("holder")["pending"] == []
    assert daemon.sandbox("holder")["pid"] == holder["pid"]
    assert "oom_kill 0" in cgroup_file(holder, "memory.events")


HOLDER = """
import os, time
def handle(event, context):
    held = bytearray(os.urandom(1 << 20) * event["mb"])
    end = time.time() + event["seconds"]
    while time.time() < end:
        total = sum(1 for i in range(0, len(held), 4096) if held[i] >= 0)
    return {"pages": total}
"""


def test_a_size_of_its_own_is_given_to_one_request_on_the_same_sandbox(daemon, counter):
    with concurrent.futures.ThreadPoolExecutor() as threads:
        call = threads.submit(daemon.invoke, "counter", {"hold_ms": 8000}, {"X-Fn-Memory-Mb": "512"})
        daemon.sandbox("counter", "busy")
        assert cgroup_file(counter, "memory.max") == str(512 * MIB)
        assert call.result().json["count"] == 2
    wait_until(lambda: cgroup_file(counter, "memory.max") == str(128 * MIB), "the extra memory to go back")


def test_a_size_above_the_operators_limit_is_refused(daemon, counter):
    answer = daemon.invoke("counter", headers={"X-Fn-Memory-Mb": "4096"})
    assert answer.status == 400
    assert "above the operator's limit of 2GiB" in answer.json["error"]["message"]
    assert daemon.fn("update", "counter", "--memory", "4GiB").returncode == 64


SPINNER = """
import os, time
def handle(event, context):
    end, children = time.time() + event["seconds"], []
    for _ in range(event["processes"]):
        child = os.fork()
        if child == 0:
            while time.time() < end: pass
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
"""


def used(sandbox):
    return int(cgroup_file(sandbox, "cpu.stat").split()[1]) / 1e6


def used_in(seconds, *sandboxes):
    """What sandboxes use of a processor's time while so much time passes, in seconds of each, and that time."""
    began, before = time.monotonic(), [used(sandbox) for sandbox in sandboxes]
    time.sleep(seconds)
    return [used(sandbox) - was for sandbox, was in zip(sandboxes, before)], time.monotonic() - began


def spin(threads, daemon, name, processes, seconds):
    call = threads.submit(daemon.invoke, name, {"processes": processes, "seconds": seconds})
    sandbox = daemon.sandbox(name, "busy")
    wait_until(lambda: len(cgroup_file(sandbox, "cgroup.procs").split()) > processes, "all of them to spin", 30)
    return sandbox, call


def answer_times(daemon, count=40):
    """How long the daemon takes for a request that needs nothing but itself, sorted."""
    times = []
    for _ in range(count):
        began = time.monotonic()
        assert daemon.request("GET", "/readyz").status == 200
        times.append(time.monotonic() - began)
    return sorted(times)


def test_a_function_that_spins_on_every_processor_keeps_to_its_quota_and_leaves_others_their_share(daemon):
    processors = os.cpu_count()
    for name, cpus in (("quota", 0.5), ("greedy", processors), ("modest", processors)):
        daemon.deploy_code(name, {"app.py": SPINNER}, "python", "app.handle", "--cpus", str(cpus), "--timeout", "100s")
        assert daemon.invoke(name, {"processes": 1, "seconds": 0}).status == 200
    calm = answer_times(daemon)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        sandbox, call = spin(threads, daemon, "quota", 4 * processors, 25)
        (mine,), took = used_in(10, sandbox)
        assert 0.95 < mine / took / 0.5 < 1.05, f"{mine:.2f} s of a processor in {took:.2f} s, of which half was its own"
        assert call.result().status == 200
        # As many processes as there are processors against eight times as many: it is the sandboxes that have weight.
        greedy, first = spin(threads, daemon, "greedy", 8 * processors, 40)
        modest, second = spin(threads, daemon, "modest", processors, 40)
        (large, small), took = used_in(10, greedy, modest)
        assert 0.4 < small / (large + small) < 0.6, f"{small:.2f} s against {large:.2f} s in {took:.2f} s"
        busy = answer_times(daemon)
        middle = len(busy) // 2
        assert busy[middle] < 6 * calm[middle], f"the daemon takes {busy[middle]:.3f} s in place of {calm[middle]:.3f} s"
        assert (first.result().status, second.result().status) == (200, 200)
