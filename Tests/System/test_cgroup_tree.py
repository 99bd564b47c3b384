# SPDX-License-Identifier: Apache-2.0
"""The daemon finds its place in the hierarchy by itself, or says what is missing and how to mend it."""
import pathlib
import subprocess

import pytest


pytestmark = pytest.mark.usefixtures("limits")
CONFIG = "defaults: {timeout: 120s}\n"


def works_with_limits(daemon, pool):
    daemon.deploy("hello-python", "--timeout", "100s")
    assert daemon.invoke("hello-python").status == 200
    name = daemon.sandbox("hello-python")["id"]
    assert (pool / name / "memory.oom.group").read_text() == "1\n"
    assert (pool.parent / "daemon" / "cgroup.procs").read_text().split() == [str(daemon.process.pid)]


def test_a_service_with_delegation_builds_below_its_own_group(own_daemon):
    daemon = own_daemon(CONFIG, finds_group=True).start()
    works_with_limits(daemon, daemon.group / "fn.slice" / "pool")


def test_a_container_builds_below_the_root_of_its_namespace(own_daemon):
    inside = 'umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
    daemon = own_daemon(
        CONFIG, finds_group=True, wrapper=["unshare", "--cgroup", "--mount", "sh", "-c", inside, "sh"]).start()
    assert daemon.request("GET", "/v1/doctor").status == 200
    works_with_limits(daemon, daemon.group / "fn.slice" / "pool")


def test_the_bare_root_is_used_when_nothing_was_delegated(own_daemon):
    daemon = own_daemon(CONFIG)
    daemon.arguments = []
    command = daemon.command()
    at = command.index("--cgroup-root")
    del command[at:at + 2]
    daemon.command = lambda: command
    daemon.start()
    works_with_limits(daemon, pathlib.Path("/sys/fs/cgroup/fn.slice/pool"))
    daemon.stop()
    assert not pathlib.Path("/sys/fs/cgroup/fn.slice").exists()


def test_a_host_without_cgroup_v2_gets_one_error_with_the_fix(own_daemon):
    hidden = 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"'
    daemon = own_daemon(CONFIG, finds_group=True, wrapper=["unshare", "--mount", "sh", "-c", hidden, "sh"])
    result = subprocess.run(daemon.command(), capture_output=True, timeout=120)
    assert result.returncode == 1
    assert b"no cgroup v2 hierarchy is mounted" in result.stderr
    assert b"fix: " in result.stderr


def test_a_group_without_controllers_is_refused_unless_limits_may_go_unenforced(own_daemon):
    daemon = own_daemon(CONFIG)
    bare = daemon.group / "bare"
    bare.mkdir()
    command = daemon.command()
    command[command.index("--cgroup-root") + 1] = str(bare)
    result = subprocess.run(command, capture_output=True, timeout=120)
    assert result.returncode == 1
    assert b"has no memory, cpu, pids controller" in result.stderr and b"fix: " in result.stderr

    daemon.command = lambda: command + ["--allow-unenforced-limits"]
    daemon.start()
    daemon.deploy("hello-python", "--timeout", "100s")
    assert daemon.invoke("hello-python").status == 200
    assert b"128MiB (not enforced)" in daemon.fn("ls").stdout
    assert b"128MiB (not enforced)" in daemon.fn("describe", "hello-python").stdout
    assert b"not enforced on this host" in daemon.fn("sandboxes").stdout
    assert daemon.sandbox("hello-python")["limitsEnforced"] is False
    assert "limits are NOT enforced" in daemon.log
