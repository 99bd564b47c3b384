# SPDX-License-Identifier: Apache-2.0
"""What programs, kernels and people do to the reclaimer. None of it stops it, and none of it loses a request."""
import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import cgroup_file, wait_until
from leaks import nothing_left

CONFIG = "reclaim: {idle_after: 500ms, hint_timeout: 5s}\ndefaults: {timeout: 120s, init_timeout: 120s}\n"
MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("limits")

# Speaks the runtime API and says that it knows hints. What it does with one is the test's matter.
RUNTIME = """#!/usr/bin/python3 -ISu
import http.client, os, time
api = os.environ["AWS_LAMBDA_RUNTIME_API"]
kept = bytearray(30 << 20)
kept[::4096] = b"x" * len(kept[::4096])
connection = http.client.HTTPConnection(api)
headers = {"Fn-Hints": "1"}
while True:
    connection.request("GET", "/2018-06-01/runtime/invocation/next", headers=headers)
    event = connection.getresponse()
    body = event.read()
    if event.headers.get("Fn-Event") == "idle":
        ON_HINT
        continue
    path = "/2018-06-01/runtime/invocation/" + event.headers["Lambda-Runtime-Aws-Request-Id"] + "/response"
    connection.request("POST", path, body=body)
    connection.getresponse().read()
"""

HOLDER = """
import os, threading
kept = bytearray(40 << 20)
kept[::4096] = b"x" * len(kept[::4096])
noise = os.urandom(16 << 20)
def multiply():
    while True:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
started = []
def handle(event, context):
    if event.get("fork") and not started:
        started.extend(threading.Thread(target=multiply, daemon=True) for _ in range(4))
        for thread in started: thread.start()
    return {"sum": kept[0] + kept[-4096], "noise": len(noise)}
"""


def deploy_holder(daemon, name):
    daemon.deploy_code(name, {"app.py": HOLDER}, "python", "app.handle", "--memory", "192MiB", "--timeout", "100s")


def reasons(daemon, subject):
    return [d["reason"] for d in daemon.request("GET", f"/v1/decisions?subject={subject}").json["decisions"]]


def answers(daemon, name, event=None):
    answer = daemon.invoke(name, event)
    assert answer.status == 200, answer.body
    return answer


@contextlib.contextmanager
def swap_of(size):
    """The machine's compressed swap, made anew at this size; none at all for `None`."""
    device = "/dev/zram0"

    def make(bytes_wanted):
        if device in pathlib.Path("/proc/swaps").read_text():
            subprocess.run(["swapoff", device], check=True)
        pathlib.Path("/sys/block/zram0/reset").write_text("1")
        if bytes_wanted is not None:
            with contextlib.suppress(OSError):
                pathlib.Path("/sys/block/zram0/comp_algorithm").write_text("zstd")
            pathlib.Path("/sys/block/zram0/disksize").write_text(str(bytes_wanted))
            subprocess.run(["mkswap", device], check=True, capture_output=True)
            subprocess.run(["swapon", device], check=True)

    # No daemon may have anything in it: see the test of `swapoff` below. Hence these tests come first in this file.
    assert device in pathlib.Path("/proc/swaps").read_text(), "this test needs the machine's zram"
    make(size)
    try:
        yield
    finally:
        make(1 << 30)


def test_with_swap_nearly_full_the_next_sandbox_keeps_its_pages_and_answers(own_daemon):
    with swap_of(24 * MIB):
        daemon = own_daemon(CONFIG).start()
        for name in ("first", "second", "third"):
            deploy_holder(daemon, name)
            answers(daemon, name)
            daemon.sandbox(name, "shrunk")
        free = {line.split()[0]: int(line.split()[1]) for line in open("/proc/meminfo")}
        assert free["SwapFree:"] < free["SwapTotal:"] * 0.5
        for name in ("first", "second", "third"):
            assert answers(daemon, name).json == {"sum": 240, "noise": 16 * MIB}


def test_without_swap_idle_sandboxes_give_what_they_can_and_doctor_says_what_is_missing(own_daemon):
    with swap_of(None):
        daemon = own_daemon(CONFIG).start()
        result = daemon.fn("doctor")
        assert b"idle sandboxes cannot leave" in result.stdout and b"zramctl" in result.stdout, result.stdout
        deploy_holder(daemon, "dry")
        answers(daemon, "dry")
        shrunk = daemon.sandbox("dry", "shrunk")
        # Nothing to put its pages into: it keeps them, but not the rest of its contract.
        assert 56 * MIB < shrunk["held"] < 128 * MIB
        assert answers(daemon, "dry").headers["x-fn-start"] == "thawed"


def test_swap_that_is_taken_away_under_shrunk_sandboxes_costs_cold_starts_and_no_request(own_daemon):
    daemon = own_daemon(CONFIG).start()
    deploy_holder(daemon, "swapped")
    answers(daemon, "swapped")
    daemon.sandbox("swapped", "shrunk")
    # What was taken does not fit into the limit that is left. The kernel ends the sandbox for that, or refuses.
    if subprocess.run(["swapoff", "/dev/zram0"], capture_output=True).returncode == 0:
        subprocess.run(["swapon", "/dev/zram0"], check=True)
    for _ in range(2):
        assert answers(daemon, "swapped").json["sum"] == 240
    assert daemon.sandbox("swapped", "shrunk")["held"] < 100 * MIB


