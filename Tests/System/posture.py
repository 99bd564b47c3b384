# SPDX-License-Identifier: Apache-2.0
"""The declared posture of a sandbox, and how the host's /proc is read to hold it against."""
import os
import pathlib
import re

STATUS = {
    "Groups": "", "CapInh": "0" * 16, "CapPrm": "0" * 16, "CapEff": "0" * 16, "CapBnd": "0" * 16, "CapAmb": "0" * 16,
    "NoNewPrivs": "1", "Seccomp": "2", "Seccomp_filters": "1", "TracerPid": "0", "Umask": "0022",
}
LIMITS = {
    "Max core file size": 0, "Max processes": 128, "Max open files": 1024, "Max locked memory": 64 << 10,
    "Max pending signals": 1024, "Max msgqueue size": 0, "Max nice priority": 0, "Max realtime priority": 0,
}
# All that there are; those of time are the host's, as its clocks are.
NAMESPACES = {"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "user", "uts"}
SHARED_NAMESPACES = {"time", "time_for_children"}

CODE = ("ro", "nosuid", "nodev", "relatime")
MOUNTS = {
    "/": CODE, "/var/task": CODE, "/var/runtime": CODE, "/.init": CODE, "/.bridge": CODE, "/etc/hosts": CODE,
    "/dev": ("ro", "nosuid", "noexec", "relatime"),
    "/proc": ("rw", "nosuid", "nodev", "noexec", "relatime"),
    "/tmp": ("rw", "nosuid", "nodev", "relatime"),
    "/run/fn": ("rw", "nosuid", "nodev", "noexec", "relatime"),  # only the host's root may write there
}
# What `proc: masked` adds, where this kernel has it; each is read-only, whatever covers it.
MASKED_FILES = """buddyinfo cmdline config.gz interrupts iomem ioports kallsyms kcore key-users keys kmsg kpagecgroup
    kpagecount kpageflags latency_stats modules mtrr pagetypeinfo sched_debug schedstat slabinfo softirqs timer_list
    timer_stats vmallocinfo zoneinfo""".split()
MASKED_DIRECTORIES = "acpi asound driver pressure scsi".split()
READ_ONLY = "bus fs irq sys sysrq-trigger".split()


def masked_mounts():
    kinds = [(MASKED_FILES, "file"), (MASKED_DIRECTORIES, "directory"), (READ_ONLY, "itself")]
    return {f"/proc/{name}": kind for names, kind in kinds for name in names if pathlib.Path(f"/proc/{name}").exists()}


# Descriptors by what they are; the rest has to be a file of the sandbox's own mounts.
CLASSES = ("pipe:[", "socket:[", "anon_inode:[eventpoll]", "anon_inode:[eventfd]", "/memfd:")


class Task:
    """One thread, as the host's /proc shows it."""

    def __init__(self, path):
        self.path = path

    def read(self, name):
        return (self.path / name).read_text()

    @property
    def status(self):
        parts = (line.partition(":") for line in self.read("status").splitlines())
        return {key: value.strip() for key, _, value in parts}

    @property
    def limits(self):
        lines = [re.split(r"\s{2,}", line.strip()) for line in self.read("limits").splitlines()[1:]]
        return {line[0]: line[1:3] for line in lines}

    @property
    def namespaces(self):
        return {kind: os.stat(self.path / "ns" / kind).st_ino for kind in os.listdir(self.path / "ns")}

    @property
    def mounts(self):
        """Of each mount point: number, own options, optional fields, type, source, and the file system's options."""
        found = {}
        for line in self.read("mountinfo").splitlines():
            own, _, rest = line.partition(" - ")
            number, _, _, _, point, options, *propagation = own.split(" ")
            kind, source, whole = rest.split(" ")
            assert point not in found, f"{point} is mounted twice"
            found[point] = (number, tuple(options.split(",")), propagation, kind, source, whole.split(","))
        return found

    @property
    def descriptors(self):
        found = {}
        for name in os.listdir(self.path / "fd"):
            try:
                target, info = os.readlink(self.path / "fd" / name), self.read(f"fdinfo/{name}")
            except FileNotFoundError:
                continue  # closed since
            found[int(name)] = (target, dict(line.split(":\t", 1) for line in info.splitlines() if ":\t" in line))
        return found


class Sandbox:
    """One leaf of the daemon's tree with everything that runs in it, whatever the daemon says of it."""

    def __init__(self, group, pids):
        self.group = group
        self.processes = [Task(pathlib.Path(f"/proc/{pid}")) for pid in pids]
        self.threads = [Task(path) for process in self.processes for path in (process.path / "task").iterdir()]
        self.first = next(p for p in self.processes if p.status["NSpid"].split()[-1] == "1")

    def __repr__(self):
        return self.group.name
