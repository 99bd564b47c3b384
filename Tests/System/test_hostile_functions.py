# SPDX-License-Identifier: Apache-2.0
"""What a function can do to the machine: use up everything it is given, and attack its Runtime API. It hurts itself."""
import concurrent.futures
import os
import pathlib

import pytest

from conftest import wait_until
from leaks import Leaks

LONG = os.environ.get("EBB_LONG") == "1"
CONFIG = """
defaults: {timeout: 100s, init_timeout: 100s, memory: 256MiB}
pools: {evict_after: 300ms}
reclaim: {mode: off}
"""

HOSTILE = r'''
import contextlib, errno, os, random, signal, socket, subprocess, sys, time

API = ("127.0.0.1", 9001)
kept = []

def until(kind, body):
    """How often `body` works until it fails with this error."""
    count = 0
    while True:
        try:
            body(count)
        except OSError as error:
            return {"error": errno.errorcode[error.errno], "count": count, "expected": error.errno == kind}
        count += 1

def fork(n):
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    kept.append(pid)

def processes(event):
    """Its children stay: the sandbox is full of processes when it answers."""
    return until(errno.EAGAIN, fork)

def space(event):
    with open("/tmp/bomb", "wb", buffering=0) as file:
        block = b"x" * (1 << 20)
        return until(errno.ENOSPC, lambda n: file.write(block) == len(block) or file.write(b"x"))

def inodes(event):
    return until(errno.ENOSPC, lambda n: os.close(os.open(f"/tmp/{n}", os.O_CREAT | os.O_WRONLY)))

def descriptors(event):
    opened = []
    try:
        return until(errno.EMFILE, lambda n: opened.append(os.open("/dev/null", os.O_RDONLY)))
    finally:
        for fd in opened:
            os.close(fd)

def no_output(event):
    os.close(1)
    os.close(2)
    return "still here"

def kill_init(event):
    os.kill(1, signal.SIGKILL)
    os.kill(1, signal.SIGSEGV)
    return "still here"

def kill_all(event):
    with contextlib.suppress(ProcessLookupError):  # everybody but process 1 and the caller: nobody
        os.kill(-1, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

def abort(event):
    os.abort()

def children(event):
    """Daemons that leave their session, ignore what they can, and fork again."""
    script = "trap '' TERM HUP INT; (trap '' TERM; sleep 600) & sleep 600"
    for _ in range(3):
        subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True, stdin=subprocess.DEVNULL)
    return "left them"

def deaf(event):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(600)

def connections(event):
    """Many connections that say nothing: how many the daemon keeps."""
    opened = []
    for _ in range(event["number"]):
        one = socket.socket()
        one.settimeout(20)
        try:
            one.connect(API)
        except OSError:
            one.close()
            continue
        opened.append(one)
    time.sleep(1)
    alive = 0
    for one in opened:
        one.setblocking(False)
        try:
            alive += one.recv(1) != b""
        except BlockingIOError:
            alive += 1
        except OSError:
            pass
        one.close()
    return {"opened": len(opened), "alive": alive}

def trickle(event):
    """Requests that come byte by byte, and never to their end; kept while others are served."""
    for _ in range(event["number"]):
        one = socket.create_connection(API)
        one.sendall(b"POST /2018-06-01/runtime/init/err")
        kept.append(one)
    time.sleep(event["seconds"])
    return "trickled"

PIECES = [
    b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n", b"POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\r\n",
    b"Host: x\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked, identity\r\n", b"\r\n", b"\n", b"\0", b"5\r\nhello\r\n",
    b"ffffffffffffffff\r\n", b"0\r\n\r\n", b"X: " + b"y" * 100_000 + b"\r\n", b" folded\r\n", b"GET http://[ HTTP/9.9\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"CONNECT x HTTP/1.1\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"Lambda-Runtime-Function-Response-Mode: streaming\r\n",
]

def malformed(event):
    """Random rows of pieces of HTTP and noise. Counts what came back."""
    chance = random.Random(event["seed"])
    found = {}
    for _ in range(event["number"]):
        row = b"".join(chance.choice(PIECES) if chance.random() < 0.9 else chance.randbytes(chance.randrange(1, 2000))
                       for _ in range(chance.randrange(1, 8)))
        with socket.create_connection(API) as one:
            one.settimeout(0.02)
            try:
                one.sendall(row)
                one.shutdown(socket.SHUT_WR)
                answer = one.recv(64)
            except TimeoutError:
                answer = b"(open)"
            except OSError:
                answer = b""
        kind = answer[9:12].decode("latin1") if answer.startswith(b"HTTP/1") else "open" if answer == b"(open)" else "closed"
        found[kind] = found.get(kind, 0) + 1
    return found

def pause(event):
    time.sleep(event["seconds"])

def fine(event):
    return "fine"

def handle(event, context):
    return globals()[event.get("what", "fine")](event)
'''


