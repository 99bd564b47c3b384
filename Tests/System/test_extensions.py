# SPDX-License-Identifier: Apache-2.0
"""Extensions: programs beside the runtime, started by process 1 from /var/task/extensions here."""
import http.client
import io
import json
import time
import zipfile

import boto3
import pytest

from conftest import SCALE, wait_until

CONFIG = "defaults: {timeout: 60s, init_timeout: 60s}\nreclaim: {idle_after: 1s}\n"

HANDLER = "import os\ndef handle(event, context):\n    print('called')\n    return {'id': context.aws_request_id, 'pid': os.getpid()}\n"

# What every extension of these tests begins with; what it does follows. Each thing it sees is one line of its output.
PRELUDE = """#!/usr/bin/python3 -S
import http.client, json, os, sys, time
NAME = os.path.basename(sys.argv[0])
API = os.environ["AWS_LAMBDA_RUNTIME_API"]

def call(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(API)
    connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode()

def say(**what):
    print(json.dumps({"from": NAME, **what}), flush=True)

def register(*events, name=NAME):
    status, headers, body = call("POST", "/2020-01-01/extension/register", json.dumps({"events": events}),
                                 Lambda_Extension_Name=name, Lambda_Extension_Accept_Feature="accountId")
    return status, headers.get("Lambda-Extension-Identifier"), json.loads(body)

def next_event(me):
    status, _, body = call("GET", "/2020-01-01/extension/event/next", Lambda_Extension_Identifier=me)
    event = json.loads(body)
    say(status=status, event=event)
    return event
"""

LISTENER = PRELUDE + """
status, me, answer = register("INVOKE", "SHUTDOWN", "RESIZE")
say(registered=status, answer=answer)
while next_event(me)["eventType"] != "SHUTDOWN":
    pass
say(done=True)
"""


def said(daemon, function, by=None):
    """What the extensions of a function have printed, in order."""
    lines = daemon.fn("logs", function).stdout.decode().splitlines()
    messages = [json.loads(line)["message"] for line in lines]
    found = [json.loads(m) for m in messages if m.startswith('{"from"')]
    return [f for f in found if by in (None, f["from"])]


def events(daemon, function, kind):
    return [s["event"] for s in said(daemon, function) if s.get("event", {}).get("eventType") == kind]


def deploy(daemon, name, extensions, *arguments, handler=HANDLER):
    files = {"app.py": handler, **{f"extensions/{key}": text for key, text in extensions.items()}}
    daemon.deploy_code(name, files, "python", "app.handle", *arguments)


def test_an_extension_registers_and_is_told_of_every_invocation(daemon):
    deploy(daemon, "told", {"listener": LISTENER})
    answers = [daemon.invoke("told", headers={"X-Amzn-Trace-Id": "Root=1-2"}) for _ in range(3)]
    assert [a.status for a in answers] == [200] * 3, answers[0].body
    assert len({a.json["pid"] for a in answers}) == 1
    seen = wait_until(lambda: (e := events(daemon, "told", "INVOKE")) and len(e) == 3 and e, "three events")
    assert [e["requestId"] for e in seen] == [a.json["id"] for a in answers]
    assert all(e["invokedFunctionArn"].endswith(":function:told") for e in seen), seen
    assert all(e["deadlineMs"] > time.time() * 1000 - 60_000 for e in seen)
    first = said(daemon, "told")[0]
    assert (first["registered"], first["answer"]["functionName"]) == (200, "told")
    assert (first["answer"]["handler"], first["answer"]["accountId"]) == ("app.handle", "000000000000")


def test_a_sandbox_is_idle_only_when_its_extensions_have_asked_again(daemon):
    slow = PRELUDE + """
_, me, _ = register("INVOKE")
while True:
    next_event(me)
    while not os.path.exists("/tmp/go"):
        time.sleep(0.05)
"""
    handler = """
import os
def handle(event, context):
    if event.get("go"):
        open("/tmp/go", "w").close()
    return os.getpid()
"""
    deploy(daemon, "resting", {"slow": slow}, handler=handler)
    first = daemon.invoke("resting")
    assert first.status == 200, first.body
    wait_until(lambda: events(daemon, "resting", "INVOKE"), "the extension to have its event")
    assert daemon.sandbox("resting")["state"] == "busy"
    # Another request finds it busy and gets a sandbox of its own.
    second = daemon.invoke("resting", {"go": True})
    assert second.status == 200, second.body
    assert len(daemon.sandboxes("resting")) == 2
    states = wait_until(
        lambda: (s := sorted(s["state"] for s in daemon.sandboxes("resting"))) and "busy" in s and s != ["busy"] * 2 and s,
        "one of them to be idle")
    assert states[0] == "busy", states


