# SPDX-License-Identifier: Apache-2.0
"""The Telemetry API: extensions that listen inside the sandbox and are sent what happens in it."""
import json

from conftest import wait_until
import test_extensions
from test_extensions import CONFIG, HANDLER, PRELUDE, said

# A listener in the manner of AWS's examples. What it receives goes to a file that the function reads: what an extension
# prints would be telemetry again.
RECEIVER = PRELUDE + """
import http.server, socketserver, threading
PORT, TYPES, SUBSCRIPTION = 8080, ["platform", "function", "extension"], {}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("/tmp/received", "a") as file:
            for record in json.loads(body):
                file.write(json.dumps(record) + "\\n")
        with open("/tmp/batches", "a") as file:
            file.write(f"{len(body)} {self.path} {self.headers['Content-Type']}\\n")
        if os.path.exists("/tmp/hang"):
            time.sleep(3600)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass

def listen():
    server = socketserver.ThreadingTCPServer(("0.0.0.0", PORT), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()

def subscribe(me, path="/2022-07-01/telemetry", **more):
    body = {"schemaVersion": "2022-12-13", "types": TYPES, "buffering": {"timeoutMs": 25},
            "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{PORT}/in?x=1"}, **more}
    status, _, text = call("PUT", path, json.dumps(body), Lambda_Extension_Identifier=me)
    return [status, text]
"""

MAIN = """
_, me, _ = register("INVOKE", "SHUTDOWN")
listen()
print("hello from", NAME, flush=True)
say(subscribed=subscribe(me), older=subscribe(me, "/2020-08-15/logs"))
while next_event(me)["eventType"] != "SHUTDOWN":
    if not os.path.exists("/tmp/late"):
        open("/tmp/late", "w").close()
        say(late=subscribe(me))
"""

# Answers with what the listener has received so far.
READER = """
import os, sys
def handle(event, context):
    for line in event.get("print", []):
        print(line)
    sys.stdout.write(event.get("write", ""))
    for line in range(event.get("flood", 0)):
        sys.stdout.write("x" * 1000 + "\\n")
    for name in event.get("touch", []):
        open(name, "w").close()
    for name in event.get("remove", []):
        os.remove(name)
    if event.get("raise"):
        raise ValueError("no")
    path = event.get("read", "/tmp/received")
    return {"id": context.aws_request_id, "text": open(path).read() if os.path.exists(path) else ""}
"""


def deploy(daemon, name, extensions, *arguments, **more):
    """With one sandbox at most: what is received is a file in it, and a call that finds it busy would get another."""
    test_extensions.deploy(daemon, name, extensions, *arguments, "--concurrency", "1", **more)


def received(daemon, name, wanted, event=None):
    """The records that the listener has, once `wanted` is true of them."""
    def read():
        answer = daemon.invoke(name, event or {})
        assert answer.status == 200, answer.body
        records = [json.loads(line) for line in answer.json["text"].splitlines()]
        return records if wanted(records) else None
    return wait_until(read, "the records to be delivered")


def of(records, kind, request=None):
    return [r["record"] for r in records
            if r["type"] == kind and (request is None or r["record"].get("requestId") == request)]


