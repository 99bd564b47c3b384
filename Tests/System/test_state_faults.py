# SPDX-License-Identifier: Apache-2.0
"""What the state directory can do to the daemon: be full, be read-only, hold a damaged file."""
import errno
import os
import signal
import sqlite3
import subprocess

from conftest import SCALE, wait_until
from leaks import nothing_left
from test_async import CODE, ended, event, send

CONFIG = "defaults: {timeout: 60s, init_timeout: 120s, retries: 1, backoff: 300ms}\n"


def fails_to_start(daemon):
    result = subprocess.run(daemon.command(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * SCALE)
    assert result.returncode == 1, result
    return result.stderr.decode()


def fill(path):
    """Takes all the room that is left, to the last byte."""
    with open(path, "wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                size //= 2


def test_on_a_full_disk_events_are_refused_calls_go_on_and_all_is_well_when_there_is_room(own_daemon):
    daemon = own_daemon(CONFIG)
    inside = daemon.start_on_a_disk("32m")
    daemon.deploy_code("work", {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")
    before = [send(daemon, {"key": str(n)}) for n in range(5)]
    for id in before:
        ended(daemon, id)
    running = send(daemon, {"key": "runs", "sleep": 3})
    wait_until(lambda: event(daemon, running)["state"] == "running", "it to run")
    fill(inside / "filler")

    def refused():
        answer = daemon.invoke("work", {"pad": "x" * 50_000}, {"X-Amz-Invocation-Type": "Event"})
        return answer if answer.status != 202 else None
    answer = wait_until(refused, "the disk to be full", 30)
    assert answer.status == 503 and answer.json["error"]["code"] == "DiskFull", answer.body
    assert "events.sqlite is full" in answer.json["error"]["message"]
    assert daemon.fn("invoke", "work", "--async", "-d", '{"pad": "' + "x" * 50_000 + '"}').returncode == 1
    # The sandbox that is there goes on, and the daemon answers.
    assert daemon.invoke("work", {"key": "now"}).status == 200
    assert daemon.request("GET", "/v1/queue").status == 200
    os.unlink(inside / "filler")
    ended(daemon, running)
    after = send(daemon, {"key": "after"})
    ended(daemon, after)
    for id in before:
        assert event(daemon, id)["state"] == "succeeded"
    for name in ("events.sqlite", "registry.sqlite"):
        with sqlite3.connect(inside / name) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_state_directory_that_cannot_be_written_is_refused_by_its_name(own_daemon):
    daemon = own_daemon(CONFIG).start()
    daemon.stop()
    state = daemon.directory / "state"
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    daemon.wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", mount, str(state)]
    said = fails_to_start(daemon)
    assert f"the state directory {state} cannot be written" in said and "Read-only file system" in said
    daemon.wrapper = []
    daemon.start()


def test_a_damaged_queue_is_refused_by_its_name_and_what_to_do_and_functions_are_still_there(own_daemon):
    daemon = own_daemon(CONFIG).start()
    daemon.deploy_code("work", {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")
    for n in range(20):
        send(daemon, {"key": str(n), "pad": "x" * 5000})
    daemon.stop()
    path = daemon.directory / "state" / "events.sqlite"
    whole = path.read_bytes()
    for damage in (b"garbage" * 1000, whole[: len(whole) // 2], whole[:8192] + b"\x5a" * 4096 + whole[12288:]):
        path.write_bytes(damage)
        said = fails_to_start(daemon)
        assert f"{path} is damaged (" in said and f"move {path}, {path}-wal and {path}-shm away" in said, said
        nothing_left(daemon)
    path.unlink()
    daemon.start()
    assert daemon.invoke("work", {"key": "again"}).status == 200
    assert daemon.request("GET", "/v1/queue").json["events"] == []


def test_a_torn_log_of_the_database_loses_nothing_that_was_accepted(own_daemon):
    """After a power cut the end of SQLite's log may be anything: what is not whole there was never accepted."""
    daemon = own_daemon(CONFIG).start()
    daemon.deploy_code("work", {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")
    sent = [send(daemon, {"key": str(n)}) for n in range(5)]
    daemon.stop(signal.SIGKILL)
    wal = daemon.directory / "state" / "events.sqlite-wal"
    with open(wal, "ab") as file:
        file.write(os.urandom(10_000))
    daemon.start()
    for id in sent:
        ended(daemon, id)