def test_a_start_is_over_only_when_its_extensions_have_asked(daemon):
    late = PRELUDE + """
time.sleep(0.5)
_, me, _ = register("INVOKE")
say(ready=True)
while True: next_event(me)
"""
    deploy(daemon, "late", {"late": late})
    assert daemon.invoke("late").status == 200
    seen = wait_until(lambda: events(daemon, "late", "INVOKE"), "the first invocation to be told")
    assert len(seen) == 1


def test_it_is_told_of_the_end_when_its_function_changes_and_when_it_is_removed(daemon):
    deploy(daemon, "ending", {"listener": LISTENER})
    assert daemon.invoke("ending").status == 200
    deploy(daemon, "ending", {"listener": LISTENER}, handler=HANDLER + "# another one\n")
    told = wait_until(lambda: events(daemon, "ending", "SHUTDOWN"), "the first one to be told")
    assert told[0]["shutdownReason"] == "SPINDOWN" and told[0]["deadlineMs"] > 0
    wait_until(lambda: [s for s in said(daemon, "ending") if s.get("done")], "it to have its last word")
    assert daemon.invoke("ending").status == 200
    wait_until(lambda: len(daemon.sandboxes("ending")) == 1, "the first one to be gone")
    # What is printed after a function was removed is kept nowhere, but whoever follows sees it.
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20 * SCALE)
    connection.request("GET", "/v1/functions/ending/logs?follow=true&tail=1")
    lines = connection.getresponse()
    assert daemon.fn("rm", "ending").returncode == 0
    while b"SPINDOWN" not in (line := lines.readline()):
        assert line, "the log ended, and the second one was not told"
    connection.close()
    wait_until(lambda: not daemon.sandboxes("ending"), "the second one to be gone")


def test_a_frozen_one_is_woken_to_be_told_of_its_end(daemon):
    deploy(daemon, "frozen", {"listener": LISTENER})
    assert daemon.invoke("frozen").status == 200
    daemon.sandbox("frozen", "shrunk")
    deploy(daemon, "frozen", {"listener": LISTENER}, handler=HANDLER + "# another one\n")
    wait_until(lambda: [s for s in said(daemon, "frozen") if s.get("done")], "it to have its last word")
    wait_until(lambda: not daemon.sandboxes("frozen"), "it to be gone")


def test_one_that_does_not_end_is_ended_and_others_are_not_held_up(daemon):
    deaf = PRELUDE + """
_, me, _ = register("SHUTDOWN")
while next_event(me)["eventType"] != "SHUTDOWN": pass
time.sleep(3600)
"""
    deploy(daemon, "deaf", {"deaf": deaf})
    assert daemon.invoke("deaf").status == 200
    deploy(daemon, "deaf", {"deaf": deaf}, handler=HANDLER + "# another one\n")
    assert daemon.sandboxes("deaf")[0]["state"] == "stopping"
    assert daemon.invoke("deaf").status == 200
    wait_until(lambda: len(daemon.sandboxes("deaf")) == 1, "the first one to be ended")


def test_a_timeout_is_told_to_the_caller_at_once_and_to_the_extension(daemon):
    deploy(daemon, "slow", {"listener": LISTENER}, "--timeout", "1s",
           handler="import time\ndef handle(event, context):\n    time.sleep(event.get('s', 0))\n    return 1\n")
    assert daemon.invoke("slow").status == 200
    answer = daemon.invoke("slow", {"s": 600})
    assert (answer.status, answer.json["errorType"]) == (504, "Sandbox.Timedout"), answer.body
    told = wait_until(lambda: events(daemon, "slow", "SHUTDOWN"), "the extension to be told")
    assert told[0]["shutdownReason"] == "TIMEOUT"
    assert daemon.invoke("slow").status == 200


def test_a_runtime_that_ends_is_told_to_the_caller_and_to_the_extension(daemon):
    deploy(daemon, "dying", {"listener": LISTENER},
           handler="import os\ndef handle(event, context):\n    if event.get('die'): os._exit(7)\n    return 1\n")
    assert daemon.invoke("dying").status == 200
    answer = daemon.invoke("dying", {"die": True})
    assert (answer.status, answer.json["errorType"]) == (502, "Runtime.ExitError"), answer.body
    assert "exit status 7" in answer.json["errorMessage"]
    told = wait_until(lambda: events(daemon, "dying", "SHUTDOWN"), "the extension to be told")
    assert told[0]["shutdownReason"] == "FAILURE"
    assert daemon.invoke("dying").status == 200


