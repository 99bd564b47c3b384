# SPDX-License-Identifier: Apache-2.0
"""What a call costs once its sandbox is warm, beside a bare NIO server, uWSGI and Lambda's own Python client.

Speed says something on a real processor only, so this runs on the host itself, also where that cannot enforce limits.
Each figure is the median of interleaved rounds in one run; every answer is checked. `make bench-warm` runs the long form,
which judges by the bars, on a machine that does nothing else. The short form checks the answers and shows the ratios: a
processor that is busy wakes the next process in a fifth of the time that an idle one takes, so they say little there.
"""
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import time

import pytest

from conftest import Daemon, clean, wait_until

LONG = os.environ.get("EBB_LONG") == "1"
HERE = pathlib.Path(__file__).parent
BUILT = pathlib.Path(os.environ["EBB_BENCH"])
ROUNDS, CALLS = (11, 20_000) if LONG else (5, 4_000)
EVENT = '{"message": "hello"}'
PYTHON = "def handle(event, context):\n    return event\n"
# awslambdaric as a `provided` function, as its own documentation starts it.
RIC = "#!/bin/sh\nexec /usr/bin/python3 -m awslambdaric app.handle\n"
WSGI = """
import json
def handle(event, context):
    return event
def application(environ, start_response):
    event = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    body = json.dumps(handle(event, None)).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])  # nanoseconds on a processor
    return total / 1e9


def load(port, path, connections, calls):
    """One round: seconds a call, and the median of a call's time, in microseconds."""
    result = subprocess.run([BUILT / "load", str(port), path, str(connections), str(calls), EVENT],
                            capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    requests, seconds, p50, _ = result.stdout.split()
    return float(seconds) / int(requests) * 1e6, float(p50)


class Server:
    """A process that is measured: its port and path, and which processes belong to it."""

    def __init__(self, port, path, pids):
        self.port, self.path, self.pids = port, path, pids

    def round(self, connections):
        """Microseconds: of a call, of the median call, and of processor time a call."""
        before = sum(cpu_seconds(pid) for pid in self.pids())
        each, p50 = load(self.port, self.path, connections, CALLS)
        return each, p50, (sum(cpu_seconds(pid) for pid in self.pids()) - before) / CALLS * 1e6


def interleaved(connections, *servers):
    """Medians over rounds in which each server has its turn; the first round of each is not counted."""
    seen = [[] for _ in servers]
    for number in range(ROUNDS + 1):
        for server, rounds in zip(servers, seen):
            figures = server.round(connections)
            if number:
                rounds.append(figures)
    return [tuple(statistics.median(column) for column in zip(*rounds)) for rounds in seen]


def meets(name, bar, ratio, **numbers):
    """Reports a ratio and judges it; `bar` is the most that it may be."""
    print("BENCH", name, json.dumps({**{key: round(value, 1) for key, value in numbers.items()}, "ratio": round(ratio, 2), "bar": bar}), flush=True)
    assert ratio <= bar or not LONG


@pytest.fixture(scope="module")
def daemon():
    running = Daemon("reclaim: {mode: off}\ndefaults: {timeout: 60s, init_timeout: 60s}\n").start()
    yield running
    clean(running)


def deploy(daemon, name, files, runtime, handler="app.handle"):
    source = daemon.directory / "code" / name
    source.mkdir(parents=True)
    for file, contents in files.items():
        if isinstance(contents, pathlib.Path):
            if contents.is_dir():
                shutil.copytree(contents, source / file, dirs_exist_ok=True)
            else:
                shutil.copy(contents, source / file)
        else:
            (source / file).write_text(contents)
        if file == "bootstrap":
            (source / file).chmod(0o755)
    result = daemon.fn("deploy", source, "--name", name, "--runtime", runtime, "--handler", handler, "--concurrency", "1")
    assert result.returncode == 0, result.stderr
    assert daemon.invoke(name, json.loads(EVENT)).status == 200


def sandbox_pids(daemon, name):
    group = pathlib.Path(daemon.sandbox(name)["cgroup"])
    return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]


def ours(daemon, name, with_function=False):
    def pids():
        return [daemon.process.pid] + (sandbox_pids(daemon, name) if with_function else [])
    return Server(daemon.port, f"/2015-03-31/functions/{name}/invocations", pids)


@pytest.fixture(scope="module")
def echo(daemon):
    deploy(daemon, "echo", {"bootstrap": BUILT / "echo"}, "provided")
    return ours(daemon, "echo")


@pytest.fixture(scope="module")
def nio():
    port = free_port()
    process = subprocess.Popen([BUILT / "nio-echo", str(port)], stdin=subprocess.PIPE)
    wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the bare server")
    yield Server(port, "/", lambda: [process.pid])
    process.stdin.close()
    process.wait(10)


@pytest.fixture(scope="module")
def python(daemon):
    deploy(daemon, "python-echo", {"app.py": PYTHON}, "python")
    return ours(daemon, "python-echo", with_function=True)


@pytest.fixture(scope="module")
def uwsgi(tmp_path_factory):
    """One worker behind its HTTP router: alone, a worker serves one kept-alive connection and lets the others wait."""
    directory, port = tmp_path_factory.mktemp("uwsgi"), free_port()
    (directory / "app.py").write_text(WSGI)
    process = subprocess.Popen(
        ["uwsgi", "--plugin", "http,python3", "--http", f"127.0.0.1:{port}", "--http-keepalive", "--processes", "1",
         "--wsgi-file", "app.py", "--disable-logging", "--need-app", "--die-on-term"],
        cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})
    wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "uWSGI")

    def pids():
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [process.pid, *map(int, children)]
    yield Server(port, "/", pids)
    process.terminate()
    process.wait(10)


def test_a_warm_call_costs_the_daemon_a_few_times_what_a_bare_server_costs(echo, nio):
    (_, own_p50, own), (_, bare_p50, bare) = interleaved(1, echo, nio)
    meets("daemon's processor time a call / bare NIO's", 4.0, own / bare, own_us=own, bare_us=bare)
    meets("median call / bare NIO's", 2.6, own_p50 / bare_p50, own_us=own_p50, bare_us=bare_p50)


def test_a_warm_python_call_takes_less_than_twice_what_uwsgi_takes(python, uwsgi):
    (_, own, _), (_, other, _) = interleaved(1, python, uwsgi)
    meets("python: median call / uWSGI's", 1.8, own / other, own_us=own, uwsgi_us=other)


def test_eight_callers_of_one_python_sandbox_cost_a_little_over_twice_uwsgis_processor_time(python, uwsgi):
    (_, _, own), (_, _, other) = interleaved(8, python, uwsgi)
    meets("python: processor time a call at 8 connections / uWSGI's", 2.3, own / other, own_us=own, uwsgi_us=other)


def test_our_python_client_answers_twice_the_calls_of_lambdas_own(daemon, python):
    ric = pathlib.Path(os.environ["EBB_RIC"])
    files = {"bootstrap": RIC, "app.py": PYTHON, **{p.name: p for p in ric.iterdir()}}
    deploy(daemon, "official", files, "provided")
    # As many calls a second as one sandbox answers: with callers enough that it never waits for one. A single caller
    # measures mostly the way there and back, which is the same for both.
    (own, _, _), (other, _, _) = interleaved(8, python, ours(daemon, "official"))
    (alone, _, _), (other_alone, _, _) = interleaved(1, python, ours(daemon, "official"))
    print("BENCH python: time a call of a single caller / awslambdaric's", round(alone / other_alone, 2), flush=True)
    meets("python: time a call at 8 connections / awslambdaric's", 0.5, own / other, own_us=own, official_us=other)
