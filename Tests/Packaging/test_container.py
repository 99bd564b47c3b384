# SPDX-License-Identifier: Apache-2.0
"""The container image, built from the project's own Dockerfile as it is, and run."""
import pathlib
import re
import shutil

import pytest

from conftest import BIN, CAPABILITIES, ROOT

# Compiling takes ten minutes and is what `make release` was just seen to do. Where the Dockerfile calls Swift, this
# hands out what that made; everything else of the stage is real: its packages, its files, its compiler.
STAND_IN = """#!/bin/sh
set -e
case "$*" in "build -c release --static-swift-stdlib --scratch-path .build-release --product "*) ;; *) exit 64 ;; esac
while [ $# -gt 1 ]; do shift; done
test -f Package.swift && test -d Sources/fnd && test -d Tests/Bench/NIOEcho
mkdir -p .build-release/release
cp "/prebuilt/$1" ".build-release/release/$1"
"""


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """What `docker build .` would send: the files of the repository, and the release programs where they belong."""
    directory = tmp_path_factory.mktemp("context") / "ebb"
    shutil.copytree(ROOT, directory, ignore=shutil.ignore_patterns(".build*", ".git", "__pycache__"))
    shutil.copytree(BIN, directory / ".build-release/bin")
    return directory


@pytest.fixture(scope="module")
def image(containers, context):
    """With all defaults: both stages, from `swift:…` and `debian:bookworm-slim`."""
    swift = containers.start("docker.io/library/debian:bookworm-slim")
    root = pathlib.Path(containers.buildah("mount", swift).stdout.strip())
    (root / "prebuilt").mkdir()
    for program in ("fn", "fnd"):
        shutil.copy2(BIN / program, root / "prebuilt")
    (root / "usr/bin/swift").write_text(STAND_IN)
    (root / "usr/bin/swift").chmod(0o755)
    containers.buildah("umount", swift)
    containers.image("docker.io/library/swift:6.3-bookworm", swift)
    containers.buildah("build", "--quiet", "--isolation", "chroot", "--pull-never", "--layers", "--tag", "ebb", context)
    return "localhost/ebb"


@pytest.fixture(scope="module")
def container(containers, image):
    name = containers.start(image)
    yield lambda *words, **others: containers.run(name, *words, **others)
    containers.buildah("rm", name)


def test_the_image_has_the_programs_and_what_they_need(container):
    assert container("fn", "version").stdout.startswith("fn 0.")
    assert "SUBCOMMANDS" in container("fnd", "--help").stdout
    assert container("sh", "-c", "ldd /usr/bin/fnd | grep 'not found'", check=False).stdout == ""
    container("fn", "init", "hello", "--runtime", "node")


def test_the_root_images_in_it_are_found_and_run_what_functions_are_written_in(container):
    doctor = container("fn", "doctor", check=False).stdout
    assert "PASS  root images: node, python below /usr/lib/fn/images" in doctor
    assert "Python 3" in container("chroot", "/usr/lib/fn/images/python", "python3", "--version").stdout
    assert container("chroot", "/usr/lib/fn/images/node", "node", "--version").stdout.startswith("v")
    setuid = container("find", "/usr/lib/fn/images", "-xdev", "-perm", "/6000", "-type", "f").stdout
    assert setuid == ""


def test_nothing_of_the_building_is_in_it(container):
    for path in ("/src", "/programs", "/prebuilt", "/finish-image", "/python.packages", "/usr/bin/cc"):
        assert container("ls", path, check=False).returncode != 0, path


def test_prebuilt_programs_are_taken_when_that_is_asked_for(containers, context, image):
    containers.buildah("build", "--quiet", "--isolation", "chroot", "--pull-never", "--layers",
                       "--build-arg", "PROGRAMS=prebuilt", "--tag", "ebb-prebuilt", context)
    name = containers.start("localhost/ebb-prebuilt")
    assert containers.run(name, "fn", "version").stdout.startswith("fn 0.")
    containers.buildah("rm", name)


# What docs/containers.md adds to what an engine gives by itself.
ADDED = ["sys_admin", "net_admin", "sys_ptrace", "mknod"]


def test_docs_name_the_privileges_that_are_tried_here():
    lines = (ROOT / "docs/containers.md").read_text().splitlines()
    podman = next(line for line in lines if line.startswith("| Podman"))
    assert sorted(word.lower() for word in re.findall(r"--cap-add (\w+)", podman)) == sorted(ADDED)
    docker = next(line for line in lines if line.startswith("| Docker 28"))
    assert sorted(word.lower() for word in re.findall(r"--cap-add (\w+)", docker)) == sorted(set(ADDED) - {"mknod"})


@pytest.fixture
def engine(containers, image):
    """Runs a command in a container of the image with these capabilities."""
    environment = containers.buildah("inspect", "--type", "image", "--format", "{{.OCIv1.Config.Env}}", image).stdout
    variables = dict(word.split("=", 1) for word in environment.strip("[]\n ").split())
    name = containers.start(image)
    with containers.engine(name) as start:
        yield lambda capabilities, *command: start(capabilities, *command, env=variables)
    containers.buildah("rm", name)


def test_doctor_names_the_privilege_that_a_container_lacks(engine):
    whole = engine(CAPABILITIES + ADDED, "fn", "doctor")
    assert "PASS  privileges: running as root" in whole.stdout, whole.stdout + whole.stderr
    lacking = engine([*CAPABILITIES, "sys_admin", "mknod"], "fn", "doctor")
    assert "FAIL  privileges: root lacks CAP_NET_ADMIN, CAP_SYS_PTRACE" in lacking.stdout
    assert "fix: give the container --cap-add NET_ADMIN --cap-add SYS_PTRACE" in lacking.stdout


def test_its_entry_point_serves_with_the_privileges_that_the_docs_name(containers, image, engine):
    told = containers.buildah("inspect", "--type", "image", "--format", "{{.OCIv1.Config.Entrypoint}}", image).stdout
    assert told.strip() == "[/usr/bin/fnd]"
    script = """
        fnd "$@" 2>/tmp/log &
        daemon=$!
        for try in $(seq 600); do fn ls >/dev/null 2>&1 && break; kill -0 $daemon || break; sleep 0.1; done
        cd /tmp && fn init hello --runtime python && fn deploy hello && fn invoke hello -d '{"name": "image"}'
        result=$?
        kill $daemon; wait $daemon
        cat /tmp/log >&2
        exit $result
    """
    arguments = ["--listen", "127.0.0.1:0"]
    if not pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
        arguments.append("--allow-unenforced-limits")
    answer = engine(CAPABILITIES + ADDED, "sh", "-c", script, "sh", *arguments)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "image" in answer.stdout.splitlines()[-1], answer.stdout
    assert "stopped" in answer.stderr and "left behind" not in answer.stderr
