# SPDX-License-Identifier: Apache-2.0
"""What the kernel, the disk and the operator can do to the daemon: refuse what it asks for, stop it, take things away.

Each test ends with the leak checker. docs/faults.md says which fault is tested where.
"""
import concurrent.futures
import contextlib
import errno
import http.client
import json
import os
import pathlib
import random
import resource
import select
import shutil
import signal
import socket
import sys
import threading
import time

import pytest

from conftest import IMAGES, SCALE, wait_until
from leaks import Leaks, nothing_left, settled

CONFIG = "defaults: {timeout: 100s, init_timeout: 40s}\npools: {evict_after: 300ms}\nreclaim: {mode: off}\n"
CODE = """
import os, time
count = 0
def handle(event, context):
    global count
    count += 1
    time.sleep(event.get("sleep", 0))
    return {"count": count, "network": os.readlink("/proc/self/ns/net")}
"""


TOLD = """
import time
def handle(event, context):
    print("RUN", flush=True)
    time.sleep(60)
"""


def nobody(daemon):
    wait_until(lambda: not daemon.sandboxes(), "every sandbox to be gone", 30)


def warmed(daemon, at_once=3):
    """What a daemon has that has run so many sandboxes at once and has none now: a user namespace for each is kept."""
    daemon.deploy_code("work", {"app.py": CODE}, "python", "app.handle", "--memory", "48MiB")
    with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
        calls = [threads.submit(daemon.invoke, "work", {"sleep": 2}) for _ in range(at_once)]
        assert {call.result().status for call in calls} == {200}
    nobody(daemon)
    return Leaks(daemon)


@pytest.fixture(scope="module")
def leaks(daemon):
    return warmed(daemon, 12)


def cold(daemon, event=None):
    return daemon.invoke("work", event or {}, {"X-Fn-Cold": "1"})


def recovers(daemon, leaks):
    answer = cold(daemon)
    assert answer.status == 200, answer.body
    nobody(daemon)
    leaks.check()


def refused(answer, *words):
    assert (answer.status, answer.json["error"]["code"]) == (503, "CannotStart"), answer.body
    for word in words:
        assert word in answer.json["error"]["message"], answer.json


def test_functions_that_die_at_once_leave_nothing_open(daemon):
    """The listener of a sandbox's Runtime API is opened while the sandbox may be ending."""
    daemon.deploy_code("dying", {"bootstrap": "#!/bin/sh\nexit 3\n"}, "provided", "-", "--concurrency", "8")
    daemon.invoke("dying")
    nobody(daemon)
    leaks = Leaks(daemon, at_once=16)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        for answer in threads.map(lambda _: daemon.invoke("dying"), range(300)):
            assert answer.status in (429, 502, 503), answer.body
    daemon.fn("rm", "--yes", "dying")
    nobody(daemon)
    leaks.check()


# What the kernel refuses

def test_without_room_for_a_cgroup_a_start_is_refused_and_what_runs_goes_on(daemon, leaks):
    with concurrent.futures.ThreadPoolExecutor() as threads:
        running = threads.submit(daemon.invoke, "work", {"sleep": 3})
        daemon.sandbox("work", "busy")
        groups = len([p for p in daemon.group.glob("**/") if p.is_dir()]) - 1
        (daemon.group / "cgroup.max.descendants").write_text(str(groups))
        refused(cold(daemon), os.strerror(errno.EAGAIN))
        (daemon.group / "cgroup.max.descendants").write_text("max")
        assert running.result().status == 200
    recovers(daemon, leaks)


