# SPDX-License-Identifier: Apache-2.0
"""Several requests at once in one sandbox (`per_sandbox`)."""
import concurrent.futures
import json
import os
import shutil

import pytest

from conftest import SCALE

CONFIG = "defaults: {timeout: 60s, init_timeout: 60s}\nreclaim: {idle_after: 1s}\n"

# Answers when as many run at once as the event says; what runs is known to all by files in /tmp.
MEET = """
import os, sys, time, uuid
def handle(event, context):
    me = f"/tmp/here-{uuid.uuid4()}"
    open(me, "w").close()
    print("line of", context.aws_request_id, flush=True)
    while len([n for n in os.listdir("/tmp") if n.startswith("here-")]) < event.get("n", 1):
        time.sleep(0.01)
    time.sleep(event.get("rest", REST))  # until everybody has seen the others
    if event.get("exit"): sys.exit(3)
    here = len([n for n in os.listdir("/tmp") if n.startswith("here-")])
    os.remove(me)
    return {"here": here, "pid": os.getpid(), "places": os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY"), "id": context.aws_request_id}
""".replace("REST", str(0.2 * SCALE))


def together(daemon, name, events):
    with concurrent.futures.ThreadPoolExecutor(len(events)) as threads:
        return list(threads.map(lambda event: daemon.invoke(name, event), events))


def test_requests_run_at_once_in_one_sandbox_and_no_more_than_its_places(daemon):
    daemon.deploy_code("meet", {"app.py": MEET}, "python", "app.handle", "--per-sandbox", "3")
    answers = together(daemon, "meet", [{"n": 3}] * 3)
    assert [a.status for a in answers] == [200] * 3, [a.body for a in answers]
    assert {a.json["places"] for a in answers} == {"3"}
    assert len(daemon.sandboxes("meet")) == 1
    assert sorted(a.json["id"] for a in answers) == sorted(a.headers["x-fn-request-id"] for a in answers)
    daemon.sandbox("meet", "idle", "shrunk")
    answers = together(daemon, "meet", [{"n": 1}] * 8)
    assert [a.status for a in answers] == [200] * 8, [a.body for a in answers]
    assert max(a.json["here"] for a in answers) <= 3
    assert len(daemon.sandboxes("meet")) <= 3


def test_it_is_idle_and_shrinks_only_when_the_last_has_ended(daemon):
    daemon.deploy_code("rest", {"app.py": MEET}, "python", "app.handle", "--per-sandbox", "2")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        long = threads.submit(daemon.invoke, "rest", {"n": 1, "rest": 3 * SCALE})
        daemon.sandbox("rest", "busy")
        short = daemon.invoke("rest", {"n": 2, "rest": 0})
        assert short.status == 200, short.body
        assert daemon.sandbox("rest")["state"] == "busy"
        assert long.result().status == 200
    daemon.sandbox("rest", "shrunk")
    again = together(daemon, "rest", [{"n": 2}] * 2)
    assert [a.status for a in again] == [200, 200], [a.body for a in again]
    assert {a.json["pid"] for a in again} == {short.json["pid"]}


def test_a_request_with_a_size_of_its_own_runs_alone(daemon):
    daemon.deploy_code("own", {"app.py": MEET}, "python", "app.handle", "--per-sandbox", "2", "--concurrency", "2")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(daemon.invoke, "own", {"n": 1, "rest": 1 * SCALE})
        daemon.sandbox("own", "busy")
        other = daemon.invoke("own", {"n": 1}, {"X-Fn-Memory-Mb": "160"})
        assert (first.result().status, other.status) == (200, 200), other.body
    assert len(daemon.sandboxes("own")) == 2


def test_a_timeout_ends_all_that_run_beside_it_and_says_so(daemon):
    daemon.deploy_code("slow", {"app.py": MEET}, "python", "app.handle", "--per-sandbox", "2")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        other = threads.submit(daemon.invoke, "slow", {"n": 1, "rest": 600})
        daemon.sandbox("slow", "busy")
        slow = daemon.request("POST", "/invoke/slow", b'{"n": 2, "rest": 600}', {"X-Fn-Timeout-Ms": "2000"})
        assert (slow.status, slow.json["errorType"]) == (504, "Sandbox.Timedout"), slow.body
        other = other.result()
    assert (other.status, other.json["errorType"]) == (502, "Runtime.ExitError"), other.body
    assert "another request in the same sandbox timed out" in other.json["errorMessage"]
    assert daemon.invoke("slow").status == 200


def test_what_ends_the_process_ends_all_requests_in_it(daemon):
    daemon.deploy_code("exits", {"app.py": MEET}, "python", "app.handle", "--per-sandbox", "2")
    answers = together(daemon, "exits", [{"n": 2, "rest": 0, "exit": True}, {"n": 2, "rest": 600}])
    assert [a.status for a in answers] == [502, 502]
    assert all("exit status 3" in a.json["errorMessage"] for a in answers), answers[0].body


def test_what_is_printed_belongs_to_a_request_only_where_one_runs(daemon):
    daemon.deploy_code("prints", {"app.py": MEET}, "python", "app.handle", "--per-sandbox", "2")
    answers = together(daemon, "prints", [{"n": 2}] * 2)
    alone = daemon.invoke("prints")
    lines = [json.loads(line) for line in daemon.fn("logs", "prints").stdout.decode().splitlines()]
    own = [line for line in lines if line["message"] == f"line of {alone.json['id']}"]
    assert own[0]["requestId"] == alone.json["id"]
    for answer in answers:
        told = {line.get("requestId") for line in lines if line["message"].startswith(f"END RequestId: {answer.json['id']}")}
        assert told == {answer.json["id"]}


