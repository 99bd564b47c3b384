# SPDX-License-Identifier: Apache-2.0
"""Logs: of functions, bounded and apart from each other; of the daemon, for people and for programs."""
import json
import os
import pty
import re
import statistics
import subprocess
import threading
import time

import pytest
from conftest import BIN, SCALE, wait_until

CONFIG = "defaults: {timeout: 60s, init_timeout: 60s}\nlog: {functions: {retain: 1MiB}}\n"

SAYS = """
import sys
def handle(event, context):
    print(event.get("say", "hello"))
    if event.get("fails"):
        raise ValueError("no")
    return "said"
"""
FLOOD = """
import os
def handle(event, context):
    line = b"all work and no play makes jack a dull boy; " * 20
    block = (line + b"\\n") * (65536 // (len(line) + 1))
    left = event["bytes"]
    while left > 0:
        left -= os.write(1, block)
    return "done"
"""
ECHO = "def handle(event, context):\n    return event"


def on_terminal(command, env, done=lambda text: False):
    """Runs a program on a terminal of its own; returns what that shows, when it ends or `done`."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    shown, deadline = b"", time.monotonic() + 60 * SCALE
    while time.monotonic() < deadline and not done(shown.decode(errors="replace")):
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    if process.poll() is None and done(shown.decode(errors="replace")):
        process.terminate()
    process.wait(60 * SCALE)
    os.close(master)
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture(scope="module", autouse=True)
def functions(daemon):
    daemon.deploy_code("says", {"app.py": SAYS})
    daemon.deploy_code("flood", {"app.py": FLOOD}, "python", "app.handle", "--timeout", "900s")
    daemon.deploy_code("echo", {"app.py": ECHO})


def fn_logs(daemon, *arguments, **env):
    environment = {"PATH": os.environ["PATH"], "FN_SOCKET": str(daemon.socket), "TERM": "xterm", "TZ": "UTC", **env}
    return on_terminal([str(BIN / "fn"), "logs", *arguments], environment)


def test_fn_logs_is_pretty_on_a_terminal_and_json_when_piped(daemon):
    id = daemon.invoke("says", {"say": "a \x1b[2J line", "fails": True}).headers["x-fn-request-id"]
    piped = [json.loads(line) for line in daemon.fn("logs", "says", "--request", id).stdout.splitlines()]
    assert all(set(line) == {"time", "requestId", "sandbox", "message"} for line in piped)
    shown = fn_logs(daemon, "says", "--request", id).splitlines()
    assert len(shown) == len(piped)
    for line, view in zip(shown, piped):
        plain = re.sub(r"\x1b\[\d*m", "", line)
        # The clock of who reads, which is UTC here; the request's id in short; and nothing that moves the cursor.
        assert plain.startswith(f"{view['time'][11:23]} {id[:8]} ")
        assert line.startswith("\x1b[2m") and "\x1b[2J" not in line
    assert any("a \\x1b[2J line" in line for line in shown)
    assert any(line.endswith("\x1b[0m") and "\x1b[36mSTART RequestId" in line for line in shown)
    assert any("\x1b[31mREPORT RequestId" in line for line in shown)
    assert "\x1b" not in fn_logs(daemon, "says", "--request", id, NO_COLOR="1")
    assert "\x1b" not in fn_logs(daemon, "says", "--request", id, TERM="dumb")
    # What was asked for explicitly holds, wherever it goes.
    assert [json.loads(line) for line in fn_logs(daemon, "says", "--request", id, "-o", "json").splitlines()] == piped
    pretty = daemon.fn("logs", "says", "--request", id, "-o", "pretty").stdout.decode()
    assert f" {id[:8]} START RequestId: {id}" in pretty and "\x1b" not in pretty


def test_a_function_that_floods_fills_no_disk_and_slows_no_other(daemon):
    # A gigabyte, or what this machine prints in a quarter of a minute; with EBB_LONG a gigabyte.
    size, patience = 1 << 30, 3600 if os.environ.get("EBB_LONG") == "1" else 15 * SCALE

    def call():
        began = time.monotonic()
        assert daemon.invoke("echo").status == 200
        return time.monotonic() - began

    daemon.invoke("echo")
    daemon.invoke("flood", {"bytes": 1})
    quiet = statistics.median(call() for _ in range(30))
    printed, loud = [], []

    def print_much():
        end = time.monotonic() + patience
        # A machine that prints slowly is given the time for enough of it; a refusal ends it, and is told below.
        while sum(printed) < size and (time.monotonic() < end or sum(printed) < 8 << 20 or len(loud) < 5):
            part = 4 << 20
            answer = daemon.request("POST", "/invoke/flood", json.dumps({"bytes": part}).encode(), timeout=900)
            printed.append(part if answer.status == 200 else -size)
            if answer.status != 200:
                return

    flood = threading.Thread(target=print_much)
    flood.start()
    most = 0
    while flood.is_alive():
        loud.append(call())
        most = max(most, sum(size_of(file) for file in logs(daemon, "flood")))
    # Many times what may be kept.
    assert sum(printed) >= 8 << 20, printed
    assert 1 << 19 <= most <= 1 << 20 and len(loud) >= 5
    # Two functions share the processors; one must not wait for what the other prints.
    beside = statistics.median(loud)
    print(f"{sum(printed) >> 20} MiB; alone {quiet * 1e3:.2f} ms, beside the flood {beside * 1e3:.2f} ms")
    assert beside < 25 * quiet + 0.05 * SCALE
    assert b"REPORT RequestId" in daemon.fn("logs", "flood", "--tail", "3").stdout
    # What others had printed is still there.
    assert any("START" in line for line in daemon.fn("logs", "echo").stdout.decode().splitlines())


def size_of(file):
    """Bytes; a file that has just become the one before has none under its old name."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def logs(daemon, name):
    return list((daemon.directory / "state" / "logs").glob(f"{name}.log*"))