def test_one_that_had_registered_and_ends_takes_its_sandbox_along(daemon):
    crashing = PRELUDE + """
_, me, _ = register("INVOKE")
next_event(me)
sys.exit(3)
"""
    deploy(daemon, "crashing", {"crashing": crashing},
           handler="import time\ndef handle(event, context):\n    time.sleep(60)\n")
    answer = daemon.invoke("crashing")
    assert (answer.status, answer.json["errorType"]) == (502, "Extension.Crash"), answer.body
    assert "extension crashing ended: exit status 3" in answer.json["errorMessage"]


def test_one_that_reports_an_error_takes_its_sandbox_along(daemon):
    for call, kind in (("init", "Extension.InitError"), ("exit", "Extension.ExitError")):
        failing = PRELUDE + f"""
_, me, _ = register("INVOKE")
if {call == "exit"!r}: next_event(me)
say(missing=call("POST", "/2020-01-01/extension/{call}/error", "{{}}", Lambda_Extension_Identifier=me)[0])
say(accepted=call("POST", "/2020-01-01/extension/{call}/error", "{{}}", Lambda_Extension_Identifier=me,
                  Lambda_Extension_Function_Error_Type="Mine.Bad")[0])
time.sleep(60)
"""
        name = f"failing-{call}"
        deploy(daemon, name, {"failing": failing}, handler="import time\ndef handle(event, context):\n    time.sleep(60)\n")
        answer = daemon.invoke(name)
        assert (answer.status, answer.json["errorType"]) == (502, kind), answer.body
        assert "reported Mine.Bad" in answer.json["errorMessage"]
        assert said(daemon, name)[0 if call == "init" else 1]["missing"] == 403


def test_one_that_ends_without_having_registered_does_no_harm(daemon):
    deploy(daemon, "harmless", {"brief": "#!/bin/sh\necho was here\n", "notes.txt": "no program", "lib/x.sh": "#!/bin/sh\n"})
    answers = [daemon.invoke("harmless") for _ in range(2)]
    assert [a.status for a in answers] == [200, 200], answers[0].body
    assert answers[0].json["pid"] == answers[1].json["pid"]
    assert "was here" in daemon.fn("logs", "harmless").stdout.decode()


def test_calls_that_are_not_allowed_are_refused_in_lambdas_words(daemon):
    wrong = PRELUDE + """
def error(answer): return [answer[0], json.loads(answer[2])["errorType"]]
R, N = "/2020-01-01/extension/register", "/2020-01-01/extension/event/next"
say(what=[
    error(call("POST", R, '{"events":[]}')),
    error(call("POST", R, '{"events":["BOOT"]}', Lambda_Extension_Name=NAME)),
    error(call("POST", R, 'nonsense', Lambda_Extension_Name=NAME)),
    error(call("POST", R, '{"events":["SHUTDOWN"]}', Lambda_Extension_Name="inside")),
    error(call("GET", N)),
    error(call("GET", N, Lambda_Extension_Identifier="me")),
    error(call("GET", N, Lambda_Extension_Identifier="00000000-0000-0000-0000-000000000000")),
])
_, me, _ = register("INVOKE")
T = {"schemaVersion": "2022-07-01", "types": ["platform"], "destination": {"protocol": "HTTP", "URI": "http://sandbox:8080"}}
say(again=register("INVOKE")[2]["errorType"],
    telemetry=call("PUT", "/2022-07-01/telemetry", json.dumps(T), Lambda_Extension_Identifier=me)[::2],
    elsewhere=call("PUT", "/2022-07-01/telemetry", json.dumps({**T, "destination": {"protocol": "HTTP", "URI": "http://example.com"}}),
                   Lambda_Extension_Identifier=me)[0],
    badly=call("PUT", "/2022-07-01/telemetry", "{}", Lambda_Extension_Identifier=me)[0])
while True: next_event(me)
"""
    deploy(daemon, "wrong", {"wrong": wrong})
    assert daemon.invoke("wrong").status == 200
    first, second = said(daemon, "wrong")[:2]
    assert first["what"] == [
        [403, "Extension.InvalidExtensionName"], [403, "Extension.InvalidEventType"], [403, "InvalidRequestFormat"],
        [403, "Extension.InvalidEventType"], [403, "Extension.MissingExtensionIdentifier"],
        [403, "Extension.InvalidExtensionIdentifier"], [403, "Extension.UnknownExtensionIdentifier"]]
    assert (second["again"], second["telemetry"], second["badly"]) == ("Extension.InvalidExtensionState", [200, '"OK"'], 400)
    assert second["elsewhere"] == 400


