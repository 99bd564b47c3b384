# SPDX-License-Identifier: Apache-2.0
"""The one leak checker: what a daemon has of the kernel and of the disk, by kind, now and again later.

A daemon that lives is compared with itself (`Leaks`); one that has ended must have nothing (`nothing_left`). The kernel
frees some things a moment after their last user: the checker waits for the condition, and if that does not come says
what is left and how long it waited.

Counted are, of the daemon and everything in its cgroups: processes (zombies too), cgroups, mounts of every mount
namespace that a process is in, namespaces that a process is in or holds open, descriptors by what they are, and files
of the state and temporary directories. Kernel memory that no process shows is `kernel_objects`, for a machine that
nobody else uses.
"""
import collections
import os
import pathlib
import re
import time

SCALE = float(os.environ.get("EBB_TIME_SCALE", "1"))
PROC = pathlib.Path("/proc")
# What changes without anything having been started: databases in use, logs, what is learnt, and the empty directories
# that root images are put together on.
KEPT = re.compile(r"(\.sqlite(-wal|-shm)?|learning\.json.*|lock)$|^(logs|destinations)(/|$)|^mnt(/[\w-]+)?$")


def _wait(look, seconds, what):
    """Waits until `look` returns nothing; its last answer is the complaint. Returns the seconds that it took."""
    began, last = time.monotonic(), []
    while left := look():
        last, waited = left, time.monotonic() - began
        assert waited < seconds * SCALE, f"{what}, {waited:.1f} s later:\n  " + "\n  ".join(left)
        time.sleep(0.02)
    took = time.monotonic() - began
    if took > 0.5:
        print(f"{what} for {took:.1f} s: {last}", flush=True)
    return took


def _read(path):
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _names(directory):
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def members(daemon):
    """Every process in the daemon's cgroups, the daemon too: PID and state.

    A zombie (`Z`) is one that the daemon should have reaped; others are for whoever is process 1 here.
    """
    found = {}
    for name in _names(PROC):
        if not name.isdigit() or daemon.group.name not in _read(PROC / name / "cgroup"):
            continue
        fields = _read(PROC / name / "stat").rsplit(")", 1)[-1].split()
        if fields and (fields[0] != "Z" or daemon.process and int(fields[1]) == daemon.process.pid):
            found[int(name)] = fields[0]
    return found


def _namespaces(pid):
    """Those that a process's threads are in, and those that it holds open: `net:[4026531840]`."""
    found = {_link(task / "ns" / kind) for task in (PROC / str(pid) / "task" / t for t in _names(PROC / str(pid) / "task"))
             for kind in _names(task / "ns")}
    found |= {target for target in _descriptors(pid) if re.fullmatch(r"[a-z_]+:\[\d+\]", target)
              and not target.startswith(("socket", "pipe"))}
    return {name for name in found if name}


def _descriptors(pid):
    return [target for fd in _names(PROC / str(pid) / "fd") if (target := _link(PROC / str(pid) / "fd" / fd))]


def _kind_of(target, daemon):
    """What a descriptor is, without what differs from one to the next."""
    if target.startswith(("anon_inode:", "/memfd:")):
        return target
    if str(daemon.group) in target:
        if "/pool/" not in target and "." in target.rsplit("/", 1)[1]:
            return f"gauge {target}"
        return "cgroup " + ("file" if "." in target.rsplit("/", 1)[1] else "directory")
    return target if target.startswith("/") else target.split(":")[0]


def _mounts(pid):
    return [line.split(" - ")[1].split()[0] + " at " + line.split()[4]
            for line in _read(PROC / str(pid) / "mountinfo").splitlines()]


def _files(daemon):
    state = daemon.directory / "state"
    found = [str(path.relative_to(state)) for path in state.glob("**/*")]
    found += [f"temporary {name}" for name in _names(daemon.temporary)]
    return [name for name in found if not KEPT.search(name)]


