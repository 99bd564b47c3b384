# SPDX-License-Identifier: Apache-2.0
"""`fn top` in a real terminal: a pseudo-terminal whose other end is looked at and typed into."""
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import termios
import time

import pytest

from conftest import BIN, SCALE, wait_until

ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, daemon, *arguments, **environment):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(BIN / "fn", ["fn", *arguments], {
                "FN_SOCKET": str(daemon.socket), "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment})
        self.modes = termios.tcgetattr(self.fd)
        self.output = b""
        self.status = None
        self.resize(100, 20)

    def resize(self, width, height):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def read(self):
        """What has come so far; the other end of a terminal whose program has ended is an error, not an end."""
        with contextlib.suppress(OSError):
            while select.select([self.fd], [], [], 0.02)[0]:
                self.output += os.read(self.fd, 65536)
        return self.output

    @property
    def screen(self):
        """The latest whole screen, without colours."""
        frames = self.read().split(b"\x1b[H")
        whole = [frame for frame in frames if b"\x1b[J" in frame]
        text = whole[-1].split(b"\x1b[J")[0].decode() if whole else ""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split("\r\n")

    def shows(self, *words):
        def look():
            text = "\n".join(self.screen)
            return all(word in text for word in words)
        wait_until(look, f"{words} on the screen")

    def end(self):
        """The exit status, once it has ended: negative for a signal."""
        def look():
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.read()  # what it wrote between the look and its end
            return pid
        if self.status is None:
            wait_until(look, "fn top to end")
        return self.status

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def terminal(request):
    made = []

    def make(daemon, *arguments, **environment):
        made.append(Terminal(daemon, *(arguments or ("top",)), **environment))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module", autouse=True)
def functions(daemon):
    for name in ("hello-python", "counter"):
        daemon.deploy(name)
        assert daemon.invoke(name).status == 200


def test_it_shows_the_host_and_every_sandbox_and_quits_with_q(daemon, terminal):
    top = terminal(daemon)
    top.shows("2 sandboxes", "budget", "promised", "available", "PSI", "hello-python-", "counter-", "q quit")
    assert termios.tcgetattr(top.fd)[3] & (termios.ICANON | termios.ECHO) == 0, "raw mode"
    top.type("q")
    assert top.end() == 0
    assert top.output.startswith(ENTER) and top.output.endswith(LEAVE)
    assert termios.tcgetattr(top.fd) == top.modes


def test_keys_sort_filter_freeze_and_switch(daemon, terminal):
    top = terminal(daemon)
    top.shows("CURRENT▼")
    top.type("SSS")
    top.shows("SANDBOX▲")
    rows = [line.split()[0] for line in top.screen if line.startswith(("counter-", "hello-python-"))]
    assert rows == sorted(rows)
    top.type("r")
    top.shows("SANDBOX▼")
    top.type("/count")
    top.shows("filter: count_")
    wait_until(lambda: "hello-python-" not in "\n".join(top.screen), "the other rows to go")
    top.type("\r")
    top.shows("filter 'count'")
    top.type("\x1b")
    top.shows("hello-python-")
    top.type(" ")
    top.shows("frozen at")
    top.type(" \t")
    top.shows("RECLAIMED", "tab sandboxes")
    top.type("?")
    top.shows("quit", "freeze what is shown")
    top.type("q")
    assert top.end() == 0


def test_it_goes_on_as_things_change(daemon, terminal):
    top = terminal(daemon)
    top.shows("2 sandboxes")
    daemon.deploy("hello-python", "--name", "late")
    daemon.invoke("late")
    top.shows("3 sandboxes", "late-")
    assert daemon.fn("rm", "--yes", "late").returncode == 0


def test_it_follows_the_size_of_the_terminal(daemon, terminal):
    top = terminal(daemon)
    for width, height in [(60, 10), (140, 40), (20, 3)]:
        top.resize(width, height)
        wait_until(lambda: len(top.screen) == height, f"{height} lines")
        wait_until(lambda: max(map(len, top.screen)) <= width, f"{width} columns")


@pytest.mark.parametrize("how, status", [
    ("\x03", -signal.SIGINT), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT),
    (signal.SIGHUP, -signal.SIGHUP)], ids=["ctrl-c", "sigterm", "sigint", "sighup"])
def test_the_terminal_is_as_it_was_on_every_way_out(daemon, terminal, how, status):
    top = terminal(daemon)
    top.shows("q quit")
    top.type(how) if isinstance(how, str) else os.kill(top.pid, how)
    assert top.end() == status
    assert top.output.endswith(LEAVE)
    assert termios.tcgetattr(top.fd) == top.modes


def test_ctrl_z_gives_the_terminal_back_until_it_is_continued(daemon, terminal):
    top = terminal(daemon)
    top.shows("q quit")
    top.type("\x1a")
    wait_until(lambda: os.waitpid(top.pid, os.WUNTRACED | os.WNOHANG)[0], "it to stop")
    assert top.read().endswith(LEAVE) and termios.tcgetattr(top.fd) == top.modes
    before = len(top.output)
    os.kill(top.pid, signal.SIGCONT)
    wait_until(lambda: ENTER in top.read()[before:], "it to come back")
    top.type("q")
    assert top.end() == 0


def test_a_daemon_that_goes_away_is_said_so_and_asked_again(own_daemon, terminal):
    daemon = own_daemon().start()
    top = terminal(daemon)
    top.shows("0 sandboxes")
    daemon.stop()
    top.shows("No answer since", "not reachable")
    top.type("?")
    top.shows("freeze what is shown")
    daemon.start()
    wait_until(lambda: "No answer" not in "\n".join(top.screen), "it to find the daemon again")
    top.type("q")
    assert top.end() == 0


def test_a_daemon_that_never_answered_is_exit_69(own_daemon, terminal):
    top = terminal(own_daemon())
    assert top.end() == 69
    assert b"not reachable" in top.output and ENTER not in top.output


def test_colour_is_only_for_terminals_that_want_it(daemon, terminal):
    def coloured(**environment):
        top = terminal(daemon, **environment)
        top.shows("q quit")
        return re.search(rb"\x1b\[\d+m", top.output) is not None
    assert coloured()
    assert not coloured(NO_COLOR="1")
    dumb = terminal(daemon, TERM="dumb")
    assert dumb.end() == 0
    assert b"\x1b" not in dumb.output and b"SANDBOX" in dumb.output


def test_a_terminal_without_utf_8_gets_ascii(daemon, terminal):
    top = terminal(daemon, LANG="C")
    top.shows("CURRENTv", "..")
    assert top.output.isascii()


def test_without_a_terminal_it_is_one_snapshot(daemon, terminal):
    page = daemon.fn("top")
    text = page.stdout.decode()
    assert page.returncode == 0 and "\x1b" not in text
    assert "budget  " in text and "2 sandboxes" in text
    assert {"counter", "hello-python"} <= set(text.split())
    found = json.loads(daemon.fn("top", "-o", "json").stdout)
    assert {s["function"] for s in found["sandboxes"]} == {"counter", "hello-python"}
    assert found["ledger"]["budget"] > 0
    assert len(daemon.fn("top", "-q").stdout.split()) == 2
    asked = terminal(daemon, "top", "-o", "json")
    assert asked.end() == 0
    assert ENTER not in asked.output
