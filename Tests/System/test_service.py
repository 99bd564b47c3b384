# SPDX-License-Identifier: Apache-2.0
"""The daemon as a service: what it tells the manager that started it, and when."""
import os
import pathlib
import signal
import socket

import pytest

from conftest import SCALE, wait_until


class Manager:
    """Listens as systemd does: a datagram socket that $NOTIFY_SOCKET names."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.socket.settimeout(30 * SCALE)

    def next(self, wanted):
        """The next message that is no sign of life, as a mapping; it has to hold the wanted key."""
        while True:
            text = self.socket.recv(4096).decode()
            message = dict(line.split("=", 1) for line in text.splitlines())
            if "WATCHDOG" not in message or wanted == "WATCHDOG":
                assert wanted in message, text
                return message


@pytest.fixture
def manager(monkeypatch, tmp_path, request):
    address = getattr(request, "param", None) or str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    manager = Manager(address)
    yield manager
    manager.socket.close()


@pytest.mark.parametrize("manager", [None, f"@ebb-{os.getpid()}"], indirect=True, ids=["path", "abstract"])
def test_it_is_ready_when_it_serves_from_a_leaf_and_says_when_it_stops(manager, own_daemon):
    daemon = own_daemon(finds_group=True)
    daemon.start()
    message = manager.next("READY")
    assert message["READY"] == "1" and str(daemon.port) in message["STATUS"]
    # Before READY it has left the group that it was given: systemd makes `.control` there for a reload, which a group
    # with processes would not allow once it hands controllers down.
    own = pathlib.Path(f"/proc/{daemon.process.pid}/cgroup").read_text()
    assert f"/{daemon.group.name}/fn.slice/daemon" in own
    assert (daemon.group / "cgroup.procs").read_text() == ""
    control = daemon.group / ".control"
    control.mkdir()
    control.rmdir()
    daemon.process.send_signal(signal.SIGTERM)
    assert manager.next("STOPPING")["STOPPING"] == "1"
    daemon.process.wait(60 * SCALE)


def test_a_reload_is_told_from_its_begin_to_its_end_and_a_bad_file_too(manager, own_daemon):
    daemon = own_daemon("defaults: {memory: 96MiB}\n").start()
    manager.next("READY")
    daemon.config.write_text("defaults: {memory: 80MiB}\n")
    daemon.process.send_signal(signal.SIGHUP)
    assert int(manager.next("RELOADING")["MONOTONIC_USEC"]) > 0
    manager.next("READY")
    # When it says so, the file is in force: nobody has to wait for the once-a-second look.
    assert b"defaults.memory: 80MiB" in daemon.fn("config", "show").stdout
    daemon.config.write_text("defaults: {memory: lots}\n")
    daemon.process.send_signal(signal.SIGHUP)
    manager.next("RELOADING")
    manager.next("READY")
    assert "the settings in force stay" in daemon.log
    assert b"defaults.memory: 80MiB" in daemon.fn("config", "show").stdout


def test_a_watchdog_hears_of_it_while_it_works_and_not_when_it_hangs(manager, own_daemon, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", str(int(1_000_000 * SCALE)))
    daemon = own_daemon().start()
    manager.next("READY")
    for _ in range(3):
        manager.next("WATCHDOG")
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: "T (stopped)" in pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text(), "the stop")
        manager.socket.setblocking(False)
        while True:  # what was sent before
            try:
                manager.socket.recv(4096)
            except BlockingIOError:
                break
        manager.socket.settimeout(2 * SCALE)
        with pytest.raises(TimeoutError):
            manager.socket.recv(4096)
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    manager.socket.settimeout(30 * SCALE)
    manager.next("WATCHDOG")
