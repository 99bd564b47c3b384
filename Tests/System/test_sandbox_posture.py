# SPDX-License-Identifier: Apache-2.0
"""What a sandbox is, seen from the host and from inside."""
import os
import pathlib

import pytest

CONFIG = "reclaim: {mode: off}\ndefaults: {timeout: 120s}\n"

PROBE = r"""
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def attempt(body):
    try:
        result = body()
        return "allowed" if result is None or result >= 0 else os.strerror(ctypes.get_errno())
    except OSError as error:
        return os.strerror(error.errno)

def write(path):
    return lambda: open(path, "w").close()

def option(level, name):
    # By number: EPERM is the answer of the filter, anything else the answer of the kernel.
    kind = socket.SOCK_STREAM if level == 6 else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as opened:
        libc.syscall.argtypes = [ctypes.c_long] * 6
        number = {"x86_64": 54, "aarch64": 208}[os.uname().machine]
        libc.syscall(number, opened.fileno(), level, name, 0, 0)
        libc.syscall.argtypes = None
        return "allowed" if ctypes.get_errno() != 1 else "refused"

def handle(event, context):
    found = {
        "mount": attempt(lambda: libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None)),
        "unshare": attempt(lambda: libc.unshare(0x10000000)),
        "setns": attempt(lambda: libc.setns(0, 0)),
        "ptrace": attempt(lambda: libc.ptrace(0, 0, 0, 0)),
        "chroot": attempt(lambda: os.chroot("/tmp")),
        "alg socket": attempt(lambda: socket.socket(38, socket.SOCK_SEQPACKET)and None),
        "vsock": attempt(lambda: socket.socket(40, socket.SOCK_STREAM) and None),
        "raw socket": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) and None),
        "inet6": attempt(lambda: socket.socket(socket.AF_INET6) and None),
        "write code": attempt(write("/var/task/x")),
        "write runtime": attempt(write("/var/runtime/x")),
        "write root": attempt(write("/x")),
        "write etc": attempt(write("/etc/passwd")),
        "write own limits": attempt(write("/run/fn/limits.json")),
        "make a file in run": attempt(write("/run/fn/x")),
        "write the pressure pipe": attempt(lambda: os.close(os.open("/run/fn/pressure", os.O_WRONLY | os.O_NONBLOCK))),
        "make device": attempt(lambda: os.mknod("/tmp/d", 0o60600, os.makedev(254, 0))),
        "upper layer protocol": option(6, 31),
        "upper layer protocol, high bits set": option(6, 31 | 1 << 32),
        "encapsulation, high bits set": option(17, 100 | 1 << 32),
        "become root": attempt(lambda: os.setuid(0)),
        "read sys": attempt(lambda: os.listdir("/proc/sys") and None),
        "connect out": attempt(lambda: socket.create_connection(("192.0.2.1", 80), 1) and None),
        "bpf": attempt(lambda: libc.syscall(321, 0, 0, 0)),
        "keyctl": attempt(lambda: libc.syscall(250, 0, 0, 0)),
        "io_uring": attempt(lambda: libc.syscall(425, 0, 0)),
        "userfaultfd": attempt(lambda: libc.syscall(323, 0)),
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


@pytest.fixture(scope="module")
def processes(daemon, probe):
    """The sandbox's processes, by their numbers on the host."""
    group = pathlib.Path(daemon.sandbox("probe")["cgroup"])
    return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]


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


def test_every_process_is_without_privileges(processes):
    assert processes
    for pid in processes:
        status = dict(
            line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[capabilities], 16) == 0, (pid, capabilities)
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert int(status["Uid"].split()[0]) >= 100000


def test_every_namespace_is_its_own(processes):
    for pid in processes:
        for kind in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"):
            theirs, ours = os.readlink(f"/proc/{pid}/ns/{kind}"), os.readlink(f"/proc/self/ns/{kind}")
            assert theirs != ours, f"{kind} namespace of {pid} is the host's"


def test_only_three_descriptors_reach_process_1(daemon, processes):
    first = daemon.sandbox("probe")["pid"]
    descriptors = {fd: os.readlink(f"/proc/{first}/fd/{fd}") for fd in os.listdir(f"/proc/{first}/fd")}
    assert sorted(descriptors) == ["0", "1", "2"]
    assert descriptors["0"] == "/dev/null"
    assert descriptors["1"] == descriptors["2"] and descriptors["1"].startswith("pipe:")


def test_its_mounts_are_few_and_none_may_carry_privileges(processes):
    mounts = pathlib.Path(f"/proc/{processes[0]}/mountinfo").read_text().splitlines()
    points = {}
    for line in mounts:
        fields = line.split()
        points[fields[4]] = fields[5].split(",")
    assert set(points) == {"/", "/dev", "/proc", "/tmp", "/var/task", "/var/runtime", "/.init", "/.bridge", "/run/fn"}
    for point, options in points.items():
        assert "nosuid" in options, point
        # /run/fn is written from outside; what it holds belongs to the host's root (see the next test).
        if point not in ("/proc", "/tmp", "/run/fn"):
            assert "ro" in options, point


def test_the_runtime_api_is_reachable_from_inside_only(daemon, probe):
    import socket
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 9001), 1)
