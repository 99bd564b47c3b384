# SPDX-License-Identifier: Apache-2.0
"""What a sandbox is, seen from the host and from inside."""
import fcntl
import os
import pathlib
import shutil
import stat
import subprocess

import pytest

from conftest import IMAGES, RUNTIMES, processes_by_group
from posture import (
    CLASSES, LIMITS, MOUNTS, NAMESPACES, SHARED_NAMESPACES, STATUS, Sandbox, Task, masked_mounts)

CONFIG = "reclaim: {mode: off}\ndefaults: {timeout: 120s, init_timeout: 120s}\n"

# What a program of C tries is in confinement.py; this is what only this sandbox has: its code, its limits, its network.
PROBE = r"""
import os, socket

def attempt(body):
    try:
        body()
        return "allowed"
    except OSError as error:
        return os.strerror(error.errno)

def write(path):
    return lambda: open(path, "w").close()

def handle(event, context):
    found = {
        "write code": attempt(write("/var/task/x")),
        "write runtime": attempt(write("/var/runtime/x")),
        "write own limits": attempt(write("/run/fn/limits.json")),
        "make a file in run": attempt(write("/run/fn/x")),
        "write the pressure pipe": attempt(lambda: os.close(os.open("/run/fn/pressure", os.O_WRONLY | os.O_NONBLOCK))),
        "connect out": attempt(lambda: socket.create_connection(("192.0.2.1", 80), 1)),
    }
    os.kill(1, 9)  # process 1 has no handler: the kernel ignores what comes from inside
    return {
        "attempts": found,
        "interfaces": [name for _, name in socket.if_nameindex()] if hasattr(socket, "if_nameindex") else [],
        "uid": os.getuid(), "fds": sorted(os.listdir("/proc/self/fd")),
        "processes": [p for p in os.listdir("/proc") if p.isdigit()],
        "tmp": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize,
        "environment": sorted(os.environ),
    }
"""


@pytest.fixture(scope="module")
def probe(daemon):
    daemon.deploy_code("probe", {"app.py": PROBE}, "python", "app.handle", "--tmp", "32MiB", "--timeout", "100s")
    answer = daemon.invoke("probe")
    assert answer.status == 200, answer.body
    return answer.json


def test_nothing_that_leads_out_is_allowed(probe):
    allowed = {what for what, result in probe["attempts"].items() if result == "allowed"}
    assert not allowed


def test_inside_there_is_one_user_one_interface_and_a_sized_tmp(probe):
    assert probe["uid"] == 1000
    assert probe["interfaces"] in (["lo"], [])
    assert probe["tmp"] == 32 << 20
    assert len(probe["processes"]) <= 2, "process 1 and the runtime"


def test_nothing_of_the_daemons_environment_is_inside(probe):
    assert not [name for name in probe["environment"] if name.startswith(("FN_", "EBB_", "SUDO", "SSH"))]


def test_the_runtime_api_is_reachable_from_inside_only(daemon, probe):
    import socket
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 9001), 1)


# From here on: what the host's /proc says of every thread of every sandbox, as gVisor tests its own
# (test/root/sandboxposture_test.go), held against the one posture that posture.py declares.

# A function with threads, a child, a child of that without a parent, and what a program opens besides.
BUSY = """
import mmap, os, socket, subprocess, tempfile, threading
kept = [tempfile.TemporaryFile(), socket.socketpair(), os.pipe(), mmap.mmap(-1, 4096), open(__file__)]
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
subprocess.Popen(["/bin/sh", "-c", "sleep 1000 & sleep 1000"])
def handle(event, context):
    return threading.active_count()
"""


@pytest.fixture(scope="module")
def masked():
    """The functions whose /proc is a masked one."""
    return {"busy-masked"}


@pytest.fixture(scope="module")
def all_sandboxes(daemon, probe, masked):
    """Every sandbox that lives: of each runtime, of both views of /proc, and those that are kept ready."""
    files = {"app.py": BUSY}
    for name, proc in {"busy": "minimal", "busy-masked": "masked"}.items():
        files["function.yaml"] = f"proc: {proc}\n"
        daemon.deploy_code(name, files, "python", "app.handle", "--timeout", "100s")
        assert daemon.invoke(name).json >= 4
    for runtime in ("node", "provided", "command"):
        assert daemon.fn("init", f"own-{runtime}", "--runtime", runtime).returncode == 0
        result = daemon.fn("deploy", f"own-{runtime}", "--timeout", "100s")
        assert result.returncode == 0, result.stderr
        assert daemon.invoke(f"own-{runtime}", {"n": 1}).status == 200
    found = [Sandbox(group, pids) for group, pids in processes_by_group(daemon.group).items()
             if daemon.process.pid not in pids]
    known = {pathlib.Path(s["cgroup"]) for s in daemon.sandboxes()}
    assert known <= {s.group for s in found} and len(found) >= 6
    return found


