# SPDX-License-Identifier: Apache-2.0
"""System tests drive the real programs on a real kernel.

They run as root on a host with a usable cgroup v2, or in the small machine. With EBB_SYSTEM=required a skipped test is
a failed one.
"""
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from leaks import nothing_left

BIN = pathlib.Path(os.environ["EBB_BIN"])
IMAGES = os.environ["EBB_IMAGES"]
RUNTIMES = os.environ["EBB_RUNTIMES"]
ROOT = pathlib.Path(RUNTIMES).parent
EXAMPLES = ROOT / "Examples"
SCALE = float(os.environ.get("EBB_TIME_SCALE", "1"))
REQUIRED = os.environ.get("EBB_SYSTEM") == "required"
HAS_LIMITS = pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists() and "memory" in pathlib.Path(
    "/sys/fs/cgroup/cgroup.controllers").read_text()


def wait_until(condition, what, seconds=10):
    """Waits for a condition, not for a time; returns what it returned. `what` may be a function that tells more."""
    deadline = time.monotonic() + seconds * SCALE
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            pytest.fail(f"waited {seconds * SCALE:.0f} s for: {what() if callable(what) else what}")
        time.sleep(0.05)


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


def make_group():
    """A cgroup of our own for one daemon to build below, with the controllers that this host has."""
    unified = pathlib.Path("/sys/fs/cgroup")
    if HAS_LIMITS:
        (unified / "cgroup.subtree_control").write_text("+memory +cpu +pids +io")
    else:
        unified = unified / "unified"
    return pathlib.Path(tempfile.mkdtemp(prefix="ebb-tests-", dir=unified))


