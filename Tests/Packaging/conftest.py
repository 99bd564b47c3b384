# SPDX-License-Identifier: Apache-2.0
"""What people install is tried as they install it: into a directory, as a package, as an image.

On the host, as root, with the release programs; containers have a storage of their own, which is removed.
"""
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


@pytest.fixture(scope="session")
def containers():
    """With Debian's base as `debian:bookworm-slim`: made of the same packages, as no registry is asked."""
    base = CACHE / f"base-{SUITE}.tar"
    if not base.exists():
        # Debian's archive alone, as this machine knows it.
        sources = pathlib.Path("/etc/apt/sources.list.d/debian.sources")
        run("mmdebstrap", "--quiet", "--variant=minbase", SUITE, base.with_suffix(".new.tar"),
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