def holdings(daemon):
    """What a living daemon has, counted by kind."""
    count = collections.Counter()
    host = _namespaces("self") | _namespaces(os.getpid())
    spaces, seen = set(), {_link("/proc/self/ns/mnt")}
    for pid, state in members(daemon).items():
        name = _read(PROC / str(pid) / "comm").strip()
        count[f"process {name}" + (" (zombie)" if state == "Z" else "")] += 1
        of_process = _namespaces(pid)
        spaces |= of_process - host
        mine = _link(PROC / str(pid) / "ns" / "mnt")
        if mine not in seen:
            seen.add(mine)
            count.update(f"mount {mount}" for mount in _mounts(pid))
    count.update(f"namespace {space.split(':')[0]}" for space in spaces)
    # SQLite's readers are made when they are wanted, and then kept: five at most for each database.
    count.update(f"descriptor {_kind_of(target, daemon)}" for target in _descriptors(daemon.process.pid)
                 if ".sqlite" not in target)
    count.update("cgroup" for _ in daemon.group.glob("**/fn.slice/pool/*/"))
    count.update(f"mount of the host {line}" for line in _own_mounts(daemon))
    count.update(f"file {name}" for name in _files(daemon))
    return count


def _own_mounts(daemon):
    """Mounts that the daemon has made where everybody sees them."""
    return [line for line in _read(PROC / "self" / "mountinfo").splitlines() if str(daemon.directory) in line]


def settled(daemon, seconds=30):
    """What it has once that does not change any more: stocks that are filled in the background are full."""
    last, same, deadline = holdings(daemon), 0, time.monotonic() + seconds * SCALE
    while same < 4:
        assert time.monotonic() < deadline, f"what the daemon has changes and changes: {last}"
        time.sleep(0.15)
        now = holdings(daemon)
        last, same = now, same + 1 if now == last else 0
    return last


class Leaks:
    """What a daemon has before a fault; afterwards it may have no more of anything.

    User namespaces are a stock: as many are kept as there were sandboxes at once, those that are being removed too.
    `at_once` is how many that may have been, where it was not so before.
    """

    def __init__(self, daemon, at_once=0):
        self.daemon = daemon
        self.before = settled(daemon)
        for kind in ("descriptor user", "namespace user"):
            self.before[kind] = max(self.before[kind], at_once)

    def more(self):
        now = holdings(self.daemon)
        return [f"{kind}: {count}, before {self.before[kind]}" for kind, count in sorted(now.items())
                if count > max(self.before[kind], self.most(kind))]

    @staticmethod
    def most(kind):
        """Files of the groups that all sandboxes share are opened when they are first read, once and for good."""
        return 1 if kind.startswith("descriptor gauge") else 0

    def check(self, seconds=30):
        """Waits until nothing is more than before. Returns the seconds that it took."""
        return _wait(self.more, seconds, "the daemon has more than before")


def leftovers(daemon):
    """Everything of a daemon that has ended, or was killed, that should not be there any more."""
    found = [f"process {pid}: {_read(PROC / str(pid) / 'cmdline').replace(chr(0), ' ') or _read(PROC / str(pid) / 'comm')}"
             for pid in members(daemon)]
    found += [f"cgroup {group}" for group in daemon.group.glob("**/fn.slice/*/")]
    found += [f"mount {line}" for line in _own_mounts(daemon)]
    found += [f"temporary file {name}" for name in _names(daemon.temporary)]
    if daemon.socket.exists():
        found.append("socket")
    return found


def nothing_left(daemon, seconds=10):
    """Waits until nothing of a stopped daemon is left. Returns the seconds that it took."""
    return _wait(lambda: leftovers(daemon), seconds, "left of a daemon that has stopped")


def nobody_left(daemon, seconds=10):
    """Waits until every process of a killed daemon is gone, and with them what they alone have: its namespaces,
    mounts and descriptors. Returns the seconds that it took."""
    return _wait(lambda: [p for p in leftovers(daemon) if p.startswith("process")], seconds, "left of a killed daemon")


def kernel_objects(daemon):
    """Objects of the kernel's that no process shows: of the whole machine, so only where nobody else makes any."""
    found = collections.Counter()
    for line in _read(PROC / "slabinfo").splitlines():
        fields = line.split()
        if fields and fields[0] in ("net_namespace", "pid_namespace", "mnt_cache", "user_namespace", "nsproxy", "mnt_ns"):
            found[fields[0]] = int(fields[1])
    for line in _read(daemon.group / "cgroup.stat").splitlines():
        name, value = line.split()
        if name == "nr_dying_descendants":
            found[name] = int(value)
    return found