def test_without_descriptors_requests_are_refused_and_the_daemon_lives(daemon, leaks):
    """At every number of descriptors between too few for anything and enough, on a connection that is there already."""
    pid, soft = daemon.process.pid, resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    refusals, connection = 0, daemon.connect()
    connection.request("GET", "/readyz")
    connection.getresponse().read()
    try:
        for spare in range(1, 70):
            # As many user namespaces are kept as there were sandboxes at once: those before have to be gone.
            wait_until(lambda: len(list(daemon.group.glob("**/fn.slice/pool/*/"))) <= 2, "earlier ones to be removed", 30)
            # The limit is on the number of a descriptor, and the lowest free one is taken.
            taken = sorted(int(fd) for fd in os.listdir(f"/proc/{pid}/fd"))
            free = [n for n in range(taken[-1] + 90) if n not in set(taken)]
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[spare], soft[1]))
            connection.request("POST", "/invoke/work", b"{}", {"X-Fn-Cold": "1"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status in (200, 502, 503), (spare, answer.status, body)
            refusals += answer.status != 200
            if answer.status == 200 and spare > 50:
                break
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, soft)
        connection.close()
    assert refusals > 3
    recovers(daemon, leaks)


def processor_share(pid, seconds=3):
    """What a process takes of one processor while so much time passes."""
    def used():
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    began, before = time.monotonic(), used()
    time.sleep(seconds)
    return (used() - before) / (time.monotonic() - began)


@contextlib.contextmanager
def no_descriptors(pid):
    """The limit is on the number of a descriptor, and the lowest free one is taken."""
    taken = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (next(n for n in range(len(taken) + 1) if n not in taken), before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("door", ["port", "socket"])
def test_connections_that_there_is_no_descriptor_for_wait_without_taking_the_processor(daemon, leaks, door):
    pid, known = daemon.process.pid, daemon.connect()
    known.request("GET", "/readyz")
    known.getresponse().read()
    nobody(daemon)
    waiting, idle = [], processor_share(pid)
    try:
        with no_descriptors(pid):
            for _ in range(5):
                waiting.append(socket.socket(socket.AF_INET if door == "port" else socket.AF_UNIX))
                waiting[-1].connect(("127.0.0.1", daemon.port) if door == "port" else str(daemon.socket))
                waiting[-1].sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            share = processor_share(pid)
            assert share < idle + 0.25, f"{share:.0%} of a processor, and {idle:.0%} when nobody waits"
            # Who is connected is served, and nobody else was.
            known.request("GET", "/readyz")
            assert known.getresponse().status == 200
            assert select.select(waiting, [], [], 0) == ([], [], [])
        for each in waiting:
            each.settimeout(10 * SCALE)
            assert each.recv(100).startswith(b"HTTP/1.1 200"), "those that waited are served"
    finally:
        for each in [known, *waiting]:
            each.close()
    recovers(daemon, leaks)


def test_without_room_for_a_thread_or_process_requests_are_refused_and_the_daemon_lives(daemon, leaks, limits):
    own = daemon.group / "fn.slice" / "daemon"
    try:
        (own / "pids.max").write_text("1")  # fewer than there are: no more, until there are fewer

        def says_no():
            answer = cold(daemon)  # what is in stock takes no thread, and is used up first
            return None if answer.status == 200 else answer
        refused(wait_until(says_no, "the stock to be used up", 60), os.strerror(errno.EAGAIN))
        assert daemon.request("GET", "/readyz").status == 200
    finally:
        (own / "pids.max").write_text("max")
    recovers(daemon, leaks)


def test_without_network_namespaces_a_start_is_refused_and_never_uses_the_hosts(daemon, leaks, limits):
    most = pathlib.Path("/proc/sys/user/max_net_namespaces")
    before = most.read_text()
    try:
        most.write_text("0")

        def says_no():
            answer = cold(daemon)  # those in stock are used up first
            if answer.status == 200:
                assert answer.json["network"] != os.readlink("/proc/self/ns/net")
                return None
            return answer
        refused(wait_until(says_no, "the stock to be used up", 60), "network, ipc and uts namespaces", os.strerror(errno.ENOSPC))
    finally:
        most.write_text(before)
    recovers(daemon, leaks)


def test_a_group_that_has_lost_a_controller_starts_nothing_without_limits(daemon, leaks, limits):
    pool = daemon.group / "fn.slice" / "pool"
    nobody(daemon)
    (pool / "cgroup.subtree_control").write_text("-memory")
    try:
        refused(cold(daemon), "memory controller", "cgroup.subtree_control")
        assert "work" not in [s["function"] for s in daemon.sandboxes() if s["state"] in ("busy", "idle")]
    finally:
        (pool / "cgroup.subtree_control").write_text("+memory")
    recovers(daemon, leaks)


# Number 435 is clone3 on every architecture. ENOSYS is what a kernel without it says, and glibc's threads do without.
NO_CLONE3 = """
import ctypes, errno, os, struct, sys
code = b"".join(struct.pack("HBBI", *row) for row in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 435), (0x06, 0, 0, 0x00050000 | errno.ENOSYS), (0x06, 0, 0, 0x7fff0000)))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
program = Program(len(code) // 8, code)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_kernel_without_clone3_is_told_and_nothing_is_left(own_daemon):
    daemon = own_daemon(CONFIG, wrapper=[sys.executable, "-c", NO_CLONE3]).start()
    daemon.deploy_code("work", {"app.py": CODE})
    before = settled(daemon)
    refused(cold(daemon), "clone", os.strerror(errno.ENOSYS))
    leaks = Leaks(daemon)
    for _ in range(3):
        refused(cold(daemon), "clone")
    leaks.check()
    assert leaks.before["cgroup"] == before["cgroup"] and leaks.before["process fnd"] == before["process fnd"]


def test_a_group_that_cannot_be_removed_keeps_its_place_is_told_and_goes_when_it_can(daemon, leaks):
    assert daemon.invoke("work").status == 200
    sandbox = daemon.sandbox("work")
    group = pathlib.Path(sandbox["cgroup"])
    (group / "held").mkdir()
    os.kill(sandbox["pid"], signal.SIGKILL)
    wait_until(lambda: f"sandbox {sandbox['id']} cannot be removed" in daemon.log, "the daemon to say so", 30)
    assert [s["state"] for s in daemon.sandboxes() if s["id"] == sandbox["id"]] == ["stopping"]
    assert cold(daemon).status == 200
    (group / "held").rmdir()
    wait_until(lambda: not group.exists(), "it to be removed after all", 30)
    recovers(daemon, leaks)


# Stopping and starting

def test_a_stopped_daemon_lets_requests_finish_and_leaves_nothing(own_daemon):
    daemon = own_daemon(CONFIG).start()
    daemon.deploy_code("work", {"app.py": CODE})
    with concurrent.futures.ThreadPoolExecutor() as threads, socket.create_connection(("127.0.0.1", daemon.port)) as asking:
        call = threads.submit(daemon.invoke, "work", {"sleep": 3})
        daemon.sandbox("work", "busy")
        # Connections on which nothing is asked are closed at once; one that is asking gets its answer.
        asking.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n")
        assert daemon.request("GET", "/readyz").body == b"ready\n"  # the other has been read by then
        daemon.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in daemon.log, "it to stop", 20)
        asking.sendall(b" ")
        answer = b"".join(iter(lambda: asking.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 503 ") and answer.endswith(b"\r\n\r\nstopping\n"), answer
        daemon.stop()
        assert daemon.process.returncode == 0
        assert call.result().status == 200
    nothing_left(daemon)


def test_a_request_that_does_not_finish_ends_with_the_daemons_patience(own_daemon):
    daemon = own_daemon(CONFIG).start()
    daemon.deploy_code("work", {"app.py": CODE})
    with concurrent.futures.ThreadPoolExecutor() as threads:
        call = threads.submit(ends_badly, daemon)
        daemon.sandbox("work", "busy")
        daemon.stop()
        assert daemon.process.returncode == 0
        assert call.result()
    nothing_left(daemon)


def ends_badly(daemon):
    try:
        return daemon.invoke("work", {"sleep": 90}).status != 200
    except (OSError, http.client.HTTPException):
        return True


def test_a_caller_of_a_killed_daemon_sees_it_and_nothing_is_run_again(own_daemon):
    daemon = own_daemon(CONFIG).start()
    daemon.deploy_code("told", {"app.py": TOLD})
    leaks = warmed(daemon)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        call = threads.submit(ends_badly_at, daemon, "told")
        wait_until(lambda: runs(daemon) == 1, "it to run", 30)
        daemon.stop(signal.SIGKILL)
        assert call.result()
    daemon.start()
    assert daemon.invoke("work").json["count"] == 1
    assert runs(daemon) == 1
    nobody(daemon)
    leaks.check()


def ends_badly_at(daemon, name):
    try:
        daemon.invoke(name)
        return False
    except (OSError, http.client.HTTPException):
        return True


def runs(daemon):
    return daemon.request("GET", "/v1/functions/told/logs").body.count(b'"RUN"')


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_events_under_way_are_run_by_the_next_daemon(own_daemon, how):
    daemon = own_daemon(CONFIG).start()
    daemon.deploy_code("work", {"app.py": CODE}, "python", "app.handle", "--concurrency", "2")
    ids = []
    for n in range(12):
        answer = daemon.invoke("work", {"sleep": 0.5}, {"X-Amz-Invocation-Type": "Event"})
        assert answer.status == 202
        ids.append(answer.json["requestId"])
    wait_until(lambda: any(event(daemon, id)["state"] == "running" for id in ids), "one to run", 30)
    daemon.stop(how)
    daemon.start()
    for id in ids:
        found = wait_until(lambda: (e := event(daemon, id))["state"] == "succeeded" and e, f"{id} to succeed", 60)
        assert found["attempts"] <= 2, found
    daemon.stop()
    nothing_left(daemon)


def event(daemon, id):
    return daemon.request("GET", f"/v1/queue/{id}").json


def test_a_daemon_that_was_suspended_keeps_its_deadlines_and_ends_nobody_twice(daemon, leaks):
    with concurrent.futures.ThreadPoolExecutor() as threads:
        late = threads.submit(daemon.invoke, "work", {"sleep": 60}, {"X-Fn-Timeout-Ms": "3000"})
        wait_until(lambda: [s for s in daemon.sandboxes() if s["state"] == "busy"], "it to run", 30)
        os.kill(daemon.process.pid, signal.SIGSTOP)
        time.sleep(5 if SCALE == 1 else 10)
        os.kill(daemon.process.pid, signal.SIGCONT)
        began = time.monotonic()
        answer = late.result()
        assert (answer.status, answer.json["errorType"]) == (504, "Sandbox.Timedout"), answer.body
        assert time.monotonic() - began < 10 * SCALE
    recovers(daemon, leaks)


# Many at once

def test_a_burst_is_answered_or_told_to_come_back_and_nobody_shares_a_network(own_daemon):
    daemon = own_daemon(CONFIG.replace("300ms}", "300ms, queue_timeout: 2s, ready_namespaces: 2}")).start()
    daemon.deploy_code("work", {"app.py": CODE}, "python", "app.handle", "--concurrency", "10", "--memory", "48MiB")
    with concurrent.futures.ThreadPoolExecutor(100) as threads:
        answers = list(threads.map(lambda _: daemon.invoke("work", {"sleep": 1}), range(100)))
    statuses = {answer.status for answer in answers}
    assert 200 in statuses and statuses <= {200, 429, 503}, statuses
    networks = {}
    for answer in answers:
        if answer.status == 200 and answer.json["count"] == 1:
            networks[answer.json["network"]] = networks.get(answer.json["network"], 0) + 1
    assert len(networks) > 2 and set(networks.values()) == {1}, "each sandbox has a network of its own"
    assert os.readlink("/proc/self/ns/net") not in networks
    assert daemon.invoke("work").status == 200
    nobody(daemon)
    daemon.stop()
    nothing_left(daemon)


def test_edits_race_with_ends_and_break_nothing(daemon, leaks):
    stop, bad = threading.Event(), []

    def edit():
        chance = random.Random(1)
        while not stop.is_set():
            body = json.dumps({"memory": chance.choice([96, 128, 160]) << 20}).encode()
            answer = daemon.request("PATCH", "/v1/functions/work", body)
            if answer.status != 200:
                bad.append((answer.status, answer.body))

    editors = [threading.Thread(target=edit) for _ in range(2)]
    for editor in editors:
        editor.start()
    try:
        for _ in range(20):
            assert cold(daemon).status == 200
            for sandbox in daemon.sandboxes("work"):
                with contextlib.suppress(ProcessLookupError, KeyError):
                    os.kill(sandbox["pid"], signal.SIGKILL)
    finally:
        stop.set()
        for editor in editors:
            editor.join()
    assert not bad
    recovers(daemon, leaks)


def test_a_caller_that_goes_away_leaves_the_sandbox_fit_for_the_next(daemon, leaks):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", daemon.port)) as one:
            body = b'{"sleep": 0.3}'
            one.sendall(b"POST /invoke/work HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            wait_until(lambda: [s for s in daemon.sandboxes("work") if s["state"] in ("busy", "starting")], "it to run", 20)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an orderly end
        assert daemon.invoke("work").status == 200
    recovers(daemon, leaks)


# What is taken away

def test_code_that_is_removed_from_the_disk_stays_with_who_runs_and_is_missed_by_the_next(daemon, leaks):
    with concurrent.futures.ThreadPoolExecutor() as threads:
        running = threads.submit(daemon.invoke, "work", {"sleep": 2})
        daemon.sandbox("work", "busy")
        code = daemon.directory / "state" / "code"
        kept = daemon.directory / "kept"
        shutil.move(code, kept)
        refused(cold(daemon), "No such file or directory")
        assert running.result().status == 200
        shutil.move(kept, code)
    recovers(daemon, leaks)


def test_an_image_that_is_removed_is_missed_by_its_name(own_daemon):
    daemon = own_daemon(CONFIG)
    daemon.images = daemon.directory / "images"
    daemon.images.mkdir()
    for image in pathlib.Path(IMAGES).iterdir():
        (daemon.images / image.name).symlink_to(image)
    daemon.arguments = ["--images", str(daemon.images)]
    daemon.start()
    daemon.deploy_code("work", {"app.py": CODE})
    with concurrent.futures.ThreadPoolExecutor() as threads:
        running = threads.submit(daemon.invoke, "work", {"sleep": 2})
        daemon.sandbox("work", "busy")
        for image in daemon.images.iterdir():
            image.unlink()
        refused(cold(daemon), "root image", "build-image")
        assert running.result().status == 200
    daemon.stop()
    nothing_left(daemon)


@pytest.mark.parametrize("point", ["dev", "proc", "tmp", "var", "run"])
def test_an_image_whose_mount_points_lead_out_of_it_is_refused(own_daemon, point):
    daemon = own_daemon(CONFIG)
    images, outside = daemon.directory / "images", daemon.directory / "outside"
    outside.mkdir()
    for image in pathlib.Path(IMAGES).iterdir():
        hostile = images / image.name
        hostile.mkdir(parents=True)
        (hostile / point).symlink_to(outside)
    daemon.arguments = ["--images", str(images)]
    daemon.start()
    daemon.deploy_code("work", {"app.py": CODE})
    before = Leaks(daemon)
    refused(cold(daemon), "root image of runtime", f"/{point}")
    before.check()
    assert not list(outside.iterdir())
    shutil.rmtree(images)


def test_on_a_full_disk_a_deployment_is_refused_and_leaves_nothing(own_daemon):
    daemon = own_daemon(CONFIG)
    inside = daemon.start_on_a_disk("24m")
    daemon.deploy_code("work", {"app.py": CODE})
    before = sorted(str(path) for path in (inside / "code").glob("**/*"))
    large = daemon.directory / "large"
    large.mkdir()
    (large / "app.py").write_text(CODE)
    (large / "noise").write_bytes(random.Random(1).randbytes(20 << 20))
    result = daemon.fn("deploy", large, "--name", "large", "--runtime", "python", "--handler", "app.handle")
    assert result.returncode == 1 and b"is full" in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert daemon.request("GET", "/v1/functions/large").status == 404
    assert sorted(str(path) for path in (inside / "code").glob("**/*")) == before
    assert daemon.invoke("work").status == 200
    (large / "noise").write_bytes(b"small")
    assert daemon.fn("deploy", large, "--name", "large", "--runtime", "python", "--handler", "app.handle").returncode == 0
    assert daemon.invoke("large").status == 200
    daemon.stop()
    nothing_left(daemon)


def test_a_log_of_the_database_that_ends_anywhere_is_opened_or_refused(own_daemon):
    """SQLite takes what is whole of its log: the events up to there, in order, and no others."""
    daemon = own_daemon(CONFIG).start()
    daemon.deploy_code("work", {"app.py": CODE})
    ids = []
    for n in range(8):
        ids.append(daemon.invoke("work", {"n": n}, {"X-Amz-Invocation-Type": "Event"}).json["requestId"])
    daemon.stop(signal.SIGKILL)
    state = daemon.directory / "state"
    kept = daemon.directory / "kept"
    shutil.copytree(state, kept, symlinks=True)
    size = (kept / "events.sqlite-wal").stat().st_size
    assert size > 20_000
    chance = random.Random(1)
    for cut in sorted(chance.sample(range(0, size // 512), 3)):
        shutil.rmtree(state)
        shutil.copytree(kept, state, symlinks=True)
        os.truncate(state / "events.sqlite-wal", cut * 512)
        daemon.start()
        there = {e["id"] for e in daemon.request("GET", "/v1/queue").json["events"]}
        known = [id in there for id in ids]
        assert known == sorted(known, reverse=True), (cut, known)
        for id in there:
            wait_until(lambda: event(daemon, id)["state"] == "succeeded", "what is there to run", 60)
        daemon.stop(signal.SIGKILL)
    daemon.start()
    daemon.stop()
    nothing_left(daemon)