@pytest.mark.parametrize("runtime", ["node", "command"])
def test_other_runtimes_run_several_too(daemon, runtime):
    code = {
        "node": {"index.mjs": """
let here = 0;
export const handle = async (event) => {
    here += 1;
    while (here < event.n) await new Promise((done) => setTimeout(done, 10));
    return process.pid;
};"""},
        "command": {"run.sh": """#!/bin/sh
: > /tmp/here-$$
while [ "$(ls /tmp | grep -c here-)" -lt 2 ]; do sleep 0.05; done
sleep 0.3
echo '"together"'
"""},
    }[runtime]
    name = f"several-{runtime}"
    daemon.deploy_code(name, code, runtime, {"node": "index.handle", "command": "run.sh"}[runtime], "--per-sandbox", "2")
    answers = together(daemon, name, [{"n": 2}] * 2)
    assert [a.status for a in answers] == [200, 200], [a.body for a in answers]
    assert answers[0].body == answers[1].body
    assert len(daemon.sandboxes(name)) == 1


def test_the_official_python_client_forks_for_as_many(daemon):
    source = daemon.directory / "ric"
    shutil.copytree(os.environ["EBB_RIC"], source, ignore=shutil.ignore_patterns("__pycache__", "bin"))
    (source / "app.py").write_text(MEET)
    start = source / "bootstrap"
    start.write_text("#!/bin/sh\nexec /usr/bin/python3 -m awslambdaric app.handle\n")
    start.chmod(0o755)
    result = daemon.fn("deploy", source, "--name", "ric", "--runtime", "provided", "--memory", "256MiB",
                       "--per-sandbox", "2")
    assert result.returncode == 0, result.stderr
    answers = together(daemon, "ric", [{"n": 2}] * 2)
    assert [a.status for a in answers] == [200, 200], [a.body for a in answers]
    assert len({a.json["pid"] for a in answers}) == 2
    assert len(daemon.sandboxes("ric")) == 1


def test_a_runtime_that_asks_for_one_at_a_time_is_given_one_after_the_other(daemon):
    client = """#!/usr/bin/python3 -S
import http.client, os, time
def call(method, path, body=None):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, "/2018-06-01/runtime/" + path, body)
    answer = connection.getresponse()
    answer.read()
    return answer.getheader("Lambda-Runtime-Aws-Request-Id")
while True:
    id = call("GET", "invocation/next")
    time.sleep(0.3)
    call("POST", f"invocation/{id}/response", b'"done"')
"""
    daemon.deploy_code("single", {"bootstrap": client}, "provided", "-", "--per-sandbox", "3")
    answers = together(daemon, "single", [{}] * 3)
    assert [a.status for a in answers] == [200] * 3, [a.body for a in answers]
    assert len(daemon.sandboxes("single")) == 1
    daemon.sandbox("single", "idle", "shrunk")


def test_extensions_are_told_of_no_invocations_where_several_run(daemon):
    extension = """#!/usr/bin/python3 -S
import http.client, json, os
def call(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, "/2020-01-01/extension/" + path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.getheader("Lambda-Extension-Identifier"), answer.read().decode()
print(call("POST", "register", '{"events":["INVOKE"]}', Lambda_Extension_Name="e")[::2], flush=True)
_, me, _ = call("POST", "register", '{"events":["SHUTDOWN"]}', Lambda_Extension_Name="e")
call("GET", "event/next", Lambda_Extension_Identifier=me)
"""
    daemon.deploy_code("beside", {"app.py": MEET, "extensions/e": extension}, "python", "app.handle", "--per-sandbox", "2")
    answers = together(daemon, "beside", [{"n": 2}] * 2)
    assert [a.status for a in answers] == [200, 200], [a.body for a in answers]
    assert "Extension.InvalidEventType" in daemon.fn("logs", "beside").stdout.decode()


@pytest.mark.parametrize("wrong", ["0", "65", "-1"])
def test_a_number_that_cannot_be_is_refused(daemon, wrong):
    source = daemon.directory / "wrong"
    source.mkdir(exist_ok=True)
    (source / "app.py").write_text(MEET)
    result = daemon.fn("deploy", source, "--name", "wrong", "--runtime", "python", "--handler", "app.handle",
                       f"--per-sandbox={wrong}")
    assert result.returncode != 0
    assert "from 1 to 64" in result.stderr.decode()


# Asks for work, and is gone before it is given any.
QUITTER = """#!/usr/bin/python3 -IS
import socket
daemon = socket.create_connection(("127.0.0.1", 9001))
daemon.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
"""


def test_every_request_is_answered_whose_sandbox_goes_before_it_is_given_them(daemon):
    daemon.deploy_code("quitter", {"bootstrap": QUITTER}, "provided", "-", "--per-sandbox", "64", "--concurrency", "1")
    for _ in range(8):
        answers = together(daemon, "quitter", [{}] * 64)
        assert {answer.status for answer in answers} <= {502, 503}, {answer.body for answer in answers}
    daemon.fn("rm", "--yes", "quitter")
