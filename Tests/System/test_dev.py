# SPDX-License-Identifier: Apache-2.0
"""`fn dev` and what `.fnignore` keeps out."""
import io
import json
import os
import signal
import subprocess
import time
import zipfile

import pytest

from conftest import BIN, SCALE, wait_until

ANSWER = "import part\ndef handle(event, context):\n    print('asked', event)\n    return [{}, part.VALUE]\n"


@pytest.fixture
def source(daemon, request):
    directory = daemon.directory / request.node.name[:40]
    (directory / "build").mkdir(parents=True)
    (directory / "function.yaml").write_text("name: dev\nruntime: python\nhandler: app.handle\n")
    (directory / "app.py").write_text(ANSWER.format(1))
    (directory / "part.py").write_text("VALUE = 1\n")
    (directory / ".fnignore").write_text("*.log\n/build/\n# a comment\n!kept.log\n")
    return directory


class Dev:
    def __init__(self, daemon, source, *arguments):
        self.log = daemon.directory / "dev.log"
        self.out = open(self.log, "wb")
        self.process = subprocess.Popen(
            [BIN / "fn", "dev", source, *arguments], stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.out,
            env={"PATH": os.environ["PATH"], "FN_SOCKET": str(daemon.socket)})

    @property
    def said(self):
        return self.log.read_text()

    def end(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20 * SCALE)


@pytest.fixture
def dev(daemon, source):
    running = Dev(daemon, source)
    wait_until(lambda: "Watching" in running.said, "fn dev to watch")
    yield running
    running.process.kill()
    running.process.wait()
    running.out.close()


def test_ignored_files_are_not_deployed(daemon, source):
    for name in ("a.log", "kept.log", "build/out", ".git/HEAD", "__pycache__/app.pyc", "deep/build/in", "app.py~"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    assert daemon.fn("deploy", source).returncode == 0
    archive = daemon.request("GET", "/v1/functions/dev/code").body
    names = set(zipfile.ZipFile(io.BytesIO(archive)).namelist())
    assert names == {"app.py", "part.py", "function.yaml", "kept.log", "deep/build/in"}


def test_a_change_is_deployed_at_once_and_logs_are_shown(daemon, source, dev):
    assert daemon.invoke("dev").json == [1, 1]
    start = time.monotonic()
    (source / "app.py").write_text(ANSWER.format(2))
    wait_until(lambda: daemon.invoke("dev").json == [2, 1], "the change to be deployed")
    print(f"deployed after {time.monotonic() - start:.3f} s")
    wait_until(lambda: "asked" in dev.said, "the function's log")
    assert "Updated dev (rev 2, " in dev.said
    assert dev.end() == -signal.SIGINT
    assert daemon.invoke("dev").json == [2, 1], "it stays deployed"


def test_directories_renames_and_deletions_are_seen(daemon, source, dev):
    (source / "lib").mkdir()
    (source / "lib" / "deep").mkdir()
    (source / "lib" / "deep" / "more.py").write_text("VALUE = 7\n")
    (source / "part.py").write_text("from lib.deep.more import VALUE\n")
    wait_until(lambda: daemon.invoke("dev").json == [1, 7], "a new directory")
    (source / "lib" / "deep" / "more.py").write_text("VALUE = 8\n")
    wait_until(lambda: daemon.invoke("dev").json == [1, 8], "a change in it")
    (source / "new.py").write_text("VALUE = 9\n")
    os.rename(source / "new.py", source / "part.py")
    wait_until(lambda: daemon.invoke("dev").json == [1, 9], "a file moved over another, as editors do")


def test_what_is_ignored_or_unchanged_deploys_nothing(daemon, source, dev):
    before = daemon.describe("dev")["revision"]
    (source / "a.log").write_text("x")
    (source / "build" / "out").write_text("x")
    os.utime(source / "app.py")
    (source / "part.py").write_text("VALUE = 2\n")
    wait_until(lambda: daemon.invoke("dev").json == [1, 2], "the change that counts")
    assert daemon.describe("dev")["revision"] == before + 1
    (source / ".fnignore").write_text("")
    wait_until(lambda: "a.log" in zipfile.ZipFile(io.BytesIO(
        daemon.request("GET", "/v1/functions/dev/code").body)).namelist(), "what is no longer ignored")


def test_a_mistake_is_told_and_the_next_change_works(daemon, source, dev):
    (source / "function.yaml").write_text("name: dev\nruntime: python\nhandler: app.handle\nmemroy: 1MiB\n")
    wait_until(lambda: "did you mean 'memory'?" in dev.said, "the mistake")
    assert daemon.invoke("dev").json == [1, 1], "the function stays as it was"
    (source / "function.yaml").write_text("name: dev\nruntime: python\nhandler: app.handle\nmemory: 96MiB\n")
    wait_until(lambda: daemon.describe("dev")["memory"] == 96 << 20, "the change that is right")


def test_what_cannot_be_watched_is_told(daemon):
    (daemon.directory / "file").write_text("x")
    for argument, code in (("file", 66), ("gone", 66)):
        result = daemon.fn("dev", argument)
        assert (result.returncode, len(result.stderr.splitlines())) == (code, 1)