@pytest.mark.parametrize("name, on_hint", [
    ("liar", "headers['Fn-Released'] = str(1 << 40)  # the kernel's number decides"),
    ("deaf", "time.sleep(3600)"),
])
def test_a_runtime_that_lies_about_a_hint_or_never_answers_it_is_shrunk_all_the_same(daemon, name, on_hint):
    daemon.deploy_code(name, {"bootstrap": RUNTIME.replace("ON_HINT", on_hint)}, "provided", "bootstrap",
                       "--memory", "128MiB", "--timeout", "100s")
    assert answers(daemon, name, {"n": 1}).json == {"n": 1}
    shrunk = daemon.sandbox(name, "shrunk")
    assert 0 < shrunk["held"] < 64 * MIB
    if name == "liar":
        assert answers(daemon, name, {"n": 2}).json == {"n": 2}
        assert daemon.sandbox(name)["id"] == shrunk["id"]
    else:
        # It will not ask for work again: the request meets its deadline, and the next one a sandbox of its own.
        result = daemon.fn("invoke", name, "-d", "{}", "--timeout", "2s")
        assert result.returncode != 0 and b"timed out" in (result.stderr + result.stdout).lower(), result
        assert answers(daemon, name, {"n": 3}).json == {"n": 3}


def test_a_function_that_forks_without_end_is_frozen_whole_and_goes_on_after_it(daemon):
    deploy_holder(daemon, "forks")
    answers(daemon, "forks", {"fork": True})
    shrunk = daemon.sandbox("forks", "shrunk")
    assert "frozen 1" in cgroup_file(shrunk, "cgroup.events")
    assert answers(daemon, "forks").json["sum"] == 240
    assert daemon.sandbox("forks")["id"] == shrunk["id"]
    assert int(dict(line.split() for line in cgroup_file(shrunk, "memory.events").splitlines())["oom_kill"]) == 0


@contextlib.contextmanager
def uninterruptible_process(directory):
    """A process that waits for a file system which never answers: no signal but SIGKILL reaches it, nor a freeze."""
    libc = ctypes.CDLL(None, use_errno=True)
    mounted = directory / "silent"
    mounted.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    assert libc.mount(b"silent", str(mounted).encode(), b"fuse", 0, options) == 0, os.strerror(ctypes.get_errno())
    process = subprocess.Popen(["cat", mounted / "file"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        state = pathlib.Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: state.read_text().rsplit(")")[1].split()[0] == "D", "it to wait in the kernel", 20)
        yield process
    finally:
        process.kill()
        process.wait()
        os.close(device)
        libc.umount2(str(mounted).encode(), 2)


def test_a_sandbox_that_never_freezes_is_left_as_it_was_and_tried_again(daemon):
    deploy_holder(daemon, "stuck")
    answers(daemon, "stuck")
    with uninterruptible_process(daemon.directory) as process:
        sandbox = daemon.sandbox("stuck")
        (pathlib.Path(sandbox["cgroup"]) / "cgroup.procs").write_text(str(process.pid))
        answers(daemon, "stuck")
        wait_until(lambda: any("would not freeze" in r for r in reasons(daemon, sandbox["id"])), "the shrink to stop", 60)
        assert cgroup_file(sandbox, "cgroup.freeze") == "0"
        assert cgroup_file(sandbox, "memory.max") == str(192 * MIB)
        assert answers(daemon, "stuck").json["sum"] == 240
    assert daemon.sandbox("stuck", "shrunk")["id"] == sandbox["id"]
    answers(daemon, "stuck")


def test_a_group_that_vanishes_under_the_reclaimer_costs_nobody_else_anything(daemon):
    for name in ("vanishes", "stays"):
        deploy_holder(daemon, name)
        answers(daemon, name)
    for moment in ("idle", "shrunk", "shrinking"):
        answers(daemon, "vanishes")
        group = pathlib.Path(daemon.sandbox("vanishes", moment, "shrunk")["cgroup"])
        with contextlib.suppress(FileNotFoundError):
            (group / "cgroup.kill").write_text("1")
            while True:  # before the daemon does
                with contextlib.suppress(OSError):
                    group.rmdir()
                if not group.exists():
                    break
        wait_until(lambda: not any(s["cgroup"] == str(group) for s in daemon.sandboxes()), "it to be forgotten", 30)
        assert answers(daemon, "vanishes").json["sum"] == 240
    assert answers(daemon, "stays").json["sum"] == 240
    daemon.sandbox("stays", "shrunk")


def test_a_wall_clock_that_jumps_neither_ages_nor_revives_anybody(daemon):
    deploy_holder(daemon, "clock")
    answers(daemon, "clock")
    sandbox = daemon.sandbox("clock", "shrunk")
    now, began = time.clock_gettime(time.CLOCK_REALTIME), time.monotonic()
    try:
        for jump in (365 * 86400, -300 * 86400):
            time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) + jump)
            assert daemon.sandbox("clock")["id"] == sandbox["id"]
            assert answers(daemon, "clock").headers["x-fn-start"] == "thawed"
            assert daemon.sandbox("clock", "shrunk")["id"] == sandbox["id"]
    finally:
        time.clock_settime(time.CLOCK_REALTIME, now + time.monotonic() - began)


def test_a_reclaimer_that_is_killed_leaves_nothing_frozen(own_daemon):
    daemon = own_daemon(CONFIG).start()
    deploy_holder(daemon, "orphan")
    answers(daemon, "orphan")
    daemon.sandbox("orphan", "shrunk")
    daemon.stop(signal.SIGKILL)
    daemon.start()
    assert answers(daemon, "orphan").headers["x-fn-start"] == "cold"
    daemon.stop()
    nothing_left(daemon)
