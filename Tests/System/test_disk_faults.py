# SPDX-License-Identifier: Apache-2.0
"""A disk whose power is cut, and a disk that fails: what was acknowledged is kept, and nothing else is claimed."""
import contextlib
import hashlib
import io
import json
import os
import random
import sqlite3
import threading
import time
import zipfile

import boto3
import botocore.config
import botocore.exceptions
import pytest

from conftest import SCALE, wait_until
from disk import Disk, has_mapper
from leaks import nothing_left
from test_async import ended, event, send

CONFIG = "defaults: {timeout: 60s, init_timeout: 120s, retries: 1, backoff: 300ms}\n"
# Says which code it is, and what of it is there.
CODE = """
import hashlib, os, time
def handle(event, context):
    if "sleep" in event:
        time.sleep(event["sleep"])
        return {"key": event["key"]}
    found = hashlib.sha256()
    for directory, _, names in sorted(os.walk("/var/task")):
        for name in sorted(names):
            path = os.path.join(directory, name)
            found.update(path[len("/var/task/"):].encode() + b"=" + open(path, "rb").read())
    return {"key": event.get("key"), "token": open("/var/task/token").read(), "sum": found.hexdigest()}
"""


def files(token):
    """Code of its own for each token: one large file, small ones, a directory."""
    chance = random.Random(token)
    return {"app.py": CODE.encode(), "token": token.encode(), "large": chance.randbytes(300_000),
            **{f"parts/{n}": chance.randbytes(chance.randrange(5000)) for n in range(10)}}


def archive(token):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as whole:
        for name, contents in files(token).items():
            whole.writestr(zipfile.ZipInfo(name), contents)
    return data.getvalue()


def sum_of(token):
    found = hashlib.sha256()
    for name, contents in sorted(files(token).items(), key=lambda item: ("/" in item[0], item[0])):
        found.update(name.encode() + b"=" + contents)
    return found.hexdigest()


def client_of(daemon):
    config = botocore.config.Config(retries={"max_attempts": 0}, read_timeout=60 * SCALE, connect_timeout=60 * SCALE)
    return boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{daemon.port}", region_name="us-east-1",
                        aws_access_key_id="x", aws_secret_access_key="x", config=config)


def create(client, name, token):
    client.create_function(FunctionName=name, Runtime="python", Handler="app.handle", Role="x", Timeout=50,
                           Code={"ZipFile": archive(token)})


class Promises:
    """What was asked for and what of it was acknowledged: values by name, each name one thread's."""

    def __init__(self):
        self.lock, self.asked, self.given = threading.Lock(), {}, {}

    @contextlib.contextmanager
    def asking(self, name, value):
        with self.lock:
            self.asked.setdefault(name, []).append(value)
        yield
        with self.lock:
            self.given[name] = len(self.asked[name]) - 1

    def kept(self):
        with self.lock:
            return dict(self.given)

    def count(self):
        with self.lock:
            return sum(n + 1 for n in self.given.values())

    def possible(self, kept):
        """By name what may be on a disk that has at least what was acknowledged by then; `None` is nothing."""
        with self.lock:
            return {name: values[kept[name]:] if name in kept else [None, *values]
                    for name, values in self.asked.items()}


class Client(threading.Thread):
    """Does things and notes what was acknowledged, until it is told to stop."""

    def __init__(self, daemon, promises, number):
        super().__init__(daemon=True)
        self.target, self.promises, self.number = daemon, promises, number
        self.chance, self.stopped, self.problem, self.tokens = random.Random(number), threading.Event(), None, 0

    def run(self):
        try:
            self.prepare()
            while not self.stopped.is_set():
                self.act()
        except BaseException as problem:
            self.problem = problem

    def prepare(self):
        pass

    def token(self):
        self.tokens += 1
        return f"{self.number}.{self.tokens}"


class Sender(Client):
    """Sends events."""

    def act(self):
        key = self.token()
        answer = self.target.invoke("work", {"key": key}, {"X-Amz-Invocation-Type": "Event"})
        assert answer.status == 202, answer.body
        with self.promises.asking(f"event {answer.json['requestId']}", key):
            pass
        time.sleep(self.chance.uniform(0, 0.4) * SCALE)  # all that was accepted has to run afterwards


class Deployer(Client):
    """Deploys functions and code for them, publishes versions and points aliases at them."""

    def prepare(self):
        self.client, self.names, self.current, self.has_alias = client_of(self.target), [], {}, set()

    def act(self):
        if len(self.names) < 2:
            name, token = f"f{self.number}-{len(self.names)}", self.token()
            with self.promises.asking(f"code {name}", token):
                create(self.client, name, token)
            self.names.append(name)
            self.current[name] = token
            return
        name = self.chance.choice(self.names)
        if self.chance.random() < 0.6:
            token = self.token()
            with self.promises.asking(f"code {name}", token):
                self.client.update_function_code(FunctionName=name, ZipFile=archive(token))
            self.current[name] = token
            return
        number = self.client.publish_version(FunctionName=name)["Version"]
        with self.promises.asking(f"version {name}:{number}", self.current[name]):
            pass
        with self.promises.asking(f"alias {name}", number):
            change = self.client.update_alias if name in self.has_alias else self.client.create_alias
            change(FunctionName=name, Name="live", FunctionVersion=number)
        self.has_alias.add(name)


