# SPDX-License-Identifier: Apache-2.0
"""What people install is tried as they install it: into a directory, as a package, as an image.

On the host, as root, with the release programs; containers have a storage of their own, which is removed.
"""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ["EBB_BIN"])
CACHE = pathlib.Path(os.environ["EBB_CACHE"])
SUITE = "bookworm"
os.environ["EBB_DEB_COMPRESSION"] = "gzip"  # xz takes most of a minute and changes nothing that is looked at


def run(*command, check=True, **options):
    """Runs a command; what it printed is in the error when it fails."""
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert not check or result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


def tree(directory):
    """Every path below a directory, with what it is and, of files, what is in it."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = f"link {os.readlink(path)}"
        elif path.is_file():
            found[name] = f"file {path.stat().st_mode:o} {hash(path.read_bytes())}"
        else:
            found[name] = f"directory {path.stat().st_mode:o}"
    return found


@pytest.fixture(scope="session")
def package():
    """The Debian package, built from the release programs."""
    with tempfile.TemporaryDirectory(prefix="ebb-deb-") as directory:
        yield pathlib.Path(run(ROOT / "scripts/build-deb", directory).stdout.strip())


# What Podman gives a container by itself; Docker gives more.
CAPABILITIES = ["chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service",
                "sys_chroot", "setfcap"]
# As an engine starts it: namespaces of its own, cgroup v2 writable below its own group, the image as the root.
# buildah's own way is a chroot, in which the kernel makes no user namespaces.
ENGINE = """set -e
echo $$ >{group}/cgroup.procs
exec unshare --mount --pid --ipc --uts --cgroup --fork --propagation private sh -ec '
    mount --bind {root} {root}
    cd {root}
    mount -t proc proc proc
    mount -t tmpfs tmpfs tmp
    mount --rbind /dev dev
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mkdir tmp/old
    pivot_root . tmp/old
    umount -l /tmp/old
    rmdir /tmp/old
    exec setpriv --bounding-set -all{capabilities} "$@"' engine "$@"
"""


class Containers:
    """buildah without a daemon, without user namespaces, and without anybody else's images."""

    def __init__(self, directory):
        self.directory = directory
        # Overlays do not lie on overlays, as the root of a container is one.
        system = run("stat", "-f", "-c", "%T", directory).stdout.strip()
        self.storage = ["--root", directory / "storage", "--runroot", directory / "run", "--storage-driver",
                        "vfs" if system == "overlayfs" else "overlay"]

    def buildah(self, *arguments, **options):
        return run("buildah", *self.storage, *arguments, **options)

    def image(self, name, source):
        """Makes an image of a container and ends that."""
        self.buildah("commit", "--quiet", "--rm", source, name)

    def start(self, image):
        return self.buildah("from", "--pull-never", image).stdout.strip()

    def run(self, container, *command, options=(), **others):
        return self.buildah("run", "--isolation", "chroot", *options, container, "--", *command, **others)


    @contextlib.contextmanager
    def engine(self, container):
        """Gives what runs a command in a container as an engine would; in a cgroup of its own, empty afterwards."""
        root = self.buildah("mount", container).stdout.strip()
        unified = pathlib.Path("/sys/fs/cgroup")
        if (unified / "cgroup.controllers").exists():
            (unified / "cgroup.subtree_control").write_text("+memory +cpu +pids +io")
        else:
            unified = unified / "unified"
        group = pathlib.Path(tempfile.mkdtemp(prefix="ebb-container-", dir=unified))

        def start(capabilities, *command, **options):
            script = ENGINE.format(group=group, root=root, capabilities="".join(f",+{name}" for name in capabilities))
            return run("sh", "-c", script, "sh", *command, check=False, timeout=300, **options)

        yield start
        left = [path for path in group.rglob("*") if path.is_dir()]
        for path in sorted(left, reverse=True):
            path.rmdir()
        group.rmdir()
        self.buildah("umount", container)
        assert not left


@pytest.fixture(scope="session")
def containers():
    """With Debian's base as `debian:bookworm-slim`: of the same packages and options, as no registry is asked."""
    base = CACHE / f"base-{SUITE}-slim.tar"
    if not base.exists():
        # Debian's archive alone, as this machine knows it.
        sources = pathlib.Path("/etc/apt/sources.list.d/debian.sources")
        options = ["force-unsafe-io", *(f"path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info"))]
        run("mmdebstrap", "--quiet", "--variant=minbase", *(f"--dpkgopt={option}" for option in options),
            '--aptopt=Acquire::Languages "none"', SUITE, base.with_suffix(".new.tar"),
            *([sources] if sources.exists() else []))
        base.with_suffix(".new.tar").rename(base)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ebb-containers-"))
    containers = Containers(directory)
    try:
        scratch = containers.buildah("from", "scratch").stdout.strip()
        containers.buildah("add", "--quiet", scratch, base)
        containers.image("docker.io/library/debian:bookworm-slim", scratch)
        yield containers
    finally:
        containers.buildah("rm", "--all", check=False)
        for mount in re.findall(rf" ({directory}\S*) ", pathlib.Path("/proc/self/mountinfo").read_text())[::-1]:
            run("umount", "-l", mount, check=False)
        shutil.rmtree(directory)
