# SPDX-License-Identifier: Apache-2.0
"""The unit that is installed, run by a real systemd: process 1 of namespaces of its own, below a cgroup of its own.

It finds the machine's files, with layers over what is written, and only the units that are laid out here: the one that
is installed as it is, and the few targets that every service knows.
"""
import errno
import os
import pathlib
import pty
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import pytest

from conftest import (
    BIN, EXAMPLES, HAS_LIMITS, IMAGES, ROOT, RUNTIMES, SCALE, cgroup_file, make_group, processes_by_group, wait_until,
)

pytestmark = pytest.mark.usefixtures("limits")
MIB = 1 << 20
TARGETS = ["sysinit", "basic", "shutdown", "network", "multi-user"]
# Whoever waits for process 1 stays outside: systemd could not move it, and the group would hand no controllers down.
ENTER = 'echo 0 >"$0/cgroup.procs" && exec unshare --cgroup sh -c "$@"'
# The state is on the disk that the images are on; all else that is written is in memory.
LAYOUT = """
set -e
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/etc /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work overlay /etc
mount --bind "$1/lib" /var/lib
mount --bind "$2" /dev/console
mkdir /etc/fn
cp "$1/fn.yaml" /etc/fn/fn.yaml
exec /lib/systemd/systemd --system --unit=basic.target --log-level=info --show-status=no
"""