@pytest.fixture(scope="module")
def hostile(daemon):
    """Deployed, with a neighbour; and what the daemon has after a call, when no sandbox is left."""
    daemon.deploy_code("hostile", {"app.py": HOSTILE})
    daemon.deploy_code("neighbour", {"app.py": HOSTILE})
    # As many at once as there will be: what they take of the stock comes back to it, and is not more later.
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(daemon.invoke, name, {"what": "pause", "seconds": 2})
                 for name in ("hostile", "neighbour") for _ in range(3)]
        assert {call.result().status for call in calls} == {200}
    nobody(daemon)
    return Leaks(daemon)


def nobody(daemon):
    wait_until(lambda: not daemon.sandboxes(), "every sandbox to be gone", 30)


def attack(daemon, leaks, what, **more):
    """Lets the function do it while the neighbour is called; both work afterwards, and nothing stays."""
    with concurrent.futures.ThreadPoolExecutor() as threads:
        call = threads.submit(daemon.invoke, "hostile", {"what": what, **more})
        while not call.done():
            assert daemon.invoke("neighbour").json == "fine"
        answer = call.result()
    assert daemon.invoke("neighbour").json == "fine"
    # A full sandbox may be unable to serve again, but the next one is not.
    nobody(daemon)
    assert daemon.invoke("hostile").json == "fine"
    nobody(daemon)
    leaks.check()
    return answer


@pytest.mark.parametrize("what, least, most", [
    ("processes", 50, 127), ("space", 60, 64), ("inodes", 60_000, 65_536), ("descriptors", 900, 1024)])
def test_what_a_function_uses_up_is_its_own(daemon, hostile, what, least, most):
    answer = attack(daemon, hostile, what)
    assert answer.status == 200, answer.body
    assert answer.json["expected"] and least <= answer.json["count"] <= most, answer.json


def test_a_function_without_output_is_answered(daemon, hostile):
    assert attack(daemon, hostile, "no_output").json == "still here"


def test_process_1_cannot_be_killed_from_inside(daemon, hostile):
    assert attack(daemon, hostile, "kill_init").json == "still here"


@pytest.mark.parametrize("what", ["kill_all", "abort"])
def test_a_function_that_kills_itself_costs_its_caller_an_error_and_nobody_else(daemon, hostile, what):
    answer = attack(daemon, hostile, what)
    assert (answer.status, answer.json["errorType"]) == (502, "Runtime.ExitError"), answer.body
    assert ("signal: 6" if what == "abort" else "killed") in answer.json["errorMessage"], answer.json


def test_children_that_leave_their_session_end_with_their_sandbox(daemon, hostile):
    assert attack(daemon, hostile, "children").json == "left them"


def test_a_function_that_ignores_every_signal_is_killed_at_its_deadline(daemon, hostile):
    answer = daemon.invoke("hostile", {"what": "deaf"}, {"X-Fn-Timeout-Ms": "1500"})
    assert (answer.status, answer.json["errorType"]) == (504, "Sandbox.Timedout")
    assert daemon.invoke("hostile").json == "fine"
    nobody(daemon)
    hostile.check()


def resident(daemon):
    """MiB."""
    return int(pathlib.Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * 4096 >> 20


def test_thousands_of_connections_to_the_runtime_api_are_a_few_for_the_daemon(daemon, hostile):
    before = resident(daemon)
    # As many as its own 1024 descriptors allow, again and again.
    for _ in range(10 if LONG else 1):
        answer = daemon.invoke("hostile", {"what": "connections", "number": 1000 if LONG else 300})
        assert answer.status == 200, answer.body
        assert answer.json["alive"] <= 32, answer.json
    assert daemon.invoke("neighbour").json == "fine"
    nobody(daemon)
    hostile.check()
    assert resident(daemon) <= before + 32


def test_requests_to_the_runtime_api_that_never_end_keep_nobody_else_waiting(daemon, hostile):
    answer = attack(daemon, hostile, "trickle", number=20, seconds=2)
    assert answer.json == "trickled"


def test_malformed_requests_to_the_runtime_api_are_refused_or_cut_and_the_daemon_is_none_the_worse(daemon, hostile):
    daemon.invoke("hostile", {"what": "malformed", "number": 100, "seed": 0})
    before = resident(daemon)
    found = {}
    for seed in range(1, 1000 if LONG else 3):
        # Any of it may be understood as the end of this very invocation: then the call is answered with that.
        answer = daemon.invoke("hostile", {"what": "malformed", "number": 250, "seed": seed})
        if answer.status == 200 and isinstance(answer.json, dict):
            for kind, count in answer.json.items():
                found[kind] = found.get(kind, 0) + count
        assert daemon.invoke("neighbour").json == "fine"
    print("FAULT malformed", found, flush=True)
    assert found.get("400", 0) > 0 and not set(found) - {"open", "closed", "200", "202", "400", "403", "404", "405", "413", "431", "501", "505"}
    nobody(daemon)
    hostile.check()
    assert resident(daemon) <= before + 32