def test_what_a_removed_function_still_prints_makes_no_file(daemon):
    daemon.deploy_code("gone", {"app.py": """
import os, threading
def chatter():
    while True:
        os.write(1, b"still here\\n" * 100)
def handle(event, context):
    threading.Thread(target=chatter, daemon=True).start()
    import time
    time.sleep(event.get("seconds", 0))
    return "started"
"""}, "python", "app.handle", "--timeout", "60s")
    call = threading.Thread(target=lambda: daemon.invoke("gone", {"seconds": 2 * SCALE}))
    call.start()
    wait_until(lambda: logs(daemon, "gone"), "its log")
    assert daemon.fn("rm", "gone", "-y").returncode == 0
    # It prints on until its call ends.
    assert daemon.sandboxes("gone")
    call.join()
    wait_until(lambda: not daemon.sandboxes("gone"), "its sandbox to end", 30)
    time.sleep(0.5)
    assert not logs(daemon, "gone")
    # The next of that name begins with an empty log of its own.
    daemon.deploy_code("gone", {"app.py": SAYS})
    daemon.invoke("gone", {"say": "new"})
    text = daemon.fn("logs", "gone").stdout.decode()
    assert "new" in text and "still here" not in text


def test_the_daemons_log_is_json_when_piped_and_pretty_on_a_terminal(own_daemon):
    daemon = own_daemon().start()
    lines = [json.loads(line) for line in daemon.log.splitlines()]
    assert all({"time", "level", "message"} <= set(line) for line in lines)
    assert any(line["level"] == "notice" and line["message"].startswith("serving on") for line in lines)
    daemon.stop()
    env = {**os.environ, "TERM": "xterm", "NO_COLOR": ""}
    shown = on_terminal(daemon.command(), env, lambda text: "serving on" in text)
    assert re.search(r"^\x1b\[2m\d\d:\d\d:\d\d\.\d{3}\x1b\[0m \x1b\[36mNOTICE\x1b\[0m +serving on", shown, re.M), shown
    shown = on_terminal(daemon.command(), {**env, "NO_COLOR": "1"}, lambda text: "serving on" in text)
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} NOTICE +serving on", shown, re.M) and "\x1b" not in shown


def test_level_and_form_of_the_daemons_log_change_while_it_runs(own_daemon):
    daemon = own_daemon("log: {level: warning, format: json}\n")
    command = daemon.command

    def without_level():
        words = command()
        at = words.index("--log-level")
        return words[:at] + words[at + 2:]

    daemon.command = without_level
    daemon.start()
    assert "serving on" not in daemon.log
    daemon.deploy_code("says", {"app.py": SAYS})

    def set_to(text):
        daemon.config.write_text(text)
        assert all(c["applied"] == "live" for c in daemon.request("POST", "/v1/config/reload").json["changes"])
        return daemon.log_path.stat().st_size

    set_to("log: {level: debug, format: json}\n")
    assert [json.loads(line) for line in daemon.log.splitlines()][-1]["message"].startswith("config reload rev ")
    size = set_to("log: {level: debug, format: pretty}\n")
    assert daemon.fn("update", "says", "--memory", "96MiB").returncode == 0
    daemon.invoke("says")
    daemon.deploy_code("says", {"app.py": SAYS + "# other\n"})
    wait_until(lambda: " DEBUG   stopping says" in daemon.log[size:], "a line of level debug, pretty", 20)
    size = set_to("log: {level: error}\n")
    daemon.invoke("says")
    daemon.deploy_code("says", {"app.py": SAYS + "# a third\n"})
    wait_until(lambda: not daemon.sandboxes("says"), "the sandbox to end", 20)
    assert "stopping says" not in daemon.log[size:]


def test_what_functions_print_is_among_the_daemons_own_lines_where_the_operator_wants_it(own_daemon):
    daemon = own_daemon("log: {format: json}\n").start()
    daemon.deploy_code("says", {"app.py": SAYS})

    def lines():
        # One that is being written is not whole.
        return [each for each in map(json.loads, daemon.log.splitlines()[:-1]) if each.get("function") == "says"]

    assert daemon.invoke("says").status == 200
    assert lines() == []
    daemon.config.write_text("log: {format: json, functions: {to: both}}\n")
    daemon.request("POST", "/v1/config/reload")
    answer = daemon.invoke("says")
    told = wait_until(lambda: [each for each in lines() if each["message"].startswith("REPORT ")] and lines(), "what it printed")
    assert {each["requestId"] for each in told} == {answer.headers["x-fn-request-id"]}
