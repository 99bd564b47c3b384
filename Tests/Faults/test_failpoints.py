# SPDX-License-Identifier: Apache-2.0
"""The daemon killed, and refused what it asks the kernel for, at every step of a launch: nothing is left, and it goes on.

These tests need programs with failpoints (Sources/CLinux/failpoint.c): debug builds. Steps and places are read from the
sources, so that a new one is tested by being there.
"""
import errno
import http.client
import io
import os
import pathlib
import re
import signal
import time
import zipfile

import boto3
import pytest

import conftest
from conftest import BIN, ROOT, SCALE, Daemon, clean, wait_until
from leaks import Leaks, nobody_left

CONFIG = "defaults: {timeout: 60s, init_timeout: 60s}\npools: {evict_after: 200ms}\nreclaim: {mode: off}\n"
BOOTSTRAP = """#!/bin/sh
exec /usr/bin/python3 -ISu /var/task/loop.py
"""
LOOP = """
import http.client, os, sys
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
base = "/2018-06-01/runtime/invocation/"
while True:
    connection.request("GET", base + "next")
    event = connection.getresponse()
    event.read()
    connection.request("POST", base + event.headers["Lambda-Runtime-Aws-Request-Id"] + "/response", body=open("/opt/word").read())
    connection.getresponse().read()
"""
HEADER = (ROOT / "Sources" / "CLinux" / "include" / "clinux.h").read_text()
STEPS = re.findall(r"\bCLINUX_STEP_(\w+)", re.search(r"enum clinux_step \{(.*?)\};", HEADER, re.S)[1])
SOURCES = "\n".join(path.read_text() for path in (ROOT / "Sources").glob("**/*.swift"))
FAILING = sorted(set(re.findall(r'Failpoint\.fail\("([\w-]+)"\)', SOURCES)))
PASSING = sorted(set(re.findall(r'Failpoint\.pass\("([\w-]+)"\)', SOURCES)))
# Not on the way of a launch: they have tests of their own below.
OTHERS = {"accepted", "request"}
KILLED = [f"launch:{number}" for number in range(1, len(STEPS) + 1)] + FAILING + [p for p in PASSING if p not in OTHERS]


def name_of(place):
    return STEPS[int(place.split(":")[1]) - 1].lower() if ":" in place else place


def camel(place):
    first, *rest = name_of(place).split("_")
    return first + "".join(word.capitalize() for word in rest)


def order(daemon, place, action):
    (daemon.directory / "failpoint").write_text(f"{place} {action}\n")


def order_nothing(daemon):
    (daemon.directory / "failpoint").unlink(missing_ok=True)


def make_daemon():
    daemon = Daemon(CONFIG)
    daemon.environment["EBB_FAILPOINT"] = str(daemon.directory / "failpoint")
    daemon.start()
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("word", '"from a layer"')
    client = boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{daemon.port}", region_name="us-east-1",
                          aws_access_key_id="x", aws_secret_access_key="x")
    arn = client.publish_layer_version(LayerName="word", Content={"ZipFile": data.getvalue()})["LayerVersionArn"]
    daemon.deploy_code("works", {"bootstrap": BOOTSTRAP, "loop.py": LOOP, "function.yaml": "proc: masked\nnetwork: egress\n"}, "provided", "none")
    client.update_function_configuration(FunctionName="works", Layers=[arn])
    return daemon


@pytest.fixture(scope="module")
def failing():
    """One daemon that every test kills or refuses something, and starts again."""
    daemon = make_daemon()
    daemon.stop()
    daemon.start()
    yield daemon
    order_nothing(daemon)
    clean(daemon)


@pytest.fixture(scope="module")
def fresh(failing):
    """What the daemon has when it has just been started."""
    return Leaks(failing)


def call(daemon, **headers):
    return daemon.invoke("works", {}, {"X-Fn-Cold": "1", **headers})


def works(daemon):
    answer = call(daemon)
    assert (answer.status, answer.body) == (200, b'"from a layer"'), answer.body


def restarts_clean(daemon, fresh):
    """After the daemon was killed: everybody dies with it, and a new one leaves nothing of the old and works."""
    died = nobody_left(daemon)
    order_nothing(daemon)
    began = time.monotonic()
    daemon.start()
    served = time.monotonic() - began
    swept = fresh.check()
    print(f"FAULT died in {died:.3f} s, served after {served:.3f} s, nothing left {swept:.3f} s later", flush=True)
    works(daemon)
    wait_until(lambda: not daemon.sandboxes(), "its sandbox to be evicted", 20)


