# SPDX-License-Identifier: Apache-2.0
"""The Debian package: judged by lintian, installed by apt into a bare Debian, removed and purged."""
import pathlib

import pytest

from conftest import CAPABILITIES, ROOT, run


def test_lintian_finds_nothing(package):
    result = run("lintian", "--allow-root", "--fail-on", "error,warning", package, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_the_same_programs_make_the_same_package(package, tmp_path):
    again = pathlib.Path(run(ROOT / "scripts/build-deb", tmp_path).stdout.strip())
    assert again.read_bytes() == package.read_bytes()


@pytest.fixture(scope="module")
def machine(containers):
    """A bare Debian with apt's lists."""
    container = containers.start("docker.io/library/debian:bookworm-slim")
    containers.run(container, "apt-get", "update", "-qq")

    def machine(*words, options=(), **others):
        options = ["--env", "DEBIAN_FRONTEND=noninteractive", *options]
        return containers.run(container, *words, options=options, **others)

    machine.engine = lambda: containers.engine(container)
    yield machine
    containers.buildah("rm", container)


EVERYTHING = "find / -xdev ! -type d ! -path '/var/lib/dpkg/*' ! -path '/var/lib/apt/*' ! -path '/var/cache/*' " \
    "! -path '/var/log/*' ! -path '/proc/*' ! -path '/sys/*' ! -path '/dev/*' ! -path '/run/*' ! -path '/tmp/*' | sort"


def files(machine):
    return set(machine("sh", "-c", EVERYTHING).stdout.splitlines())


def test_it_is_installed_works_and_is_gone_after_the_purge(machine, package):
    mount = ["--volume", f"{package.parent}:/packages:ro"]
    # The libraries first, and whatever their own scripts make: what is compared is ours.
    depends = run("dpkg-deb", "-f", package, "Depends").stdout
    names = [word.split(" (")[0] for word in depends.strip().split(", ")]
    machine("apt-get", "install", "-y", "-qq", "--no-install-recommends", *names, "init-system-helpers")
    before = files(machine)
    installed = machine(
        "apt-get", "install", "-y", "-qq", "--no-install-recommends", f"/packages/{package.name}", options=mount)
    # What this host lacks was said, each with its fix.
    assert "fix: /usr/lib/fn/build-image python /var/lib/fn/images" in installed.stdout, installed.stdout
    assert machine("fn", "version").stdout.startswith("fn 0.")
    assert "SUBCOMMANDS" in machine("fnd", "--help").stdout
    machine("fn", "config", "check")
    machine("fn", "init", "hello", "--runtime", "python")
    machine("rm", "-r", "/hello")
    ours = files(machine) - before
    assert "/etc/fn/fn.yaml" in ours and "/usr/lib/systemd/system/fnd.service" in ours
    assert "/etc/systemd/system/multi-user.target.wants/fnd.service" in ours
    # State of a daemon, and what an administrator changed.
    machine("sh", "-c", "mkdir -p /var/lib/fn/code && touch /var/lib/fn/code/x && echo '# mine' >>/etc/fn/fn.yaml")
    machine("apt-get", "remove", "-y", "-qq", "ebb")
    left = files(machine) - before
    assert {path for path in left if not path.startswith("/etc/systemd/")} <= {
        "/etc/fn/fn.yaml", "/var/lib/fn/code/x", *(p for p in left if p.startswith("/var/lib/systemd/"))}
    assert "/etc/fn/fn.yaml" in left and "/var/lib/fn/code/x" in left
    # And what a daemon that was killed left in the kernel: in a machine whose cgroups can be written.
    with machine.engine() as start:
        groups = "/sys/fs/cgroup/fn.slice/pool/hello-1"
        script = f"mkdir -p {groups}; dpkg --purge ebb; ! ls -d /sys/fs/cgroup/fn.slice"
        purged = start(CAPABILITIES + ["sys_admin"], "sh", "-ec", script, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        assert purged.returncode == 0, purged.stdout + purged.stderr
    assert files(machine) - before == set()
    gone = machine("sh", "-c", "ls -d /etc/fn /var/lib/fn /usr/lib/fn /usr/share/fn /run/fn", check=False)
    assert gone.stdout == ""
    assert machine("dpkg-query", "-W", "ebb", check=False).returncode != 0