def test_a_subscriber_is_sent_the_start_each_invocation_and_what_is_printed(daemon):
    deploy(daemon, "telling", {"receiver": RECEIVER + MAIN}, handler=READER)
    first = daemon.invoke("telling", {"print": ["one", "two"]}, headers={"X-Amzn-Trace-Id": "Root=1-2"})
    assert first.status == 200, first.body
    request = first.json["id"]
    records = received(daemon, "telling", lambda r: of(r, "platform.report", request))
    kinds = [r["type"] for r in records]
    # In the order in which it happened.
    marks = ["platform.initStart", "platform.telemetrySubscription", "platform.initReport", "platform.start",
             "platform.runtimeDone", "platform.report"]
    assert [kinds.index(m) for m in marks] == sorted(kinds.index(m) for m in marks), kinds
    assert all(r["time"].endswith("Z") and set(r) == {"time", "type", "record"} for r in records)
    start = of(records, "platform.initStart")[0]
    assert (start["initializationType"], start["phase"], start["functionName"], start["functionVersion"]) == (
        "on-demand", "init", "telling", "$LATEST")
    assert start["instanceMaxMemory"] == 128 << 20
    assert of(records, "platform.initRuntimeDone") == [
        {"initializationType": "on-demand", "phase": "init", "status": "success"}]
    assert of(records, "platform.initReport")[0]["metrics"]["durationMs"] > 0
    assert of(records, "platform.extension") == [
        {"name": "receiver", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}]
    assert of(records, "platform.telemetrySubscription") == [
        {"name": "receiver", "state": "Subscribed", "types": ["platform", "function", "extension"]}]
    assert of(records, "platform.start", request) == [
        {"requestId": request, "version": "$LATEST", "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1-2"}}]
    done = of(records, "platform.runtimeDone", request)[0]
    assert (done["status"], done["metrics"]["producedBytes"]) == ("success", len(first.body))
    report = of(records, "platform.report", request)[0]
    assert report["status"] == "success" and report["metrics"]["memorySizeMB"] == 128
    assert report["metrics"]["billedDurationMs"] >= report["metrics"]["durationMs"] > 0
    # What the function prints, and what the extension does, are told apart; the platform's own lines are neither.
    assert of(records, "function")[:2] == ["one", "two"]
    assert not [line for line in of(records, "function") if "RequestId" in line or line.startswith("{")]
    assert "hello from receiver" in of(records, "extension")
    assert "hello from receiver" in daemon.fn("logs", "telling").stdout.decode()
    answers = said(daemon, "telling")
    assert answers[0]["subscribed"] == [200, '"OK"']
    # As AWS's emulator of the Runtime API answers.
    assert (answers[0]["older"][0], json.loads(answers[0]["older"][1])["errorType"]) == (202, "Logs.NotSupported")
    late = wait_until(lambda: [s["late"] for s in said(daemon, "telling") if "late" in s], "the late one to be refused")
    assert (late[0][0], json.loads(late[0][1])["errorType"]) == (403, "Telemetry.SubscriptionClosed")
    batches = daemon.invoke("telling", {"read": "/tmp/batches"}).json["text"].splitlines()
    assert all(line.endswith(" /in?x=1 application/json") for line in batches), batches


def test_a_last_line_that_was_not_ended_is_sent_before_the_report(daemon):
    deploy(daemon, "unended", {"receiver": RECEIVER + MAIN}, handler=READER)
    request = daemon.invoke("unended", {"print": ["one"], "write": "and no more"}).json["id"]
    records = received(daemon, "unended", lambda r: of(r, "platform.report", request) and "and no more" in of(r, "function"))
    order = [r["record"] if r["type"] == "function" else r["type"] for r in records
             if r["type"] == "function" or r["type"].startswith("platform") and r["record"].get("requestId") == request]
    assert [what for what in order if what != "platform.runtimeDone"] == [
        "platform.start", "one", "and no more", "platform.report"], order


def test_an_error_is_told_as_one(daemon):
    deploy(daemon, "erring", {"receiver": RECEIVER + MAIN}, handler=READER)
    assert daemon.invoke("erring", {"raise": True}).status == 502
    records = received(daemon, "erring", lambda r: [d for d in of(r, "platform.runtimeDone") if d["status"] == "error"])
    failed = [d for d in of(records, "platform.runtimeDone") if d["status"] == "error"][0]["requestId"]
    records = received(daemon, "erring", lambda r: of(r, "platform.report", failed))
    assert of(records, "platform.report", failed)[0]["status"] == "error"