@pytest.mark.parametrize("place", KILLED, ids=name_of)
def test_a_daemon_that_is_killed_in_a_launch_leaves_nothing_and_starts_again(failing, fresh, place):
    order(failing, place, "kill")
    with pytest.raises((OSError, http.client.HTTPException)):
        answer = call(failing)
        print(answer.status, answer.body)
    assert failing.process.wait(30 * SCALE) == -signal.SIGKILL, f"no launch came to {name_of(place)}"
    restarts_clean(failing, fresh)


@pytest.fixture(scope="module")
def settled(failing, fresh):
    """What the daemon has after a launch, with no sandbox: some of it is kept for the next one."""
    works(failing)
    wait_until(lambda: not failing.sandboxes(), "its sandbox to be evicted", 20)
    return Leaks(failing)


def refuses_and_goes_on(daemon, settled, place, said):
    order(daemon, place, errno.ENOMEM)
    answer = call(daemon)
    assert answer.status == 503 and answer.json["error"]["code"] == "CannotStart", answer.body
    message = answer.json["error"]["message"]
    assert re.search(said, message) and os.strerror(errno.ENOMEM) in message, message
    order_nothing(daemon)
    settled.check()
    works(daemon)
    wait_until(lambda: not daemon.sandboxes(), "its sandbox to be evicted", 20)
    settled.check()


@pytest.mark.parametrize("place", [k for k in KILLED if ":" in k], ids=name_of)
def test_a_step_that_fails_is_told_by_its_name_and_leaves_nothing(failing, settled, place):
    refuses_and_goes_on(failing, settled, place, re.escape(f"sandbox set-up failed at step {camel(place)}: "))


@pytest.mark.parametrize("place", FAILING)
def test_a_part_that_cannot_be_had_is_told_and_leaves_nothing(failing, settled, place):
    # The first thread that is missing may be one that sets up the way out.
    refuses_and_goes_on(failing, settled, place, "^(sandbox |egress: )")


def test_a_failed_precondition_ends_the_daemon_and_everything_with_it(failing, fresh):
    order(failing, "request", "trap")
    with pytest.raises((OSError, http.client.HTTPException)):
        call(failing)
    assert failing.process.wait(30 * SCALE) in (-signal.SIGILL, -signal.SIGTRAP, -signal.SIGABRT)
    restarts_clean(failing, fresh)


def test_a_daemon_without_its_launcher_ends_rather_than_to_answer_and_start_nothing(failing, fresh):
    order(failing, "launcher", "thread")
    with pytest.raises((OSError, http.client.HTTPException)):
        call(failing)
    assert failing.process.wait(30 * SCALE) < 0
    assert "the thread 'launcher' has ended" in failing.log
    restarts_clean(failing, fresh)


def test_a_daemon_killed_between_the_disk_and_the_202_runs_the_event_once(failing, fresh):
    order(failing, "accepted", "kill")
    with pytest.raises((OSError, http.client.HTTPException)):
        failing.invoke("works", {}, {"X-Amz-Invocation-Type": "Event"})
    assert failing.process.wait(30 * SCALE) == -signal.SIGKILL
    nobody_left(failing)
    order_nothing(failing)
    failing.start()
    # Nobody was told that it was accepted; it was, and runs, and no more than once.
    found = wait_until(lambda: [e for e in failing.request("GET", "/v1/queue").json["events"] if e["state"] == "succeeded"],
                       "the event to run", 60)
    assert len(found) == 1 and found[0]["attempts"] == 1, found
    wait_until(lambda: not failing.sandboxes(), "its sandbox to be evicted", 20)


def test_the_programs_that_are_shipped_have_no_failpoints(monkeypatch):
    """And these, which the tests are run with, have them: or nothing above would have been tested."""
    shipped = pathlib.Path(os.environ["EBB_RELEASE_BIN"])
    assert b"EBB_FAILPOINT" in (BIN / "fnd").read_bytes()
    assert b"EBB_FAILPOINT" not in (shipped / "fnd").read_bytes()
    monkeypatch.setattr(conftest, "BIN", shipped)
    daemon = Daemon(CONFIG)
    daemon.environment["EBB_FAILPOINT"] = str(daemon.directory / "failpoint")
    order(daemon, "request", "kill")
    try:
        daemon.start()
        assert daemon.invoke("nothing").status == 404
        assert daemon.process.poll() is None
    finally:
        clean(daemon)