class Daemon:
    """One running fnd with directories and a cgroup of its own."""

    def __init__(self, config="", arguments=(), finds_group=False, wrapper=(), ca=None, public=False,
                 prewarm=False):
        """With `finds_group` it is started inside its group and not told where that is; `wrapper` starts it.

        `ca` is the file of the authority whose certificate it shows; `public` listens on every address. Without
        `prewarm` it starts no runtime ahead of a function: most tests count sandboxes.
        """
        self.group = make_group()
        self.finds_group = finds_group
        self.wrapper = list(wrapper)
        self.ca = ca
        self.address = "0.0.0.0" if public else "127.0.0.1"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ebb-"))
        self.state = self.directory / "state"
        self.temporary = self.directory / "tmp"
        self.temporary.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.temporary)}
        if not prewarm:
            self.environment["FN_POOLS_PREWARM"] = "0"
        self.config = self.directory / "fn.yaml"
        self.config.write_text(config)
        self.socket = self.directory / "fn.sock"
        self.log_path = self.directory / "fnd.log"
        self.arguments = list(arguments)
        self.process = None
        self.port = self.wanted_port = None

    def command(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = self.wanted_port or probe.getsockname()[1]
        command = [
            str(BIN / "fnd"), "--listen", f"{self.address}:{self.port}", "--socket", str(self.socket),
            "--state", str(self.state), "--images", IMAGES, "--runtimes", RUNTIMES,
            "--config", str(self.config), "--log-level", "debug",
        ]
        if not self.finds_group:
            command += ["--cgroup-root", str(self.group)]
        if not HAS_LIMITS:
            command += ["--allow-unenforced-limits"]
        return self.wrapper + command + self.arguments

    def enter_group(self):
        if self.finds_group:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def spawn(self):
        """Starts it, and does not wait until it serves."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment, preexec_fn=self.enter_group)

    def start(self):
        self.spawn()
        wait_until(self.is_ready, "the daemon to serve", 20)
        return self

    def descriptors(self):
        """What it has open: number and target. Others of its threads open and close while this looks."""
        found = {}
        for name in os.listdir(f"/proc/{self.process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found[int(name)] = os.readlink(f"/proc/{self.process.pid}/fd/{name}")
        return found

    def start_on_a_disk(self, size):
        """Starts it with a file system of that size of its own for its state; returns where that is seen from here."""
        state = self.directory / "state"
        mount = f'mkdir -p "$0" && mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
        self.wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", mount, str(state)]
        self.start()
        return pathlib.Path(f"/proc/{self.process.pid}/root{state}")

    def is_ready(self):
        assert self.process.poll() is None, f"fnd ended: {self.log}"
        try:
            return self.request("GET", "/readyz").status == 200
        except OSError:
            return False

    @property
    def log(self):
        return self.log_path.read_text()

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(60 * SCALE)

    def connect(self, timeout=60):
        if not self.ca:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SCALE)
        context = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout * SCALE, context=context)

    def request(self, method, path, body=b"", headers=None, timeout=60):
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return Answer(response, response.read())
        finally:
            connection.close()

    def invoke(self, name, event=None, headers=None, raw=None):
        body = raw if raw is not None else json.dumps({} if event is None else event).encode()
        return self.request("POST", f"/invoke/{name}", body, headers)

    def fn(self, *arguments, stdin=b"", env=None):
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.directory), "FN_SOCKET": str(self.socket),
            "FN_RUNTIMES": RUNTIMES, **(env or {}),
        }
        return subprocess.run(
            [str(BIN / "fn"), *map(str, arguments)], input=stdin, capture_output=True, env=environment,
            cwd=self.directory, timeout=120 * SCALE)

    def deploy(self, example, *arguments):
        result = self.fn("deploy", EXAMPLES / example, *arguments)
        assert result.returncode == 0, result.stderr.decode()

    def deploy_code(self, name, files, runtime="python", handler="app.handle", *arguments):
        """Deploys a function from file names and their contents."""
        source = self.directory / "code" / name
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir(parents=True)
        for file, text in files.items():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).write_text(text)
            if text.startswith("#!"):
                (source / file).chmod(0o755)
        result = self.fn("deploy", source, "--name", name, "--runtime", runtime, "--handler", handler, *arguments)
        assert result.returncode == 0, result.stderr.decode()

    def sandboxes(self, function=None):
        found = self.request("GET", "/v1/sandboxes").json["sandboxes"]
        return [s for s in found if function in (None, s["function"])]

    def sandbox(self, function, *states):
        """The only sandbox of a function, once it is in one of these states."""
        def look():
            found = self.sandboxes(function)
            return found[0] if len(found) == 1 and (not states or found[0]["state"] in states) else None
        return wait_until(look, f"one sandbox of {function} to be {' or '.join(states) or 'there'}", 20)

    def describe(self, function):
        return self.request("GET", f"/v1/functions/{function}").json


class Hook:
    """An HTTP server that keeps what it is sent; its first answers are errors if it is told so."""

    def __init__(self, refusals=0):
        hook = self
        self.refusals, self.received = refusals, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.received.append((self.path, dict(self.headers), json.loads(body)))
                hook.refusals -= 1
                self.send_response(500 if hook.refusals >= 0 else 204)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, id):
        return [sent for sent in self.received if sent[2]["requestContext"]["requestId"] == id]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Hog:
    """A foreign process that takes memory which cannot be swapped out."""

    PROGRAM = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None)
kept = []
for line in sys.stdin:
    block = mmap.mmap(-1, int(line))
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    assert libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(int(line))) == 0
    kept.append(block)
    print("ok", flush=True)
"""

    def __enter__(self):
        self.size = 0
        self.process = subprocess.Popen([sys.executable, "-c", self.PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        pathlib.Path(f"/proc/{self.process.pid}/oom_score_adj").write_text("1000")
        return self

    def take(self, size):
        self.process.stdin.write(f"{size}\n".encode())
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"ok\n"
        self.size += size

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def cgroup_file(sandbox, name):
    return (pathlib.Path(sandbox["cgroup"]) / name).read_text().strip()


def processes_by_group(top):
    """Each group below that has processes, with their PIDs; sandboxes may come and go meanwhile."""
    found = {}
    for directory, _, _ in os.walk(top):
        with contextlib.suppress(OSError):
            pids = (pathlib.Path(directory) / "cgroup.procs").read_text().split()
            if pids:
                found[pathlib.Path(directory)] = [int(pid) for pid in pids]
    return found


def clean(daemon):
    """Stops a daemon, checks that nothing is left of it, and removes what was made for it."""
    daemon.stop()
    try:
        nothing_left(daemon)
    finally:
        shutil.rmtree(daemon.directory)
        for group in sorted((p for p in daemon.group.glob("**/") if p.is_dir()), reverse=True):
            group.rmdir()


@pytest.fixture(scope="module")
def daemon(request):
    """One daemon for a file of tests; `CONFIG` of the file is its fn.yaml. Afterwards nothing may be left."""
    module = request.module
    running = Daemon(getattr(module, "CONFIG", ""), prewarm=getattr(module, "PREWARM", False)).start()
    yield running
    clean(running)


@pytest.fixture
def own_daemon():
    """Makes daemons for one test alone."""
    made = []

    def make(*arguments, **options):
        made.append(Daemon(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        clean(each)


@pytest.fixture
def limits():
    if not HAS_LIMITS:
        pytest.skip("this host cannot enforce limits")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if REQUIRED and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, where no test may be: {report.longrepr}"