def test_only_what_was_asked_for_is_sent(daemon):
    deploy(daemon, "choosy", {"receiver": RECEIVER + 'TYPES = ["function"]\n' + MAIN}, handler=READER)
    assert daemon.invoke("choosy", {"print": ["mine"]}).status == 200
    records = received(daemon, "choosy", lambda r: r)
    assert [(r["type"], r["record"]) for r in records] == [("function", "mine")]


def test_a_function_that_logs_in_json_has_its_lines_as_objects(daemon):
    import boto3
    deploy(daemon, "formed", {"receiver": RECEIVER + MAIN}, handler=READER)
    aws = boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{daemon.port}", region_name="us-east-1",
                       aws_access_key_id="x", aws_secret_access_key="x")
    aws.update_function_configuration(FunctionName="formed", LoggingConfig={"LogFormat": "JSON"})
    lines = ['{"level":"INFO","n":1}', "plain", '{"broken":']
    assert daemon.invoke("formed", {"print": lines}).status == 200
    records = received(daemon, "formed", lambda r: len(of(r, "function")) >= 3)
    assert of(records, "function")[:3] == [{"level": "INFO", "n": 1}, "plain", '{"broken":']


def test_a_subscriber_that_hangs_holds_up_nobody_and_learns_what_it_missed(daemon):
    deploy(daemon, "hanging", {"receiver": RECEIVER + MAIN}, "--timeout", "60s", handler=READER)
    assert daemon.invoke("hanging", {"touch": ["/tmp/hang"]}).status == 200
    # 3 MB while one batch waits for an answer that does not come: more than is kept.
    flooded = [daemon.invoke("hanging", {"flood": 1500, "read": "/dev/null"}) for _ in range(2)]
    assert [a.status for a in flooded] == [200, 200], flooded[0].body
    received(daemon, "hanging", lambda r: True, {"remove": ["/tmp/hang"], "read": "/tmp/received"})
    records = received(daemon, "hanging", lambda r: of(r, "platform.logsDropped"))
    dropped = of(records, "platform.logsDropped")[0]
    assert dropped["droppedRecords"] > 0 and dropped["droppedBytes"] > dropped["droppedRecords"]
    assert dropped["reason"].startswith("Consumer seems to have fallen behind")


def test_a_listener_over_tcp_gets_a_document_a_line(daemon):
    receiver = RECEIVER + """
import socket
_, me, _ = register("INVOKE")
listener = socket.create_server(("127.0.0.1", PORT))
assert subscribe(me, destination={"protocol": "TCP", "port": PORT})[0] == 200
def read():
    connection, _ = listener.accept()
    for line in connection.makefile():
        with open("/tmp/received", "a") as file:
            file.write(line)
threading.Thread(target=read, daemon=True).start()
while True:
    next_event(me)
"""
    deploy(daemon, "plain-tcp", {"receiver": receiver}, handler=READER)
    first = daemon.invoke("plain-tcp", {"print": ["over tcp"]})
    assert first.status == 200, first.body
    records = received(daemon, "plain-tcp", lambda r: of(r, "platform.report", first.json["id"]))
    assert "over tcp" in of(records, "function")
    assert records[0]["type"] == "platform.initStart"


def test_nobody_listens_and_nothing_waits_for_it(daemon):
    deaf = RECEIVER + """
_, me, _ = register("INVOKE", "SHUTDOWN")
say(subscribed=subscribe(me))
while next_event(me)["eventType"] != "SHUTDOWN": pass
"""
    deploy(daemon, "deaf-one", {"receiver": deaf}, handler=HANDLER)
    assert [daemon.invoke("deaf-one").status for _ in range(3)] == [200] * 3
    deploy(daemon, "deaf-one", {"receiver": deaf}, handler=HANDLER + "# another one\n")
    wait_until(lambda: not daemon.sandboxes("deaf-one"), "the first one to end")


