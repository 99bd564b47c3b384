# SPDX-License-Identifier: Apache-2.0
import concurrent.futures
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

from conftest import BIN, wait_until
from leaks import Leaks, nobody_left, nothing_left

CONFIG = "defaults: {timeout: 120s}\n"


def test_out_of_memory_says_limit_and_peak_and_the_next_request_works(daemon, limits):
    daemon.deploy("memory-hog", "--memory", "64MiB", "--timeout", "100s", "--env", "X=1")
    daemon.config.write_text(CONFIG)
    answer = daemon.invoke("memory-hog", {"mb": 400})
    assert answer.status == 507, answer.body
    assert answer.json["errorType"] == "Runtime.OutOfMemory"
    assert answer.json["limitMB"] == 64
    assert 60 <= answer.json["peakMB"] <= 64
    assert daemon.fn("invoke", "memory-hog", "-d", '{"mb": 400}').returncode == 137
    assert daemon.invoke("memory-hog", {"mb": 8}).json["took_mb"] == 8


def test_a_sandbox_killed_from_outside_is_replaced(daemon):
    daemon.deploy("hello-python", "--timeout", "100s")
    daemon.invoke("hello-python")
    first = daemon.sandbox("hello-python")
    os.kill(first["pid"], signal.SIGKILL)
    wait_until(lambda: not [s for s in daemon.sandboxes("hello-python") if s["pid"] == first["pid"]], "it to be gone")
    answer = daemon.invoke("hello-python")
    assert (answer.status, answer.headers["x-fn-start"]) == (200, "cold")


def test_after_kill_9_the_sandboxes_die_and_the_next_start_leaves_nothing_of_them(own_daemon):
    daemon = own_daemon(CONFIG).start()
    daemon.deploy("counter", "--timeout", "100s")
    daemon.deploy("hello-python", "--timeout", "100s")
    daemon.invoke("hello-python")
    caller = threading.Thread(target=lambda: _ignore(lambda: daemon.invoke("counter", {"hold_ms": 60000})))
    caller.start()
    daemon.sandbox("counter", "busy")
    pids = [s["pid"] for s in daemon.sandboxes()]
    groups = [s["cgroup"] for s in daemon.sandboxes()]
    daemon.stop(signal.SIGKILL)
    wait_until(lambda: not any(_is_alive(pid) for pid in pids), "every sandbox to die with the daemon")
    caller.join()
    daemon.start()
    assert not [group for group in groups if os.path.exists(group)]
    assert daemon.sandboxes() == []
    answer = daemon.invoke("counter")
    assert answer.json["count"] == 1, "what is deployed is still there, what ran is not"


def test_many_requests_at_once_each_get_a_sandbox_and_nothing_of_their_starts_stays(own_daemon):
    daemon = own_daemon("defaults: {init_timeout: 120s, concurrency: 24}\n").start()
    daemon.deploy("counter", "--memory", "48MiB", "--timeout", "100s")
    for _ in range(3):
        daemon.deploy("counter", "--memory", "48MiB", "--timeout", "100s")
        with concurrent.futures.ThreadPoolExecutor(24) as threads:
            calls = [threads.submit(daemon.invoke, "counter", {"hold_ms": 500}) for _ in range(24)]
            assert [call.result().status for call in calls] == [200] * 24
    daemon.stop()
    nothing_left(daemon)


def test_a_stopped_daemon_leaves_nothing(own_daemon):
    daemon = own_daemon(CONFIG).start()
    daemon.deploy("hello-python", "--timeout", "100s")
    daemon.invoke("hello-python")
    daemon.stop()
    assert daemon.process.returncode == 0
    nothing_left(daemon)


def test_a_second_daemon_on_the_same_state_is_refused(daemon):
    result = subprocess.run(daemon_command(daemon), capture_output=True, timeout=120)
    assert result.returncode == 1
    assert b"is in use by another fnd" in result.stderr


HOLDER = """
import fcntl, socket, sys, time
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
local, port = socket.socket(socket.AF_UNIX), socket.socket()
local.bind(sys.argv[2])
port.bind(("127.0.0.1", 0))
for each in local, port:
    each.listen()
print(port.getsockname()[1], flush=True)
time.sleep(0.3)
file.close()
time.sleep(0.3)
port.close()
time.sleep(0.3)
"""


def test_a_daemon_waits_for_one_that_is_just_ending(own_daemon):
    daemon = own_daemon(CONFIG)
    daemon.state.mkdir()
    # Holds all that a daemon does, and ends a moment later.
    holder = subprocess.Popen(["/usr/bin/python3", "-c", HOLDER, str(daemon.state / "lock"), str(daemon.socket)], stdout=subprocess.PIPE)
    daemon.wanted_port = int(holder.stdout.readline())
    daemon.spawn()
    assert holder.wait(60) == 0
    wait_until(daemon.is_ready, "the daemon to serve", 20)