@pytest.fixture(scope="module")
def daemon_task(daemon):
    return Task(pathlib.Path(f"/proc/{daemon.process.pid}"))


def test_every_thread_has_the_declared_status(all_sandboxes):
    users = set()
    for sandbox in all_sandboxes:
        ids = {(task.status["Uid"], task.status["Gid"]) for task in sandbox.threads}
        assert len(ids) == 1, "one user and one group a sandbox"
        (uid, gid), = ids
        assert len(set(uid.split() + gid.split())) == 1 and int(uid.split()[0]) >= 100000
        users.add(uid)
        for task in sandbox.threads:
            status = task.status
            assert {key: status[key] for key in STATUS} == STATUS, (sandbox, task.path)
    assert len(users) == len(all_sandboxes), "each sandbox has a host user of its own"
    assert max(len(s.threads) for s in all_sandboxes) >= 6, "some have several threads and processes"


def test_every_thread_has_the_declared_limits(all_sandboxes):
    for sandbox in all_sandboxes:
        for task in sandbox.threads:
            for name, most in LIMITS.items():
                soft, hard = task.limits[name][:2]
                assert (soft, hard) == (str(most), str(most)), (sandbox, name)
            assert int(task.read("oom_score_adj")) >= 500


def test_every_thread_is_in_its_sandboxs_group(all_sandboxes):
    for sandbox in all_sandboxes:
        for task in sandbox.threads:
            unified = next(line for line in task.read("cgroup").splitlines() if line.startswith("0::"))
            assert sandbox.group.match(unified.removeprefix("0::").split("/../")[-1].lstrip("/"))


def test_namespaces_are_one_sandboxs_alone(all_sandboxes, daemon_task):
    ours, seen = daemon_task.namespaces, {}
    assert set(ours) == NAMESPACES | SHARED_NAMESPACES, "a kind of namespace that nobody has declared"
    for sandbox in all_sandboxes:
        theirs = {tuple(sorted(task.namespaces.items())) for task in sandbox.threads}
        assert len(theirs) == 1, f"the threads of {sandbox} are in different namespaces"
        for kind, number in theirs.pop():
            if kind in SHARED_NAMESPACES:
                assert number == ours[kind]
                continue
            assert number != ours[kind], f"the {kind} namespace of {sandbox} is the daemon's"
            other = seen.setdefault((kind, number), sandbox)
            assert other is sandbox, f"{sandbox} and {other} share a {kind} namespace"


NS_GET_USERNS = 0xB701  # include/uapi/linux/nsfs.h


def test_no_namespace_but_the_users_belongs_to_the_sandbox(all_sandboxes, daemon_task):
    """So that no capability in its user namespace, should it ever have one, means anything in the others."""
    for sandbox in all_sandboxes:
        for kind in NAMESPACES:
            with open(sandbox.first.path / "ns" / kind) as namespace:
                owner = fcntl.ioctl(namespace, NS_GET_USERNS)
            try:
                assert os.fstat(owner).st_ino == daemon_task.namespaces["user"], (sandbox, kind)
            finally:
                os.close(owner)
        uid = sandbox.first.status["Uid"].split()[0]
        for file in ("uid_map", "gid_map"):
            assert sandbox.first.read(file).split() == ["1000", uid, "1"]


def test_every_descriptor_is_of_a_declared_class(all_sandboxes):
    for sandbox in all_sandboxes:
        own_mounts = {mount[0] for mount in sandbox.first.mounts.values()}
        first = sandbox.first.descriptors
        assert sorted(first) == [0, 1, 2], f"process 1 of {sandbox} has more than it was given"
        assert first[1][0] == first[2][0] and first[1][0].startswith("pipe:[")
        for task in sandbox.threads:
            for number, (target, info) in task.descriptors.items():
                if target.startswith(CLASSES):
                    continue
                # The host's /dev/null is what standard input is; for reading only, and no directory to start from.
                is_input = target == "/dev/null" and int(info["flags"], 8) & os.O_ACCMODE == os.O_RDONLY
                assert is_input or info["mnt_id"] in own_mounts, (sandbox, number, target)


def test_every_process_stands_inside(all_sandboxes):
    for sandbox in all_sandboxes:
        root = os.stat(sandbox.first.path / "root")
        for process in sandbox.processes:
            assert os.readlink(process.path / "cwd").split("/")[1] in ("var", "tmp")
            assert os.path.samestat(os.stat(process.path / "root"), root)
        assert not os.path.samestat(root, os.stat("/"))


