# SPDX-License-Identifier: Apache-2.0
"""A disk that can lose its power and can fail: ext4 on a loop device over a file, with the device mapper in between.

What is in the file is what the disk has: the page cache above it is not in there. The file system's own clock is slowed
down to five minutes, so that nothing is on the disk by then but what somebody waited for.
"""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from conftest import SCALE, wait_until

# In a small machine there is no udev that would make the nodes.
ENVIRONMENT = {**os.environ, "DM_DISABLE_UDEV": "1"}


def run(*command):
    result = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, env=ENVIRONMENT)
    assert result.returncode == 0, (command, result.stdout, result.stderr)
    return result.stdout.decode().strip()


def has_mapper():
    """Whether there is a device mapper whose disks can fail."""
    for module in ("dm-mod", "dm-flakey"):
        subprocess.run(["modprobe", module], capture_output=True)
    found = subprocess.run(["dmsetup", "targets"], capture_output=True, env=ENVIRONMENT)
    return found.returncode == 0 and b"flakey" in found.stdout


class Disk:
    """Mounted from the beginning; `copy` is the file of another disk, as `cut` makes it."""

    def __init__(self, copy=None, journal=True, megabytes=192):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ebb-disk-"))
        self.file, self.mounted_at = self.directory / "disk", self.directory / "mounted"
        self.mounted_at.mkdir()
        subprocess.run(["modprobe", "loop"], capture_output=True)
        if copy:
            os.rename(copy, self.file)
        else:
            self.file.touch()
            os.truncate(self.file, megabytes << 20)
        # Without a journal there is nothing that the file system would do by itself.
        self.options = "noatime,commit=300" if journal else "noatime"
        self.loop = run("losetup", "--find", "--show", self.file)
        self.name = self.directory.name if has_mapper() else None
        self.device = self.loop
        if self.name:
            run("dmsetup", "create", self.name, "--table", self.table("linear"))
            self.device = f"/dev/mapper/{self.name}"
        if not copy:
            run("mkfs.ext4", "-q", "-O", "has_journal" if journal else "^has_journal", self.device)
        self.mount()

    def table(self, target, *arguments):
        sectors = self.file.stat().st_size // 512
        return " ".join(map(str, (0, sectors, target, self.loop, 0, *arguments)))

    def mount(self):
        """As a machine does that starts again: the journal first."""
        checked = subprocess.run(["e2fsck", "-p", self.device], stdin=subprocess.DEVNULL, capture_output=True)
        assert checked.returncode in (0, 1), checked
        run("mount", "-t", "ext4", "-o", self.options, self.device, self.mounted_at)

    def unmount(self):
        run("umount", self.mounted_at)

    def cut(self, daemon):
        """The power is cut, as it were: a copy of what the disk has at this moment. The daemon notices nothing.

        With a device mapper the moment may be any, else it is between two calls of the daemon's.
        """
        copy = self.directory / f"cut-{time.monotonic_ns()}"
        with self.suspended() if self.name else stopped(daemon.process.pid):
            run("cp", "--sparse=always", self.file, copy)
        return copy

    @contextlib.contextmanager
    def suspended(self):
        # Without locking the file system, which would have it write everything first.
        run("dmsetup", "suspend", "--nolockfs", self.name)
        try:
            yield
        finally:
            run("dmsetup", "resume", self.name)

    def load(self, *table):
        with self.suspended():
            run("dmsetup", "load", self.name, "--table", self.table(*table))

    def fail(self):
        """From now on every write fails, and what is read is as before."""
        self.load("flakey", 0, 1_000_000, 1, "error_writes")

    def work(self):
        self.load("linear")

    def remove(self):
        # A mount namespace that the kernel is still taking apart has a copy of the mount for a moment.
        def is_nobodys():
            subprocess.run(["umount", self.mounted_at], capture_output=True)
            return not self.name or subprocess.run(
                ["dmsetup", "remove", self.name], capture_output=True, env=ENVIRONMENT).returncode == 0
        wait_until(is_nobodys, f"{self.name} to be nobody's", 30)
        run("losetup", "--detach", self.loop)
        shutil.rmtree(self.directory)


@contextlib.contextmanager
def stopped(pid):
    """A process that makes no system call meanwhile: those that it was in have ended."""
    os.kill(pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 30 * SCALE
        tasks = pathlib.Path(f"/proc/{pid}/task")
        while {(task / "stat").read_text().rsplit(")", 1)[1].split()[0] for task in tasks.iterdir()} != {"T"}:
            assert time.monotonic() < deadline, "it does not stop"
            time.sleep(0.01)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
