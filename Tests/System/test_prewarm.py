# SPDX-License-Identifier: Apache-2.0
"""Runtimes are started ahead of any function, and given to whichever needs one next, at its own size."""
import pathlib
import re
import shutil

import pytest

from conftest import cgroup_file, wait_until

PREWARM = True
CONFIG = """
defaults: {timeout: 60s, init_timeout: 60s}
pools: {prewarm: 2}
"""
TELL = {
    "python": ("app.handle", {"app.py": """
import os, sys
def handle(event, context):
    return {"function": context.function_name, "size": context.memory_limit_in_mb, "own": os.environ.get("OWN"),
            "cwd": os.getcwd(), "prewarmed": os.environ.get("FN_PREWARMED"), "pid": os.getpid(),
            "host": os.uname().nodename, "stream": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]}
"""}),
    "node": ("app.handle", {"app.mjs": """
import os from "node:os";
export const handle = async (event, context) => ({
    function: context.functionName, size: context.memoryLimitInMB, own: process.env.OWN, cwd: process.cwd(),
    prewarmed: process.env.FN_PREWARMED ?? null, pid: process.pid, host: os.hostname(),
    stream: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
});
"""}),
    "command": ("run", {"run": """#!/usr/bin/python3
import json, os
print(json.dumps({
    "function": os.environ["AWS_LAMBDA_FUNCTION_NAME"], "size": os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
    "own": os.environ.get("OWN"), "cwd": os.getcwd(), "prewarmed": os.environ.get("FN_PREWARMED"), "pid": os.getppid(),
    "host": os.uname().nodename, "stream": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]}))
"""}),
    # Ahead of it only its sandbox is started: its program is the function's own.
    "provided": ("", {"bootstrap": """#!/usr/bin/python3 -S
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    event = api.getresponse()
    event.read()
    told = {"function": os.environ["AWS_LAMBDA_FUNCTION_NAME"], "size": os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
            "own": os.environ.get("OWN"), "cwd": os.getcwd(), "prewarmed": os.environ.get("FN_PREWARMED"), "pid": os.getpid(),
            "host": os.uname().nodename, "stream": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"],
            "open": sorted(os.listdir("/proc/self/fd"))[:-2]}
    api.request("POST", f"/2018-06-01/runtime/invocation/{event.headers['Lambda-Runtime-Aws-Request-Id']}/response", json.dumps(told))
    api.getresponse().read()
"""}),
}


def ready(daemon, runtime, count=1):
    """The prewarmed sandboxes of a runtime, once so many are frozen."""
    def look():
        found = [s for s in daemon.sandboxes(f"@{runtime}") if s["state"] == "shrunk"]
        return found if len(found) >= count else None
    return wait_until(look, f"{count} prewarmed {runtime}", 60)


def needed(daemon, runtime="python"):
    """Makes the daemon know that the runtime is needed, and waits until one is ready."""
    if not daemon.sandboxes(f"@{runtime}"):
        handler, files = TELL[runtime]
        daemon.deploy_code(f"first-{runtime}", files, runtime, handler)
        assert daemon.invoke(f"first-{runtime}").status == 200
    return ready(daemon, runtime)


@pytest.mark.parametrize("runtime", list(TELL))
def test_a_function_gets_a_runtime_that_was_started_ahead_and_finds_itself_in_it(daemon, runtime):
    names = {s["id"] for s in needed(daemon, runtime)}
    handler, files = TELL[runtime]
    daemon.deploy_code(f"tell-{runtime}", files, runtime, handler, "--memory", "192MiB", "--env", "OWN=mine")
    answer = daemon.invoke(f"tell-{runtime}")
    assert answer.status == 200 and answer.headers["x-fn-start"] == "prewarmed", answer.body
    told = answer.json
    sandbox = daemon.sandbox(f"tell-{runtime}")
    assert sandbox["id"] in names
    assert told.pop("pid") == 2
    # Nothing of who waited for the program is left in it.
    assert told.pop("open", ["0", "1", "2"]) == ["0", "1", "2"]
    assert told == {"function": f"tell-{runtime}", "size": "192", "own": "mine", "cwd": "/var/task", "prewarmed": None,
                    "host": sandbox["id"], "stream": sandbox["id"]}
    why = daemon.fn("why", answer.headers["x-fn-request-id"]).stdout.decode()
    assert "prewarmed" in why
    again = daemon.invoke(f"tell-{runtime}")
    assert again.headers["x-fn-start"] in ("warm", "thawed") and again.json["pid"] == 2