def test_a_timeout_is_the_last_that_it_is_sent(daemon):
    receiver = RECEIVER + MAIN + """
time.sleep(0.3)
print("last: " + open("/tmp/received").read().replace("\\n", " "), flush=True)
"""
    handler = "import time\ndef handle(event, context):\n    time.sleep(event.get('s', 0))\n    return 1\n"
    deploy(daemon, "timing-out", {"receiver": receiver}, "--timeout", "2s", handler=handler)
    assert daemon.invoke("timing-out").status == 200
    assert daemon.invoke("timing-out", {"s": 600}).json["errorType"] == "Sandbox.Timedout"
    log = wait_until(lambda: (t := daemon.fn("logs", "timing-out").stdout.decode()) and "last: " in t and t, "its last word")
    last = [json.loads(line)["message"] for line in log.splitlines() if "last: " in line][0]
    assert '"status": "timeout"' in last, last


def test_a_runtime_beside_an_extension_is_asked_to_end_before_it_is_killed(daemon):
    handler = """
import signal, sys
def gone(*_):
    print("asked to end", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, gone)
def handle(event, context):
    return 1
"""
    internal = """
import http.client, os, json
c = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
c.request("POST", "/2020-01-01/extension/register", json.dumps({"events": []}), {"Lambda-Extension-Name": "inside"})
me = c.getresponse().getheader("Lambda-Extension-Identifier")
import threading
def ask():
    d = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    d.request("GET", "/2020-01-01/extension/event/next", headers={"Lambda-Extension-Identifier": me})
    d.getresponse()
threading.Thread(target=ask, daemon=True).start()
"""
    listener = PRELUDE + """
_, me, _ = register("SHUTDOWN")
while next_event(me)["eventType"] != "SHUTDOWN": pass
say(done=True)
"""
    for name, extensions, code in (("asked", {"listener": listener}, handler), ("asked-inside", {}, handler + internal)):
        deploy(daemon, name, extensions, handler=code)
        assert daemon.invoke(name).status == 200
        deploy(daemon, name, extensions, handler=code + "# another one\n")
        log = wait_until(lambda: (t := daemon.fn("logs", name).stdout.decode()) and "asked to end" in t and t, name)
        wait_until(lambda: not daemon.sandboxes(name), "it to be gone")
        if extensions:
            text = wait_until(lambda: (t := daemon.fn("logs", name).stdout.decode()) and '\\"done\\"' in t and t, "its end")
            assert text.index("asked to end") < text.index("SPINDOWN"), text
    # Where there is no extension there is nothing to wait for: as in Lambda it is killed at once.
    deploy(daemon, "unasked", {}, handler=handler)
    assert daemon.invoke("unasked").status == 200
    deploy(daemon, "unasked", {}, handler=handler + "# another one\n")
    wait_until(lambda: not daemon.sandboxes("unasked"), "it to be gone")
    assert "asked to end" not in daemon.fn("logs", "unasked").stdout.decode()


def test_a_runtime_that_will_not_end_is_killed_and_its_extensions_are_told(daemon):
    handler = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ndef handle(event, context):\n    return 1\n"
    listener = PRELUDE + """
_, me, _ = register("SHUTDOWN")
while next_event(me)["eventType"] != "SHUTDOWN": pass
time.sleep(0.2)
say(runtimes=[p for p in os.listdir("/proc") if p.isdigit() and b"bootstrap" in open(f"/proc/{p}/cmdline", "rb").read()])
"""
    deploy(daemon, "stubborn", {"listener": listener}, handler=handler)
    assert daemon.invoke("stubborn").status == 200
    deploy(daemon, "stubborn", {"listener": listener}, handler=handler + "# another one\n")
    seen = wait_until(lambda: [s["runtimes"] for s in said(daemon, "stubborn") if "runtimes" in s], "its last word")
    assert seen == [[]]


def test_an_image_knows_its_sandbox_by_lambdas_name(daemon):
    code = "import socket\ndef handle(event, context):\n    return socket.gethostbyname('sandbox.localdomain')\n"
    deploy(daemon, "named", {}, handler=code)
    assert daemon.invoke("named").json == "127.0.0.1"