def test_it_is_told_of_new_limits(daemon):
    deploy(daemon, "resized", {"listener": LISTENER}, "--memory", "128MiB")
    assert daemon.invoke("resized").status == 200
    assert daemon.fn("update", "resized", "--memory", "192MiB", "--cpus", "0.5").returncode == 0
    told = wait_until(lambda: events(daemon, "resized", "RESIZE"), "the extension to be told")
    assert (told[-1]["memoryMB"], told[-1]["cpuMillis"]) == (192, 500)
    assert daemon.invoke("resized").status == 200


def test_a_daemon_that_stops_tells_them_too(own_daemon):
    daemon = own_daemon(CONFIG).start()
    deploy(daemon, "last", {"listener": LISTENER})
    assert daemon.invoke("last").status == 200
    daemon.stop()
    log = "".join(f.read_text() for f in (daemon.directory / "state" / "logs").glob("last.log*"))
    assert "SPINDOWN" in log and "done" in log


def test_an_extension_may_come_from_a_layer(daemon):
    aws = boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{daemon.port}", region_name="us-east-1",
                       aws_access_key_id="x", aws_secret_access_key="x")
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as bundle:
        entry = zipfile.ZipInfo("extensions/listener")
        entry.external_attr = 0o755 << 16
        bundle.writestr(entry, LISTENER)
    layer = aws.publish_layer_version(LayerName="listening", Content={"ZipFile": layer.getvalue()})
    daemon.deploy_code("layered", {"app.py": HANDLER}, "python", "app.handle")
    aws.update_function_configuration(FunctionName="layered", Layers=[layer["LayerVersionArn"]])
    answer = daemon.invoke("layered")
    assert answer.status == 200, answer.body
    seen = wait_until(lambda: events(daemon, "layered", "INVOKE"), "the layer's extension to be told")
    assert seen[0]["requestId"] == answer.json["id"]


# The handshake of a restore and the order of calls, by a client of our own.
CLIENT = """#!/usr/bin/python3 -S
import http.client, json, os
API = os.environ["AWS_LAMBDA_RUNTIME_API"]
def call(method, path, body=None, connection=None, **headers):
    connection = connection or http.client.HTTPConnection(API)
    connection.request(method, "/2018-06-01/runtime/" + path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()
seen = []
seen.append(call("POST", "restore/error", b"{}")[0])
seen.append(call("GET", "restore/next")[0])
seen.append(call("GET", "restore/next")[0])
first = True
while True:
    _, headers, _ = call("GET", "invocation/next")
    id = headers["Lambda-Runtime-Aws-Request-Id"]
    if first:
        first = False
        seen.append(call("GET", "invocation/next")[0])
        wrong = call("POST", "invocation/00000000-0000-0000-0000-000000000000/response", b"1")
        seen.append([wrong[0], json.loads(wrong[2])["errorType"]])
        seen.append(call("POST", "init/error", b"{}")[0])
    cause = "x" * (1 << 20) if len(seen) == 6 else "small"
    status, _, _ = call("POST", f"invocation/{id}/response", json.dumps(seen), X_Cause=cause[:-64])
    seen.append(status)
    again = call("POST", f"invocation/{id}/response", b"2")
    seen.append(again[0])
"""


def test_the_runtime_api_answers_calls_out_of_order_as_lambda_does(daemon):
    daemon.deploy_code("order", {"bootstrap": CLIENT}, "provided", "-")
    first, second = daemon.invoke("order"), daemon.invoke("order")
    assert first.status == 200, first.body
    assert first.json == [403, 200, 403, 403, [400, "InvalidRequestID"], 403]
    assert second.json[6:] == [202, 403]


@pytest.mark.parametrize("call", ["init/error", "restore/error"])
def test_an_error_of_the_start_is_the_callers_answer_and_taken_once(daemon, call):
    client = f"""#!/usr/bin/python3 -S
import http.client, os
def call(method, path, body=None):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, "/2018-06-01/runtime/" + path, body)
    return connection.getresponse().status
if {call == "restore/error"}: call("GET", "restore/next")
print([call("POST", "{call}", b'{{"errorType":"Mine.Bad","errorMessage":"no"}}') for _ in range(2)], flush=True)
"""
    name = call.replace("/", "-")
    daemon.deploy_code(name, {"bootstrap": client}, "provided", "-")
    answer = daemon.invoke(name)
    assert (answer.status, answer.json["errorType"]) == (502, "Mine.Bad"), answer.body
    assert "[202, 403]" in daemon.fn("logs", name).stdout.decode()