class Systemd:
    """A manager with fnd.service, not started."""

    def __init__(self):
        self.group = make_group()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ebb-systemd-"))
        self.units = self.directory / "units"
        self.units.mkdir()
        (self.directory / "lib").mkdir()
        for target in TARGETS:
            (self.units / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        unit = (ROOT / "packaging" / "fnd.service").read_text()
        (self.units / "fnd.service").write_text(unit.replace("@PREFIX@/bin", str(BIN)))
        # There is no journal here.
        (self.units / "fnd.service.d").mkdir()
        (self.units / "fnd.service.d" / "log.conf").write_text(
            f"[Service]\nStandardOutput=append:{self.directory}/fnd.log\nStandardError=inherit\n")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (self.directory / "fn.yaml").write_text(self.settings())
        self.console, terminal = pty.openpty()
        self.said = bytearray()
        threading.Thread(target=self.listen, daemon=True).start()
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", ENTER,
             str(self.group), LAYOUT, "sh", str(self.directory), os.ttyname(terminal)],
            stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
            env={"PATH": os.environ["PATH"], "container": "ebb-tests", "SYSTEMD_UNIT_PATH": str(self.units),
                 "SYSTEMD_GENERATOR_PATH": str(self.directory)})
        os.close(terminal)
        wait_until(self.is_running, lambda: f"systemd to run: {self.log}", 20)

    def is_running(self):
        assert self.process.poll() is None, self.log
        return self.pid and self.systemctl("is-system-running").stdout == b"running\n"

    def settings(self, more=""):
        return (f"http: {{listen: '127.0.0.1:{self.port}'}}\nstorage: {{images: {IMAGES}, runtimes: {RUNTIMES}}}\n"
                "log: {format: pretty}\ndefaults: {timeout: 100s, init_timeout: 100s}\nreclaim: {mode: off}\n"
                "pools: {prewarm: 0}\n" + more)

    def listen(self):
        while True:
            try:
                self.said += os.read(self.console, 4096)
            except OSError as error:
                assert error.errno in (errno.EIO, errno.EBADF)
                return

    @property
    def log(self):
        log = self.directory / "fnd.log"
        return self.said.decode(errors="replace") + (log.read_text() if log.exists() else "")

    @property
    def pid(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return children[0] if children else None

    def run(self, *command):
        """Runs a program inside, as root there."""
        return subprocess.run(["nsenter", "--target", self.pid, "--mount", "--uts", "--ipc", "--pid", "--cgroup",
                               *map(str, command)], capture_output=True, timeout=120 * SCALE)

    def systemctl(self, *arguments):
        return self.run("systemctl", "--no-pager", *arguments)

    def do(self, verb):
        result = self.systemctl(verb, "fnd")
        if result.returncode != 0:
            pytest.fail(f"{result.stderr.decode()}\n{self.log}")

    def show(self, *properties):
        text = self.systemctl("show", "fnd", "-p", ",".join(properties)).stdout.decode()
        return dict(line.split("=", 1) for line in text.splitlines())

    def fn(self, *arguments):
        result = self.run(BIN / "fn", *arguments)
        assert result.returncode == 0, (result.stderr.decode(), self.log)
        return result.stdout

    def configure(self, text):
        # Through process 1: its /etc is not ours.
        pathlib.Path(f"/proc/{self.pid}/root/etc/fn/fn.yaml").write_text(text)

    @property
    def service(self):
        return self.group / "system.slice" / "fnd.service"

    def processes(self):
        """Of the service and its sandboxes."""
        return [pid for pids in processes_by_group(self.service).values() for pid in pids]

    def sandbox_file(self, name):
        (directory,) = self.service.glob("fn.slice/pool/*/")
        return (directory / name).read_text().strip()

    def end(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.console)
        groups = sorted((p for p in self.group.glob("**/") if p.is_dir()), reverse=True)
        wait_until(lambda: "populated 0" in (self.group / "cgroup.events").read_text(), "its processes to end")
        for group in groups:
            group.rmdir()
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def manager():
    if not HAS_LIMITS:
        pytest.skip("this host cannot enforce limits")
    systemd = Systemd()
    yield systemd
    systemd.end()


@pytest.fixture
def systemd(manager):
    """With the service stopped, the settings as they were, and nothing of an earlier failure."""
    manager.systemctl("stop", "fnd")
    manager.systemctl("reset-failed", "fnd")
    manager.configure(manager.settings())
    return manager


def test_it_is_active_once_it_serves_from_a_delegated_group(systemd):
    systemd.do("start")
    assert systemd.fn("ls", "-q") is not None, "active is said when it serves, so nobody has to wait"
    shown = systemd.show("ActiveState", "SubState", "StatusText", "Delegate", "MainPID", "NRestarts")
    assert (shown["ActiveState"], shown["SubState"], shown["Delegate"]) == ("active", "running", "yes")
    assert str(systemd.port) in shown["StatusText"]
    assert {"cpu", "memory", "pids", "io"} <= set((systemd.service / "cgroup.subtree_control").read_text().split())
    assert (systemd.service / "cgroup.procs").read_text() == ""
    assert len((systemd.service / "fn.slice" / "daemon" / "cgroup.procs").read_text().split()) == 1


def test_functions_run_below_it_with_their_limits_in_the_kernels_files(systemd):
    systemd.do("start")
    systemd.fn("deploy", EXAMPLES / "hello-python", "--memory", "96MiB", "--cpus", "0.5")
    assert b"hello" in systemd.fn("invoke", "hello-python", "-d", '{"name": "unit"}').lower()
    assert systemd.sandbox_file("memory.max") == str(96 * MIB)
    assert systemd.sandbox_file("cpu.max") == "50000 100000"
    systemd.fn("update", "hello-python", "--memory", "160MiB")
    wait_until(lambda: systemd.sandbox_file("memory.max") == str(160 * MIB), "memory.max to rise")


def test_a_reload_applies_an_edit_to_what_runs_and_a_wrong_one_leaves_it(systemd):
    systemd.do("start")
    systemd.fn("invoke", "hello-python", "-d", "{}")
    systemd.configure(systemd.settings("functions: {hello-*: {memory: 112MiB}}\n"))
    systemd.do("reload")
    wait_until(lambda: systemd.sandbox_file("memory.max") == str(112 * MIB), "memory.max of the sandbox that lives")
    systemd.configure("defaults: {memory: lots}\n")
    systemd.do("reload")
    wait_until(lambda: "the settings in force stay" in systemd.log, "the refusal in the log")
    wait_until(lambda: systemd.show("ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"},
               "the reload to be over")
    assert systemd.sandbox_file("memory.max") == str(112 * MIB)


def test_a_wrong_configuration_is_exit_78_and_not_tried_again(systemd):
    systemd.configure("defaults: {memory: lots}\n")
    assert systemd.systemctl("start", "fnd").returncode != 0
    shown = systemd.show("ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    assert "fn.yaml:1:20: error: defaults.memory: expected a size" in systemd.log


EATS = "def handle(event, context):\n    return len(bytearray(b'x' * (event['mb'] << 20)))\n"


def test_a_function_that_runs_out_of_memory_is_no_failure_of_the_service(systemd):
    systemd.do("start")
    code = systemd.directory / "eats"
    code.mkdir()
    (code / "app.py").write_text(EATS)
    systemd.fn("deploy", code, "--name", "eats", "--runtime", "python", "--handler", "app.handle", "--memory", "64MiB")
    result = systemd.run(BIN / "fn", "invoke", "eats", "-d", '{"mb": 600}')
    assert result.returncode == 137, result.stderr
    assert systemd.show("ActiveState", "NRestarts", "Result") == {
        "ActiveState": "active", "NRestarts": "0", "Result": "success"}
    assert systemd.fn("invoke", "hello-python", "-d", "{}")


def test_what_dies_is_started_again_with_its_functions_and_without_its_sandboxes(systemd):
    systemd.do("start")
    systemd.fn("invoke", "hello-python", "-d", "{}")
    before = set(systemd.processes())
    systemd.run("kill", "-KILL", systemd.show("MainPID")["MainPID"])
    wait_until(lambda: systemd.show("NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"},
               "it to be started again", 30)
    assert not before & set(systemd.processes())
    assert systemd.fn("invoke", "hello-python", "-d", "{}")


def test_a_restart_is_another_daemon_with_the_same_functions(systemd):
    systemd.do("start")
    systemd.fn("invoke", "hello-python", "-d", "{}")
    before = set(systemd.processes())
    assert len(before) > 1
    systemd.do("restart")
    assert not before & set(systemd.processes())
    assert not list(systemd.service.glob("fn.slice/pool/*/")), "no sandbox of the former one"
    assert systemd.fn("invoke", "hello-python", "-d", "{}")


def test_a_stop_leaves_nothing_but_the_state(systemd):
    def mounts():
        text = pathlib.Path(f"/proc/{systemd.pid}/mountinfo").read_text()
        return sorted(line.split(" ", 3)[3].split(" ")[1] for line in text.splitlines())

    before = mounts()
    systemd.do("start")
    systemd.fn("invoke", "hello-python", "-d", "{}")
    systemd.do("stop")
    assert systemd.show("ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert not systemd.service.exists()
    assert mounts() == before
    assert not pathlib.Path(f"/proc/{systemd.pid}/root/run/fn").exists()
    assert (systemd.directory / "lib" / "fn").stat().st_mode & 0o777 == 0o750