HEIR = """
import os, socket, sys
local, port = socket.socket(socket.AF_UNIX), socket.socket()
local.bind(sys.argv[1])
port.bind(("127.0.0.1", 0))
for each in local, port:
    each.listen(1)
print(port.getsockname()[1], flush=True)
if os.fork():
    os.kill(os.getpid(), 9)
sys.stdin.read()
"""


def test_a_dead_daemons_sockets_are_waited_for_as_long_as_somebody_has_them(own_daemon):
    daemon = own_daemon(CONFIG)
    heir = subprocess.Popen(["/usr/bin/python3", "-c", HEIR, str(daemon.socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    daemon.wanted_port = int(heir.stdout.readline())
    assert heir.wait() == -9
    daemon.spawn()
    wait_until(lambda: f"waiting for PID {heir.pid}, which was killed" in daemon.log, "it to say that it waits", 20)
    time.sleep(3)  # longer than one is waited for that lives
    heir.stdin.close()
    wait_until(daemon.is_ready, "the daemon to serve", 20)
    assert daemon.fn("ls").returncode == 0


def test_a_daemon_that_waits_for_a_dead_one_can_be_stopped(own_daemon):
    daemon = own_daemon(CONFIG)
    heir = subprocess.Popen(["/usr/bin/python3", "-c", HEIR, str(daemon.socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    heir.stdout.readline()
    daemon.spawn()
    wait_until(lambda: "which was killed" in daemon.log, "it to say that it waits", 20)
    daemon.process.terminate()
    assert daemon.process.wait(20) == 0
    heir.stdin.close()
    daemon.socket.unlink()  # the dead one's


READS = """
import os, subprocess, sys
reader = subprocess.Popen([sys.argv[1], "preload-images", str(os.getpid())] + sys.argv[2:])
print(reader.pid, flush=True)
reader.wait()
"""


def test_the_reader_of_images_ends_with_the_daemon_that_started_it(own_daemon, tmp_path):
    daemon = own_daemon(CONFIG)
    group, slow = daemon.group / "cgroup.procs", tmp_path / "slow"
    os.mkfifo(slow)  # nobody writes to it: reading takes for ever
    parent = subprocess.Popen(["/usr/bin/python3", "-c", READS, str(BIN / "fnd"), str(group), str(slow)], stdout=subprocess.PIPE)
    reader = parent.stdout.readline().decode().strip()
    wait_until(lambda: reader in group.read_text().split(), "it to be in its group", 20)
    parent.kill()
    parent.wait()
    nobody_left(daemon)


def test_a_daemon_whose_port_is_taken_says_so_and_leaves_nothing(daemon, own_daemon):
    other = own_daemon(CONFIG)
    other.wanted_port = daemon.port
    result = subprocess.run(other.command(), capture_output=True, timeout=120)
    assert result.returncode == 1 and b"cannot listen on" in result.stderr, result.stderr
    nothing_left(other)


def test_a_daemon_that_cannot_open_every_door_never_says_that_it_is_ready(own_daemon):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = own_daemon(f"metrics: {{listen: '127.0.0.1:{taken.getsockname()[1]}'}}\n")
        other.spawn()
        answers = set()
        while other.process.poll() is None:
            with contextlib.suppress(OSError):
                answer = other.request("GET", "/readyz")
                answers.add((answer.status, answer.body))
    assert other.process.returncode == 1 and "metrics.listen" in other.log
    assert answers == {(503, b"starting\n")}
    nothing_left(other)


def test_many_starts_leak_nothing(daemon):
    daemon.deploy("sum-command", "--timeout", "100s")
    for _ in range(2):
        daemon.invoke("sum-command", raw=b"1", headers={"X-Fn-Cold": "1"})
    daemon.fn("rm", "--yes", "sum-command")
    wait_until(lambda: not daemon.sandboxes("sum-command"), "its sandboxes to end", 30)
    leaks = Leaks(daemon, at_once=8)
    for _ in range(3):
        daemon.deploy("sum-command", "--timeout", "100s")
        for _ in range(3):
            assert daemon.invoke("sum-command", raw=b"1 2", headers={"X-Fn-Cold": "1"}).body == b"3\n"
        daemon.fn("rm", "--yes", "sum-command")
        wait_until(lambda: not daemon.sandboxes("sum-command"), "its sandboxes to end", 30)
    leaks.check()


def daemon_command(daemon):
    port = daemon.port
    command = daemon.command()
    daemon.port = port
    return command


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _ignore(body):
    try:
        body()
    except OSError:
        pass