def test_an_http_server_is_started_in_a_sandbox_that_waited_for_it(daemon):
    server = """#!/usr/bin/python3
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{self.path} {os.getcwd()} {os.environ['OWN']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
    for name in ("first-server", "server"):
        daemon.deploy_code(name, {"bootstrap": server}, "http", "", "--env", f"OWN={name}")
        answer = daemon.request("GET", f"/url/{name}/where")
        assert (answer.status, answer.body.decode()) == (200, f"/where /var/task {name}")
        if name == "first-server":
            ready(daemon, "http")
    assert answer.headers["x-fn-start"] == "prewarmed"


@pytest.mark.parametrize("files, words", [
    ({"README": "so that there is something"}, "there is no such file"), ({"bootstrap": "#!/opt/none\n"}, "the interpreter that it names"),
    ({"bootstrap": "not a program\n"}, "no program of this machine's kind"), ({"bootstrap": "#"}, "not marked as executable"),
], ids=["missing", "interpreter", "kind", "mode"])
def test_a_program_that_cannot_be_executed_says_why_from_either_start(daemon, files, words):
    source, said = daemon.directory / "unstartable", []
    for start in ("cold", "prewarmed"):
        needed(daemon, "provided")
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for name, text in files.items():
            (source / name).write_text(text)
            (source / name).chmod(0o644 if text == "#" else 0o755)
        assert daemon.fn("deploy", source, "--name", "unstartable", "--runtime", "provided").returncode == 0
        answer = daemon.invoke("unstartable", headers={"X-Fn-Cold": "1"} if start == "cold" else {})
        assert (answer.status, answer.json["errorType"]) == (502, "Runtime.InvalidEntrypoint"), answer.body
        assert answer.headers["x-fn-start"] == start
        printed = daemon.fn("logs", "unstartable").stdout.decode()
        said.append((answer.json["errorMessage"], re.search("Runtime.InvalidEntrypoint[^\"]*", printed).group()))
        assert daemon.fn("rm", "--yes", "unstartable").returncode == 0
    assert said[0] == said[1] and all(words in each for each in said[0])


def test_what_a_program_is_told_of_its_limits_is_the_same_from_either_start(daemon):
    program = TELL["provided"][1]["bootstrap"].replace("while True:", "limits = open('/run/fn/limits.json').read()\nwhile True:")
    program = program.replace('"own": os', '"limits": json.loads(limits), "own": os')
    daemon.deploy_code("told-limits", {"bootstrap": program}, "provided", "", "--memory", "96MiB", "--cpus", "0.5")
    cold = daemon.invoke("told-limits", headers={"X-Fn-Cold": "1"})
    needed(daemon, "provided")
    daemon.deploy_code("told-limits", {"bootstrap": program + "# another"}, "provided", "", "--memory", "96MiB", "--cpus", "0.5")
    prewarmed = daemon.invoke("told-limits")
    assert [each.headers["x-fn-start"] for each in (cold, prewarmed)] == ["cold", "prewarmed"]
    assert cold.json["limits"] == prewarmed.json["limits"]
    assert (cold.json["limits"]["memory_bytes"], cold.json["limits"]["cpu_millis"]) == (96 << 20, 500)


def test_a_function_that_calls_itself_prewarmed_is_not(daemon):
    for runtime in ("provided", "command"):
        handler, files = TELL[runtime]
        daemon.deploy_code(f"sly-{runtime}", files, runtime, handler, "--env", "FN_PREWARMED=1")
        answer = daemon.invoke(f"sly-{runtime}", headers={"X-Fn-Cold": "1"})
        assert answer.status == 200 and answer.json["prewarmed"] is None, answer.body


def test_one_pool_serves_every_size(daemon, limits):
    for size in (96, 200, 320):
        needed(daemon)
        daemon.deploy_code(f"size-{size}", TELL["python"][1], "python", "app.handle", "--memory", f"{size}MiB")
        answer = daemon.invoke(f"size-{size}")
        assert answer.headers["x-fn-start"] == "prewarmed"
        assert answer.json["size"] == str(size)
        assert cgroup_file(daemon.sandbox(f"size-{size}", "idle", "busy"), "memory.max") == str(size << 20)


def test_what_waits_for_a_function_holds_what_it_uses_and_no_more(daemon, limits):
    sandbox = needed(daemon)[0]
    current, most = (int(cgroup_file(sandbox, f"memory.{file}")) for file in ("current", "max"))
    assert current <= most <= current + (16 << 20) and most < 64 << 20
    assert cgroup_file(sandbox, "cgroup.freeze") == "1"
    # Its pages are left where they are: a function would need them all.
    assert int(cgroup_file(sandbox, "memory.swap.current")) == 0
    assert int(cgroup_file(sandbox, "memory.events").split("oom_kill ")[1].split()[0]) == 0


def test_no_two_functions_ever_share_one(daemon):
    for name in ("mine", "yours"):
        needed(daemon)
        daemon.deploy_code(name, TELL["python"][1])
        assert daemon.invoke(name).headers["x-fn-start"] == "prewarmed"
    mine, yours = daemon.sandbox("mine"), daemon.sandbox("yours")
    assert mine["id"] != yours["id"]
    assert not {s["id"] for s in daemon.sandboxes("@python")} & {mine["id"], yours["id"]}


@pytest.mark.parametrize("name, environment, files", [
    ("reads-at-start", "PYTHONHASHSEED=7", {}),
    ("with-an-extension", "A=1", {"extensions/watcher": "#!/bin/sh\nexit 1\n"}),
])
def test_what_has_to_be_there_at_the_start_gets_a_start_of_its_own(daemon, name, environment, files):
    needed(daemon)
    daemon.deploy_code(name, {**TELL["python"][1], **files}, "python", "app.handle", "--env", environment)
    answer = daemon.invoke(name)
    # The extension ends before it has registered, which ends that start: what counts is that nothing prewarmed was used for it.
    assert answer.headers.get("x-fn-start") != "prewarmed"


def test_a_request_that_wants_its_own_start_has_it(daemon):
    needed(daemon)
    daemon.deploy_code("cold", TELL["python"][1])
    assert daemon.invoke("cold", headers={"X-Fn-Cold": "1"}).headers["x-fn-start"] == "cold"


def test_a_handler_that_cannot_be_loaded_is_told_as_from_any_start(daemon):
    needed(daemon)
    daemon.deploy_code("broken", {"app.py": "import nothing_of_the_kind\n"})
    answer = daemon.invoke("broken")
    assert answer.status == 502 and answer.json["errorType"] == "Runtime.ImportModuleError"
    assert "nothing_of_the_kind" in answer.json["errorMessage"]
    wait_until(lambda: not daemon.sandboxes("broken"), "its sandbox to go")


def test_changed_code_is_what_runs(daemon):
    for number in (1, 2):
        needed(daemon)
        daemon.deploy_code("changing", {"app.py": f"def handle(event, context):\n    return {number}\n"})
        answer = daemon.invoke("changing")
        assert answer.json == number and answer.headers["x-fn-start"] == "prewarmed"


def test_modules_beside_the_handler_are_found_and_those_of_the_system_are_not_hidden(daemon):
    needed(daemon)
    daemon.deploy_code("modules", {
        "app.py": "import helper, package.inner, email.message\ndef handle(event, context):\n"
                  "    return [helper.VALUE, package.inner.VALUE, email.message.__name__]\n",
        "helper.py": "VALUE = 5\n", "package/__init__.py": "", "package/inner.py": "VALUE = 6\n"})
    answer = daemon.invoke("modules")
    assert answer.headers["x-fn-start"] == "prewarmed" and answer.json == [5, 6, "email.message"]


def test_what_it_prints_is_its_functions(daemon):
    needed(daemon)
    daemon.deploy_code("talker", {"app.py": "print('loaded')\ndef handle(event, context):\n    print('called')\n"})
    answer = daemon.invoke("talker")
    assert answer.headers["x-fn-start"] == "prewarmed"
    log = wait_until(lambda: (text := daemon.fn("logs", "talker").stdout.decode()) and "called" in text and text, "its log")
    assert "loaded" in log


def test_how_many_there_are_follows_the_operators_word_at_once(daemon):
    needed(daemon)
    before = daemon.config.read_text()
    daemon.config.write_text(before.replace("prewarm: 2", "prewarm: 0"))
    assert daemon.fn("config", "reload").returncode == 0
    wait_until(lambda: not [s for s in daemon.sandboxes() if s["function"].startswith("@")], "all of them to go", 30)
    daemon.config.write_text(before)
    assert daemon.fn("config", "reload").returncode == 0
    ready(daemon, "python")


def test_an_empty_sandbox_costs_the_kernel_little(daemon, limits, tmp_path):
    """Beside the pages of its own program: what the kernel keeps for processes, namespaces, mounts and sockets."""
    daemon.deploy("counter")
    assert daemon.invoke("counter").status == 200
    stat = dict(line.split() for line in cgroup_file(daemon.sandbox("counter", "idle"), "memory.stat").splitlines())
    own = sum(int(stat[field]) for field in ("anon", "file"))
    current = int(cgroup_file(daemon.sandbox("counter"), "memory.current"))
    kernel = int(stat["kernel"])
    print(f"kernel memory of an idle sandbox: {kernel >> 10} KiB, beside {own >> 10} KiB of its own")
    # Page tables belong to the function's own pages.
    assert kernel - int(stat["pagetables"]) <= 1 << 20
    assert current - own - int(stat["pagetables"]) <= (1 << 20) + (512 << 10) * len(list(pathlib.Path("/sys/devices/system/cpu").glob("cpu[0-9]*")))