def test_the_mounts_are_the_declared_ones(all_sandboxes, masked):
    for sandbox in all_sandboxes:
        is_masked = any(sandbox.group.name.startswith(name) for name in masked)
        mounts = sandbox.first.mounts
        covered = masked_mounts() if is_masked else {}
        assert set(mounts) == set(MOUNTS) | set(covered), sandbox
        for point, expected in MOUNTS.items():
            _, options, propagation, kind, source, _ = mounts[point]
            assert set(options) - {"relatime", "noatime"} == set(expected) - {"relatime"}, (sandbox, point)
            assert propagation == [], f"{point} of {sandbox} hears of the host's mounts"
        options = {option for option in mounts["/proc"][5] if option.startswith(("hidepid", "subset", "gid"))}
        assert options == ({"hidepid=invisible"} if is_masked else {"hidepid=invisible", "subset=pid"})
        for point, cover in covered.items():
            _, options, propagation, kind, source, _ = mounts[point]
            assert {"ro", "nosuid", "noexec"} <= set(options) and propagation == []
            assert kind == ("proc" if cover == "itself" else "tmpfs"), point
            covering = os.stat(f"{sandbox.first.path}/root{point}")
            if cover == "file":
                assert stat.S_ISCHR(covering.st_mode) and covering.st_rdev == os.makedev(1, 3), "the null device"
            elif cover == "directory":
                assert not os.listdir(f"{sandbox.first.path}/root{point}") and "nodev" in options


def test_every_thread_of_a_sandbox_has_the_same_label(all_sandboxes):
    def label(task):
        try:
            return task.read("attr/current")
        except OSError as error:
            return error.errno  # no security module has labels here

    for sandbox in all_sandboxes:
        assert len({label(task) for task in sandbox.threads}) == 1


def test_no_file_of_an_image_carries_privileges_or_is_a_device():
    command = ["find", IMAGES, "(", "-perm", "/6000", "-type", "f", ")", "-o", "-type", "b", "-o", "-type", "c"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b""


# Ignores some signals, two of them such as glibc hides (it starts programs of its own with those ignored), and becomes fnd.
IGNORING = """
import ctypes, os, platform, sys
call = {"x86_64": 13, "aarch64": 134}[platform.machine()]  # rt_sigaction
ignore = (ctypes.c_ulong * 4)(1, 0, 0, 0)  # SIG_IGN
for signal in (1, 10, 13, 32, 33, 40, 64):
    assert ctypes.CDLL(None).syscall(call, signal, ignore, None, 8) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_what_the_daemon_was_started_to_ignore_its_functions_do_not(own_daemon):
    daemon = own_daemon(wrapper=["/usr/bin/python3", "-c", IGNORING]).start()
    code = "def handle(event, context):\n    return {l.split(':')[0]: l.split()[1] for l in open('/proc/self/status') if l.startswith('Sig')}\n"
    daemon.deploy_code("signals", {"app.py": code}, "python", "app.handle")
    for _ in range(2):  # the first start and a later one
        found = daemon.invoke("signals", headers={"X-Fn-Cold": "1"}).json
        ignored = int(found["SigIgn"], 16)
        # Python itself ignores SIGPIPE and SIGXFSZ.
        assert ignored & ~(1 << 12 | 1 << 24) == 0 and int(found["SigBlk"], 16) == 0, found


def test_an_image_that_sends_a_mount_elsewhere_is_refused(own_daemon, tmp_path):
    """As CVE-2021-30465 and its kin: a mount point that is a link."""
    images = tmp_path / "images"
    (images / "python/run").mkdir(parents=True)
    outside = tmp_path / "outside"
    (outside / "fn").mkdir(parents=True)
    (images / "python/var").symlink_to(outside)
    daemon = own_daemon(CONFIG, arguments=("--images", str(images))).start()
    daemon.deploy_code("lost", {"app.py": "def handle(event, context): pass\n"})
    answer = daemon.invoke("lost")
    assert answer.status >= 500
    assert "symbolic links" in daemon.log
    assert sorted(path.name for path in outside.iterdir()) == ["fn"], "something was made behind the link"


def test_a_runtime_asks_for_a_masked_proc_and_a_function_may_ask_for_less(own_daemon, tmp_path):
    runtimes = tmp_path / "runtimes"
    shutil.copytree(RUNTIMES, runtimes)
    with open(runtimes / "python/runtime.yaml", "a") as file:
        file.write("proc: masked\n")
    daemon = own_daemon(CONFIG, arguments=("--runtimes", str(runtimes))).start()
    code = {"app.py": "import os\ndef handle(event, context): return os.path.exists('/proc/meminfo')\n"}
    daemon.deploy_code("large", code)
    assert daemon.invoke("large").json is True
    daemon.deploy_code("large", code | {"function.yaml": "proc: minimal\n"})
    assert daemon.invoke("large").json is False