@pytest.fixture
def disks():
    """Makes disks for one test."""
    made = []

    def make(*arguments, **options):
        made.append(Disk(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.remove()


@pytest.fixture
def own_daemons(disks, own_daemon):
    """`own_daemon` whose daemons are gone before the disks are."""
    return own_daemon


@pytest.fixture
def mapper():
    if not has_mapper():
        pytest.skip("this host has no device mapper")


def runs_whole(daemon, name, tokens):
    """A function runs with one of these codes, and all of it is there. Returns which."""
    answer = daemon.invoke(name, {"key": "look"})
    assert answer.status == 200, (name, answer.body)
    assert answer.json["token"] in tokens and answer.json["sum"] == sum_of(answer.json["token"]), (name, answer.json, tokens)
    return answer.json["token"]


def trees_are_whole(state):
    """Everything that has its place in the store is what was uploaded, whoever was told so."""
    for place in (state / "code").iterdir():
        uploaded = (place / "archive").read_bytes()
        assert hashlib.sha256(uploaded).hexdigest() == place.name
        with zipfile.ZipFile(io.BytesIO(uploaded)) as whole:
            expected = {name: whole.read(name) for name in whole.namelist()}
        found = {str(path.relative_to(place / "tree")): path.read_bytes()
                 for path in (place / "tree").glob("**/*") if path.is_file()}
        assert found == expected, place


def databases_are_whole(state):
    for name in ("events.sqlite", "registry.sqlite"):
        with sqlite3.connect(state / name) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def keeps_its_promises(daemon, disk, possible):
    """A daemon that has just been started on a disk has all that was promised, and serves nothing damaged."""
    client, state = client_of(daemon), disk.mounted_at / "state"
    databases_are_whole(state)
    trees_are_whole(state)
    there = {f["FunctionName"] for f in client.list_functions()["Functions"]}
    for name, values in possible.items():
        kind, subject = name.split(" ", 1)
        if kind == "event":
            assert "state" in event(daemon, subject), f"event {values} was accepted, and is gone"
        elif kind == "code":
            assert subject in there or None in values, f"{subject} was deployed, and is gone"
            if subject in there:
                runs_whole(daemon, subject, values)
        elif kind == "alias":
            try:
                version = client.get_alias(FunctionName=subject, Name="live")["FunctionVersion"]
            except client.exceptions.ResourceNotFoundException:
                version = None
            assert version in values, (subject, version, values)
            if version:
                runs_whole(daemon, f"{subject}:live", possible[f"version {subject}:{version}"])
        elif None not in values:
            client.get_function(FunctionName=subject)
    for name, values in possible.items():
        if name.startswith("event "):
            assert json.loads(ended(daemon, name[6:])["result"])["key"] == values[-1]


def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(own_daemons, disks):
    disk = disks()
    daemon = own_daemons(CONFIG)
    daemon.state = disk.mounted_at / "state"
    daemon.start()
    create(client_of(daemon), "work", "work")
    chance, promises, cuts = random.Random(int(os.environ.get("EBB_SEED") or 1)), Promises(), []
    clients = [Sender(daemon, promises, 1), Sender(daemon, promises, 2), Deployer(daemon, promises, 3),
               Deployer(daemon, promises, 4)]
    for client in clients:
        client.start()
    for _ in range(12 if os.environ.get("EBB_LONG") == "1" else 3):
        before = promises.count()
        wait_until(lambda: promises.count() > before + 8 or any(c.problem for c in clients), "more to be promised", 60)
        time.sleep(chance.uniform(0, 0.5) * SCALE)
        kept = promises.kept()
        cuts.append((disk.cut(daemon), promises.possible(kept), kept))
    for client in clients:
        client.stopped.set()
    for client in clients:
        client.join(120 * SCALE)
        assert client.problem is None, client.problem
    daemon.stop()
    for copy, possible, kept in cuts:
        after = disks(copy)
        daemon.state = after.mounted_at / "state"
        daemon.start()
        keeps_its_promises(daemon, after, possible)
        daemon.stop()
        nothing_left(daemon)
        print("CUT", {kind: sum(name.startswith(kind) for name in kept) for kind in ("event", "code", "version", "alias")}, flush=True)


def refused_by_the_disk(answer):
    assert answer.status == 503 and answer.json["error"]["code"] == "DiskFailed", answer.body
    message = answer.json["error"]["message"]
    assert "the disk that holds" in message and "fails" in message and "\n" not in message, message


@pytest.mark.parametrize("journal", [False, True], ids=["mends", "shut"])
def test_a_disk_that_fails_has_everything_refused_that_it_would_have_to_keep_and_is_used_when_it_works(
        own_daemons, disks, mapper, journal):
    """With a journal the file system shuts down with its first failure, and no file of it can be opened any more until it
    has been mounted again; without one it goes on as soon as the disk does."""
    disk, promises = disks(journal=journal), Promises()
    daemon = own_daemons(CONFIG)
    daemon.state = disk.mounted_at / "state"
    daemon.start()
    client = client_of(daemon)
    create(client, "work", "work")

    def accepted(key, **more):
        id = send(daemon, {"key": key, **more})
        with promises.asking(f"event {id}", key):
            return id

    def deployed(name, token):
        with promises.asking(f"code {name}", token):
            create(client, name, token)
    deployed("before", "3.1")
    for n in range(3):
        ended(daemon, accepted(f"before {n}"))
    running = accepted("running", sleep=2)
    wait_until(lambda: event(daemon, running)["state"] == "running", "it to run", 30)
    disk.fail()
    refused_by_the_disk(daemon.invoke("work", {"key": "refused"}, {"X-Amz-Invocation-Type": "Event"}))
    for change in (lambda: create(client, "refused", "3.2"),
                   lambda: client.update_function_code(FunctionName="before", ZipFile=archive("3.3")),
                   lambda: client.publish_version(FunctionName="before")):
        with pytest.raises(botocore.exceptions.ClientError) as refusal:
            change()
        assert refusal.value.response["Error"]["Code"] == "ServiceException", refusal.value
        assert "fails" in refusal.value.response["Error"]["Message"], refusal.value
    result = daemon.fn("invoke", "work", "--async", "-d", "{}")
    assert result.returncode == 1 and len(result.stderr.strip().splitlines()) == 1, result
    wait_until(lambda: "cannot be written" in daemon.log, "the daemon to say that it cannot keep a result", 30)
    # What needs no disk goes on.
    answer = daemon.invoke("work", {"key": "now", "sleep": 0})
    assert (answer.status, answer.json) == (200, {"key": "now"}), answer.body
    assert daemon.request("GET", "/readyz").status == 200
    disk.work()
    if journal:
        daemon.stop()
        disk.unmount()
        disk.mount()
        daemon.start()
        client = client_of(daemon)

    def takes_events():
        answer = daemon.invoke("work", {"key": "after"}, {"X-Amz-Invocation-Type": "Event"})
        if answer.status != 202:
            return refused_by_the_disk(answer)
        with promises.asking(f"event {answer.json['requestId']}", "after"):
            return True
    wait_until(takes_events, "events to be taken again", 30)

    def takes_code():
        try:
            return deployed("after", "3.2") or True  # the code that was refused
        except botocore.exceptions.ClientError as refusal:
            assert "fails" in refusal.response["Error"]["Message"], refusal
            refusals.append(str(refusal))
    # The kernel may have failures to tell that nobody has asked for yet: the next sync is told, and no later one.
    refusals = []
    wait_until(takes_code, lambda: f"code to be taken again; {refusals[-1]}", 30)
    copy, possible = disk.cut(daemon), promises.possible(promises.kept())
    keeps_its_promises(daemon, disk, possible)
    if not journal:
        return  # a cut would be the file system's own end
    daemon.stop()
    nothing_left(daemon)
    after = disks(copy)
    daemon.state = after.mounted_at / "state"
    daemon.start()
    keeps_its_promises(daemon, after, possible)


# Reads its own code past the page cache, so that it waits for the disk itself: no signal ends that.
READER = """
import mmap, os
def handle(event, context):
    if event.get("read"):
        file = os.open("/var/task/large", os.O_RDONLY | os.O_DIRECT)
        return os.preadv(file, [mmap.mmap(-1, 65536)], 0)
    return "here"
"""


def test_a_sandbox_that_waits_for_a_disk_beyond_sigkill_is_given_up_keeps_its_place_and_goes_with_the_wait(
        own_daemons, disks, mapper):
    disk, daemon = disks(), own_daemons(CONFIG)
    daemon.state.mkdir()
    (disk.mounted_at / "code").mkdir()
    (daemon.state / "code").symlink_to(disk.mounted_at / "code")
    daemon.start()
    daemon.deploy_code("reader", {"app.py": READER, "large": "x" * 300_000}, "python", "app.handle")
    assert daemon.invoke("reader", {"read": True}).json == 65536
    stuck = daemon.sandbox("reader", "idle", "shrunk")
    with disk.suspended():
        answer = daemon.invoke("reader", {"read": True}, {"X-Fn-Timeout-Ms": "1000"})
        assert (answer.status, answer.json["errorType"]) == (504, "Sandbox.Timedout"), answer.body
        assert f"{stuck['id']} was killed and does not end" in daemon.log
        wait_until(lambda: f"sandbox {stuck['id']} cannot be removed" in daemon.log, "the daemon to say so", 30)
        left = next(s for s in daemon.sandboxes("reader") if s["id"] == stuck["id"])
        assert left["state"] == "stopping" and left["held"] > 0, left
        # The others go on, the same function's too.
        answer = daemon.invoke("reader")
        assert (answer.status, answer.json, answer.headers["x-fn-start"]) == (200, "here", "cold")
    wait_until(lambda: stuck["id"] not in [s["id"] for s in daemon.sandboxes("reader")], "it to be removed", 100)
    assert daemon.invoke("reader", {"read": True}).json == 65536
    daemon.stop()
    nothing_left(daemon)
