# SPDX-License-Identifier: Apache-2.0
"""What it costs to start a sandbox, beside bubblewrap, crun, and the bare program.

Runs on the host itself, in a cgroup2 that may have no controllers: what limits cost is not in it then. Each figure is the
median of interleaved rounds. The short form shows the ratios; the long form, on a machine that does nothing else, judges.
"""
import http.client
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import threading
import time

import pytest

from conftest import BIN, IMAGES, RUNTIMES, Daemon, clean, make_group, wait_until
from test_warm_path import BUILT, LONG, meets

ROUNDS, EACH = (15, 20) if LONG else (4, 5)
IMAGE = pathlib.Path(IMAGES) / "python"
# Others may still be starting.
PAUSE = 0.2
# More than a program of its own: all that a busy host has.
MOUNTS, DESCRIPTORS, RESIDENT = 500, 10_000, 300


class Launcher:
    """Sandboxes started as the daemon starts them, by a process that is told how many."""

    def __init__(self, code, state, *size, wrapper=()):
        self.group = make_group()
        state.mkdir()
        self.process = subprocess.Popen(
            [*wrapper, BUILT / "launch-bench", self.group, state, BIN / "fn-init", BIN / "fn-bridge", IMAGE, code, *map(str, size)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def round(self, what="launch"):
        self.process.stdin.write(f"{what} {EACH}\n")
        self.process.stdin.flush()
        return [float(self.process.stdout.readline()) for _ in range(EACH)]

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0
        for group in sorted((p for p in self.group.glob("**/") if p.is_dir()), reverse=True):
            group.rmdir()


def spawn(*command):
    """One round of a command whose program says when it began."""
    result = subprocess.run([BUILT / "spawn", str(EACH), *map(str, command)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, f"{result.returncode}: {result.stderr}"
    return [float(line) for line in result.stdout.split()]


def interleaved(*rounds):
    """Medians; each has its turn in each round, and the first round is not counted."""
    seen = [[] for _ in rounds]
    for number in range(ROUNDS + 1):
        for round, figures in zip(rounds, seen):
            result = round()
            if number:
                figures += result
    return [statistics.median(figures) for figures in seen]


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    directory = tmp_path_factory.mktemp("code")
    shutil.copy(BUILT / "first", directory / "first")
    directory.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, code):
    """The same program as an OCI bundle, with crun's own default confinement and no cgroup."""
    directory = tmp_path_factory.mktemp("bundle")
    root = directory / "rootfs"
    for name in ("proc", "dev", "sys"):
        (root / name).mkdir(parents=True)
    shutil.copy(code / "first", root / "first")
    subprocess.run(["crun", "spec"], cwd=directory, check=True)
    config = json.loads((directory / "config.json").read_text())
    config["process"].update(terminal=False, args=["/first"])
    config["process"].pop("rlimits", None)
    config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "cgroup"]
    config["mounts"] = [m for m in config["mounts"] if m["destination"] in ("/proc", "/dev")]
    (directory / "config.json").write_text(json.dumps(config))
    return directory


# crun refuses a host whose controllers are on v1 before it looks whether it shall use any: it is shown the v2 mount alone.
ONLY_V2 = [] if pathlib.Path("/sys/fs/cgroup/cgroup.procs").exists() else [
    "unshare", "--mount", "--propagation", "private", "bash", "-c",
    'mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && exec "$@"', "bash"]


def crun(bundle):
    names = iter(range(10**9))

    def round():
        figures = []
        for _ in range(EACH):  # one at a time: each needs a name of its own
            name = f"ebb-bench-{os.getpid()}-{next(names)}"
            result = subprocess.run(
                [*ONLY_V2, BUILT / "spawn", "1", "crun", f"--root={bundle}/state", "--cgroup-manager=disabled", "run",
                 f"--bundle={bundle}", name], capture_output=True, text=True, timeout=60)
            assert result.returncode == 0, f"{result.returncode}: {result.stderr}"
            figures.append(float(result.stdout))
        return figures
    return round


@pytest.fixture(scope="module")
def launcher(code, tmp_path_factory):
    made = Launcher(code, tmp_path_factory.mktemp("plain") / "state")
    yield made
    made.close()


def test_a_sandbox_starts_in_a_fraction_of_the_time_of_bubblewrap_and_crun(launcher, code, bundle):
    bwrap = ["bwrap", "--unshare-all", "--ro-bind", IMAGE, "/", "--ro-bind", code, "/var/task", "--proc", "/proc",
             "--dev", "/dev", "--tmpfs", "/tmp", "/var/task/first"]
    own, taken, wrapped, contained, bare = interleaved(
        launcher.round, lambda: launcher.round("take"), lambda: spawn(*bwrap), crun(bundle), lambda: spawn(code / "first"))
    # With every pool full: a sandbox is there (`pools.prewarm`), and gets code, limits and the program.
    meets("launch in a sandbox that waits / crun run", 0.15, taken / contained, own_us=taken, crun_us=contained)
    meets("launch in a sandbox that waits / bwrap --unshare-all", 0.15, taken / wrapped, own_us=taken, bwrap_us=wrapped)
    # With namespaces and mounts in stock, and no sandbox: what the first of a burst finds, and who may take none.
    meets("launch of a sandbox / crun run", 0.15, own / contained, own_us=own, crun_us=contained)
    meets("launch of a sandbox / bwrap --unshare-all", 0.2, own / wrapped, own_us=own, bwrap_us=wrapped, bare_us=bare)


def test_a_busy_host_and_a_large_daemon_make_no_start_slow(launcher, code, tmp_path):
    mounts = tmp_path / "mounts"
    mounts.mkdir()
    script = f"mount -t tmpfs none {mounts} && cd {mounts} && for i in $(seq {MOUNTS}); do mkdir $i && mount --bind $i $i; done; exec \"$@\""
    large = Launcher(code, tmp_path / "state", DESCRIPTORS, RESIDENT,
                     wrapper=["unshare", "--mount", "--propagation", "private", "bash", "-c", script, "bash"])
    try:
        plain, busy = interleaved(launcher.round, large.round)
    finally:
        large.close()
    meets(f"launch with {MOUNTS} mounts, {DESCRIPTORS} descriptors, {RESIDENT} MB / plain", 1.3, busy / plain,
          busy_us=busy, plain_us=plain)


# MARK: through HTTP


@pytest.fixture(scope="module")
def daemon():
    running = Daemon("reclaim: {mode: auto}\ndefaults: {timeout: 60s, init_timeout: 60s}\npools: {prewarm: 4}\n",
                     prewarm=True).start()
    yield running
    clean(running)


class Caller:
    def __init__(self, daemon):
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
        self.connection.connect()

    def call(self, name, event=b"{}", **headers):
        """Milliseconds, and how it was started."""
        self.began = time.monotonic()
        self.connection.request("POST", f"/invoke/{name}", event, {key.replace("_", "-"): value for key, value in headers.items()})
        response = self.connection.getresponse()
        self.body = response.read()
        took = (time.monotonic() - self.began) * 1000
        assert response.status == 200, self.body
        return took, response.headers["X-Fn-Start"]


def deploy(daemon, name, files, runtime):
    source = daemon.directory / "code" / name
    source.mkdir(parents=True, exist_ok=True)
    for file, contents in files.items():
        if isinstance(contents, pathlib.Path):
            shutil.copy(contents, source / file)
        else:
            (source / file).write_text(contents)
    # One sandbox: each cold start takes the place of the one before.
    result = daemon.fn("deploy", source, "--name", name, "--runtime", runtime, "--handler", "app.handle",
                       "--concurrency", "1")
    assert result.returncode == 0, result.stderr


def test_a_cold_start_of_a_small_program_adds_little_to_starting_the_program(daemon):
    deploy(daemon, "echo", {"bootstrap": BUILT / "echo"}, "provided")
    caller = Caller(daemon)

    def cold():
        figures = []
        for _ in range(EACH):
            took, start = caller.call("echo", X_Fn_Cold="1")
            assert start == "cold"
            figures.append(took * 1000)
        return figures
    own, bare = interleaved(cold, lambda: spawn(BUILT / "echo", "bare"))
    print("BENCH cold start of provided, more than fork and exec", json.dumps(
        {"own_us": round(own), "bare_us": round(bare), "more_ms": round((own - bare) / 1000, 2), "bar": 3}), flush=True)
    assert own - bare <= 3000 or not LONG

    # Both after the same pause: processors that have slept answer late.
    def figures(took):
        return took * 1000, int(caller.body) / 1000 - caller.began * 1e6

    waited, from_nothing = [], []
    for took in prewarmed(daemon, "provided", {"bootstrap": BUILT / "echo"}, caller, b'"when"'):
        waited.append(figures(took))
        time.sleep(PAUSE)
        took, start = caller.call("echo", b'"when"', X_Fn_Cold="1")
        assert start == "cold"
        from_nothing.append(figures(took))
    (answer, began), (cold_answer, cold_began) = (map(statistics.median, zip(*each)) for each in (waited, from_nothing))
    meets("first call of provided in a sandbox that waits / cold", 1, answer / cold_answer, answer_us=answer,
          first_instruction_us=began, cold_answer_us=cold_answer, cold_first_instruction_us=cold_began)


def prewarmed(daemon, runtime, files, caller, event=b"{}"):
    """Milliseconds of the first call of one new function after the other, those that found a sandbox of its runtime."""
    figures = 0
    for number in range(ROUNDS * 2):
        name = f"prewarmed-{number}"
        deploy(daemon, name, files, runtime)
        if number == 0:
            caller.call(name, event)
        wait_until(lambda: any(s["state"] == "shrunk" for s in daemon.sandboxes(f"@{runtime}")), "a prewarmed sandbox", 60)
        time.sleep(PAUSE)
        took, start = caller.call(name, event)
        if start == "prewarmed":
            figures += 1
            yield took
        assert daemon.fn("rm", name).returncode == 0
    assert figures > ROUNDS


class BareAPI:
    """Enough of a Runtime API for one event, outside of any sandbox."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answered = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        connection, _ = self.listener.accept()
        data = b""
        while b"invocation/next" not in data:
            data += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: 0\r\n"
                           b"Content-Length: 2\r\n\r\n{}")
        data = b""
        while b"/response" not in data:
            data += connection.recv(65536)
        self.answered.set()
        connection.close()
        self.listener.close()


def bare_bootstrap(source):
    """Milliseconds from the start of the same interpreter with the same bootstrap, unconfined, to its first answer."""
    def once():
        api = BareAPI()
        root, runtime = IMAGE, pathlib.Path(RUNTIMES) / "python"
        environment = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.port}", "_HANDLER": "app.handle",
                       "PYTHONMALLOC": "malloc", "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
        began = time.monotonic()
        process = subprocess.Popen(["/usr/bin/python3", "-S", runtime / "bootstrap.py"], env=environment, cwd=source,
                                   stdout=subprocess.DEVNULL)
        assert api.answered.wait(30)
        took = (time.monotonic() - began) * 1000
        process.wait(30)
        return took
    return lambda: [once() for _ in range(EACH)]


def test_python_starts_cold_about_as_fast_as_the_interpreter_itself_and_prewarmed_in_no_time(daemon, tmp_path):
    source = "def handle(event, context):\n    return {}\n"
    (tmp_path / "app.py").write_text(source)
    deploy(daemon, "python", {"app.py": source}, "python")
    caller = Caller(daemon)

    def cold():
        figures = []
        for _ in range(EACH):
            took, start = caller.call("python", X_Fn_Cold="1")
            assert start == "cold"
            figures.append(took)
        return figures
    own, bare = interleaved(cold, bare_bootstrap(tmp_path))
    meets("cold start of python / its interpreter and bootstrap alone", 1.35, own / bare, own_ms=own, bare_ms=bare)

    figures = list(prewarmed(daemon, "python", {"app.py": source}, caller))
    own = statistics.median(figures)
    print("BENCH first answer of a function in a prewarmed python", json.dumps(
        {"ms": round(own, 2), "least_ms": round(min(figures), 2), "bar": 3}), flush=True)
    assert own <= 3 or not LONG
