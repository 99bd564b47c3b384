# SPDX-License-Identifier: Apache-2.0
"""Answers that come before they are whole, and the HTTP-shaped door.

Order is made by conditions: a function goes on when the test has written a file into its /tmp.
"""
import base64
import hashlib
import http.client
import json
import pathlib
import socket

import boto3
import botocore.config
import pytest

from conftest import SCALE, wait_until

CONFIG = "defaults: {timeout: 200s, init_timeout: 120s}\nlimits: {response_stream: 60MiB}\n"
MIB = 1 << 20

PYTHON = """
import os, time
def wait(name):
    while not os.path.exists("/tmp/" + name): time.sleep(0.01)
def pieces(event):
    what = event.get("what")
    if what == "early": raise KeyError("before the first byte")
    yield "first "
    if what == "gate":
        wait(event["gate"])
        yield b"second "
        yield "\\u00e9"
    if what == "raise": raise ValueError("midway")
    if what == "exit": os._exit(3)
    if what == "hang": time.sleep(3600)
    if what == "object": yield object()
    if what == "endless":
        while True: yield b"x" * 65536
    if what == "much":
        block = bytes(range(256)) * 256
        for n in range(event["blocks"]):
            yield block
            with open("/tmp/progress", "w") as file: file.write(str(n + 1))
def handle(event, context):
    return pieces(event)
def plain(event, context):
    return {"pid": os.getpid()}
"""

NODE = """
const fs = require("node:fs");
const gate = (name) => new Promise((resolve) => {
    const timer = setInterval(() => { if (fs.existsSync("/tmp/" + name)) { clearInterval(timer); resolve(); } }, 10);
});
exports.handle = awslambda.streamifyResponse(async (event, responseStream, context) => {
    if (event.what === "early") throw new TypeError("before the first byte");
    if (event.what === "silent") return;
    responseStream.setContentType("text/x-parts");
    responseStream.write("first ");
    if (event.what === "gate") await gate(event.gate);
    if (event.what === "raise") throw new TypeError("midway");
    if (event.what === "thrown") { setTimeout(() => { throw new RangeError("outside"); }, 1); await new Promise(() => {}); }
    if (event.what === "much") {
        const block = Buffer.alloc(65536, "n");
        for (let n = 0; n < event.blocks; n++)
            if (!responseStream.write(block)) await new Promise((resolve) => responseStream.once("drain", resolve));
    }
    responseStream.write("second");
    responseStream.end();
});
exports.web = awslambda.streamifyResponse(async (event, responseStream) => {
    const answer = awslambda.HttpResponseStream.from(responseStream, {
        statusCode: 207, headers: { "Content-Type": "text/x-web", "X-Own": "yes" }, cookies: ["a=1", "b=2"] });
    answer.write(event.rawPath + " ");
    if (event.rawPath === "/gate") await gate(event.queryStringParameters.gate);
    answer.end("end");
});
"""

WEB = """
import base64, json
def handle(event, context):
    path = event["rawPath"]
    if path == "/raise": raise ValueError("bad")
    if path == "/value": return {"any": "value"}
    if path == "/binary":
        return {"statusCode": 200, "headers": {"Content-Type": "image/x-test"}, "isBase64Encoded": True,
                "body": base64.b64encode(bytes(range(256))).decode()}
    if path == "/teapot":
        return {"statusCode": 418, "headers": {"X-Own": "yes"}, "cookies": ["a=1", "b=2; Path=/"], "body": "short"}
    if path == "/nothing": return {"statusCode": 204}
    if path == "/wrong": return {"statusCode": 200, "headers": {"X": "a\\r\\nY: b"}}
    if path == "/stream":
        def items():
            yield {"statusCode": 202, "headers": {"Content-Type": "text/x-py"}}
            yield "body"
        return items()
    if path == "/badhead":
        def items():
            yield {"statusCode": 7}
            yield "body"
        return items()
    return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": json.dumps(event)}
"""


@pytest.fixture(scope="module", autouse=True)
def functions(daemon):
    daemon.deploy_code("py", {"app.py": PYTHON})
    daemon.deploy_code("js", {"index.js": NODE}, "node", "index.handle")


@pytest.fixture(scope="module")
def web(daemon):
    daemon.deploy_code("web", {"app.py": WEB})
    daemon.deploy_code("jsweb", {"index.js": NODE}, "node", "index.web")


@pytest.fixture(scope="module")
def client(daemon):
    return boto3.client(
        "lambda", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{daemon.port}", aws_access_key_id="x",
        aws_secret_access_key="x", config=botocore.config.Config(read_timeout=300, retries={"max_attempts": 0}))


def open_gate(daemon, function, name):
    """Lets a function go on that waits for this file."""
    root = pathlib.Path(f"/proc/{daemon.sandbox(function)['pid']}/root/tmp")
    (root / name).write_text("")


def begin(daemon, path, event=None, headers=None):
    """A request of which only the head of the answer has been read."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60 * SCALE)
    connection.request("POST", path, body=json.dumps(event or {}), headers=headers or {})
    return connection, connection.getresponse()


def log_of(daemon, function, text):
    wait_until(lambda: text in daemon.fn("logs", function, "--tail", "200").stdout.decode(), f"'{text}' in the log")


@pytest.mark.parametrize("function, kind, rest", [
    ("py", "application/octet-stream", "second é"), ("js", "text/x-parts", "second")])
def test_the_plain_door_passes_parts_on_as_they_come(daemon, function, kind, rest):
    connection, answer = begin(daemon, f"/invoke/{function}", {"what": "gate", "gate": "plain"})
    assert (answer.status, answer.headers["Transfer-Encoding"], answer.headers["Content-Type"]) == (200, "chunked", kind)
    assert answer.headers["X-Fn-Start"] in ("cold", "warm", "thawed", "prewarmed")
    assert len(answer.headers["X-Fn-Request-Id"]) == 36
    assert answer.read(6) == b"first "
    open_gate(daemon, function, "plain")  # it has been waiting for this since
    assert answer.read().decode() == rest
    connection.close()
    tail = daemon.fn("logs", function, "--tail", "200").stdout.decode()
    assert f"REPORT RequestId: {answer.headers['X-Fn-Request-Id']}" in tail


@pytest.mark.parametrize("function", ["py", "js"])
def test_boto3_gets_parts_before_the_function_ends(daemon, client, function):
    event = json.dumps({"what": "gate", "gate": f"boto-{function}"}).encode()
    answer = client.invoke_with_response_stream(FunctionName=function, Payload=event, LogType="Tail")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"].startswith("Root=1-")
    events = iter(answer["EventStream"])
    assert next(events) == {"PayloadChunk": {"Payload": b"first "}}
    open_gate(daemon, function, f"boto-{function}")
    later = list(events)
    assert b"".join(part["PayloadChunk"]["Payload"] for part in later[:-1]).startswith(b"second")
    assert set(later[-1]["InvokeComplete"]) == {"LogResult"}
    assert "REPORT RequestId" in base64.b64decode(later[-1]["InvokeComplete"]["LogResult"]).decode()


def test_what_is_known_at_the_end_follows_as_trailers(daemon):
    with socket.create_connection(("127.0.0.1", daemon.port), 60 * SCALE) as raw:
        raw.sendall(b"POST /invoke/py HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        head, _, body = raw.makefile("rb").read().partition(b"\r\n\r\n")
    assert b"Trailer: X-Fn-Duration-Ms" in head
    assert b"\r\n0\r\nX-Fn-Duration-Ms: " in body


def test_fn_prints_a_streamed_answer(daemon):
    result = daemon.fn("invoke", "js")
    assert (result.returncode, result.stdout) == (0, b"first second")


def test_invoke_collects_a_streamed_answer(daemon, client):
    assert client.invoke(FunctionName="py", Payload=b"{}")["Payload"].read() == b"first "
    answer = client.invoke(FunctionName="py", Payload=json.dumps({"what": "much", "blocks": 90}).encode())
    assert "FunctionError" not in answer
    assert len(answer["Payload"].read()) == 90 * 65536 + 6
    answer = client.invoke(FunctionName="py", Payload=json.dumps({"what": "much", "blocks": 110}).encode())
    assert answer["FunctionError"] == "Unhandled"
    assert json.load(answer["Payload"])["errorType"] == "Function.ResponseSizeTooLarge"
    assert client.invoke(FunctionName="py", Payload=b"{}")["Payload"].read() == b"first "


def test_an_event_for_later_keeps_a_streamed_answer_whole(daemon):
    event = daemon.fn("invoke", "py", "-d", "{}", "--async").stdout.decode().strip()
    wait_until(lambda: daemon.request("GET", f"/v1/queue/{event}").json["state"] == "succeeded", "the event to run", 60)
    assert b"first " in daemon.fn("queue", "show", event).stdout


@pytest.mark.parametrize("function, kind", [("py", "KeyError"), ("js", "TypeError")])
def test_an_error_before_the_first_byte_is_an_error_like_any_other(daemon, function, kind):
    answer = daemon.invoke(function, {"what": "early"})
    assert (answer.status, answer.json["errorType"]) == (502, kind)


def test_a_stream_that_nothing_was_written_to_is_an_empty_answer(daemon):
    answer = daemon.invoke("js", {"what": "silent"})
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("function, what, kind, message", [
    ("py", "raise", "ValueError", "midway"), ("js", "raise", "TypeError", "midway"),
    ("py", "object", "TypeError", "bytes and str"), ("py", "exit", "Runtime.ExitError", "exit status 3"),
    ("js", "thrown", "Runtime.UnhandledException", "outside")])
def test_an_error_midway_ends_the_stream_as_an_error(daemon, client, function, what, kind, message):
    event = {"what": what}
    parts = list(client.invoke_with_response_stream(FunctionName=function, Payload=json.dumps(event))["EventStream"])
    assert parts[0] == {"PayloadChunk": {"Payload": b"first "}}
    end = parts[-1]["InvokeComplete"]
    assert end["ErrorCode"] == "Unhandled"
    details = json.loads(end["ErrorDetails"])
    assert message in details["errorMessage"]
    assert details["errorType"] == kind
    connection, answer = begin(daemon, f"/invoke/{function}", event)
    with pytest.raises(http.client.IncompleteRead) as broken:
        answer.read()
    assert broken.value.partial == b"first "
    connection.close()
    log_of(daemon, function, message)
    assert daemon.invoke(function).status == 200, "the next request works"


def test_a_timeout_midway_ends_the_stream_as_a_timeout(daemon, client):
    connection, answer = begin(daemon, "/invoke/py", {"what": "hang"}, {"X-Fn-Timeout-Ms": str(int(1000 * SCALE))})
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    log_of(daemon, "py", "Sandbox.Timedout")
    assert daemon.fn("update", "py", "--timeout", f"{int(2 * SCALE)}s").returncode == 0
    parts = list(client.invoke_with_response_stream(FunctionName="py", Payload=b'{"what": "hang"}')["EventStream"])
    assert parts[0] == {"PayloadChunk": {"Payload": b"first "}}
    assert json.loads(parts[-1]["InvokeComplete"]["ErrorDetails"])["errorType"] == "Sandbox.Timedout"
    assert daemon.fn("update", "py", "--timeout", "200s").returncode == 0
    assert daemon.invoke("py").body == b"first "


def test_a_stream_without_an_end_is_cut_at_its_limit(daemon, client):
    for limit in (20, 60):  # limits.response_stream is live
        daemon.config.write_text(CONFIG.replace("60MiB", f"{limit}MiB"))
        assert daemon.fn("config", "reload").returncode == 0
        connection, answer = begin(daemon, "/invoke/py", {"what": "endless"})
        read = 0
        with pytest.raises(http.client.IncompleteRead):
            while part := answer.read(MIB):
                read += len(part)
        connection.close()
        assert (limit - 20) * MIB < read <= limit * MIB
    log_of(daemon, "py", "Function.ResponseSizeTooLarge")
    assert daemon.invoke("py").body == b"first "


def resident(daemon):
    status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) << 10


def stalled(read):
    """What a number is once it has stood still for a while."""
    seen = {"value": None, "times": 0}

    def look():
        value = read()
        seen["times"] = seen["times"] + 1 if value and value == seen["value"] else 0
        seen["value"] = value
        return value if seen["times"] > 20 else None
    return wait_until(look, "the function to be made to wait", 60)


def test_a_client_that_does_not_read_makes_the_function_wait_and_the_daemon_hold_nothing(daemon):
    blocks, block = 800, bytes(range(256)) * 256
    daemon.invoke("py", {"what": "much", "blocks": 100})  # everything that is allocated once has been
    progress = pathlib.Path(f"/proc/{daemon.sandbox('py')['pid']}/root/tmp/progress")
    progress.write_text("0")
    before = resident(daemon)
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=120 * SCALE)
    connection.sock = socket.socket()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    connection.sock.settimeout(120 * SCALE)
    connection.sock.connect(("127.0.0.1", daemon.port))
    connection.request("POST", "/invoke/py", body=json.dumps({"what": "much", "blocks": blocks}))
    written = stalled(lambda: int(progress.read_text() or 0))
    assert written < blocks / 2, "it is blocked: what it has written is in the kernel's buffers"
    assert resident(daemon) - before < 8 * MIB
    answer = connection.getresponse()
    assert answer.read(6) == b"first "
    digest, expected = hashlib.sha256(), hashlib.sha256()
    while part := answer.read(MIB):
        digest.update(part)
    for _ in range(blocks):
        expected.update(block)
    assert digest.digest() == expected.digest()
    assert resident(daemon) - before < 16 * MIB
    connection.close()


def test_node_waits_for_its_stream_to_drain(daemon):
    connection, answer = begin(daemon, "/invoke/js", {"what": "much", "blocks": 300})
    body = answer.read()
    assert (len(body), body[-6:]) == (6 + 300 * 65536 + 6, b"second")
    connection.close()


def test_a_client_that_goes_away_midway_leaves_the_sandbox_fit_for_the_next(daemon):
    assert daemon.invoke("py").status == 200
    first = daemon.sandbox("py")
    open_descriptors = pathlib.Path(f"/proc/{daemon.process.pid}/fd")
    before = len(list(open_descriptors.iterdir()))
    for n in range(5):
        connection, answer = begin(daemon, "/invoke/py", {"what": "gate", "gate": f"gone-{n}"})
        assert answer.read(6) == b"first "
        connection.close()
        answer.close()
        open_gate(daemon, "py", f"gone-{n}")
        log_of(daemon, "py", f"REPORT RequestId: {answer.headers['X-Fn-Request-Id']}")
    connection, answer = begin(daemon, "/invoke/py", {"what": "much", "blocks": 800})
    assert answer.read(6) == b"first "
    connection.close()
    answer.close()
    log_of(daemon, "py", f"REPORT RequestId: {answer.headers['X-Fn-Request-Id']}")
    assert daemon.invoke("py").body == b"first "
    assert daemon.sandbox("py")["pid"] == first["pid"]
    wait_until(lambda: len(list(open_descriptors.iterdir())) <= before, "its connections to be gone")


def test_a_mode_that_is_none_is_refused_and_a_runtime_that_breaks_off_is_ended(daemon):
    bootstrap = """#!/usr/bin/python3
import http.client, json, os, time
def connect(): return http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api = connect()
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    event = api.getresponse()
    what, place = json.loads(event.read()), "/2018-06-01/runtime/invocation/" + event.headers["Lambda-Runtime-Aws-Request-Id"]
    if what == "mode":
        api.request("POST", place + "/response", "x", {"Lambda-Runtime-Function-Response-Mode": "other"})
        refusal = api.getresponse()
        text = json.dumps([refusal.status, json.loads(refusal.read())["errorType"]])
        api.request("POST", place + "/response", text)
        api.getresponse().read()
    if what == "twice":
        streaming = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked"}
        api.putrequest("POST", place + "/response")
        for name, value in streaming.items(): api.putheader(name, value)
        api.putheader("Expect", "100-continue")
        api.endheaders()
        api.sock.recv(1024)  # it has been begun
        api.send(b"1\\r\\na\\r\\n")
        other = connect()
        other.request("POST", place + "/response", iter([b"z"]), streaming, encode_chunked=True)
        status = other.getresponse()
        kind = json.loads(status.read())["errorType"].encode()
        other.request("GET", "/2018-06-01/runtime/invocation/next")
        next_kind = json.loads(other.getresponse().read())["errorType"].encode()
        api.send(b"%x\\r\\n%b\\r\\n%x\\r\\n%b\\r\\n0\\r\\n\\r\\n" % (len(kind), kind, len(next_kind), next_kind))
        api.getresponse().read()
    if what == "break":
        api.putrequest("POST", place + "/response")
        api.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
        api.putheader("Transfer-Encoding", "chunked")
        api.endheaders()
        api.send(b"3\\r\\nabc\\r\\n")
        api.close()
        time.sleep(3600)
"""
    daemon.deploy_code("own", {"bootstrap": bootstrap}, "provided", "")
    assert daemon.invoke("own", "mode").json == [400, "InvalidFunctionResponseMode"]
    assert daemon.invoke("own", "twice").body == b"aInvalidStateTransitionInvalidStateTransition"
    connection, answer = begin(daemon, "/invoke/own", "break")
    with pytest.raises(http.client.IncompleteRead) as broken:
        answer.read()
    assert broken.value.partial == b"abc"
    connection.close()
    log_of(daemon, "own", "closed its connection in the middle of its answer")
    assert daemon.invoke("own", "mode").status == 200


# The HTTP-shaped door


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_any_method_and_path_becomes_an_event(daemon, web, method):
    answer = daemon.request(method, "/url/web/a%20b/c/?x=1&x=2&y=%C3%A9", headers={
        "Cookie": "a=1; b=2", "X-Own": "yes", "User-Agent": "me", "Host": "web.localhost:9000"})
    event = answer.json
    assert (answer.status, event["version"], event["routeKey"]) == (200, "2.0", "$default")
    assert (event["rawPath"], event["rawQueryString"]) == ("/a%20b/c/", "x=1&x=2&y=%C3%A9")
    assert event["queryStringParameters"] == {"x": "1,2", "y": "é"}
    assert event["cookies"] == ["a=1", "b=2"]
    assert event["headers"]["x-own"] == "yes"
    context = event["requestContext"]
    assert context["http"] == {"method": method, "path": "/a%20b/c/", "protocol": "HTTP/1.1",
                               "sourceIp": "127.0.0.1", "userAgent": "me"}
    assert (context["domainName"], context["domainPrefix"], context["apiId"]) == ("web.localhost", "web", "web")
    assert context["requestId"] == answer.headers["x-fn-request-id"]
    assert (context["stage"], context["routeKey"]) == ("$default", "$default")
    assert event["isBase64Encoded"] is False and "body" not in event


def test_bodies_travel_as_text_or_as_base64(daemon, web):
    event = daemon.request("POST", "/url/web", "é".encode(), {"Content-Type": "text/plain; charset=utf-8"}).json
    assert (event["body"], event["isBase64Encoded"]) == ("é", False)
    event = daemon.request("POST", "/url/web", b"\xff\x00", {"Content-Type": "image/png"}).json
    assert (event["body"], event["isBase64Encoded"]) == (base64.b64encode(b"\xff\x00").decode(), True)
    assert daemon.request("PUT", "/url/web", b"x" * (7 << 20), {"Content-Type": "text/plain"}).status == 413


def test_an_object_with_status_code_is_the_answer_and_any_other_value_its_body(daemon, web):
    answer = daemon.request("GET", "/url/web/teapot")
    assert (answer.status, answer.body, answer.headers["x-own"]) == (418, b"short", "yes")
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60 * SCALE)
    connection.request("GET", "/url/web/teapot")
    response = connection.getresponse()
    assert response.headers.get_all("Set-Cookie") == ["a=1", "b=2; Path=/"]
    response.read()
    connection.request("HEAD", "/url/web/teapot")  # the connection is still good after each of them
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Length"], response.read()) == (418, "5", b"")
    connection.request("HEAD", "/url/web/stream")
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Type"], response.read()) == (202, "text/x-py", b"")
    connection.request("GET", "/url/web/nothing")
    response = connection.getresponse()
    assert (response.status, response.read()) == (204, b"")
    connection.request("GET", "/url/web/value")
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert json.loads(response.read()) == {"any": "value"}
    connection.close()
    answer = daemon.request("GET", "/url/web/binary")
    assert (answer.headers["content-type"], answer.body) == ("image/x-test", bytes(range(256)))


def test_failures_have_the_plain_doors_statuses(daemon, web):
    answer = daemon.request("GET", "/url/nobody/x")
    assert (answer.status, answer.json["error"]["code"]) == (404, "FunctionNotFound")
    answer = daemon.request("GET", "/url/web/raise")
    assert (answer.status, answer.json["errorType"]) == (502, "ValueError")
    for path in ("/wrong", "/badhead"):
        answer = daemon.request("GET", f"/url/web{path}")
        assert (answer.status, answer.json["error"]["code"]) == (502, "InvalidAnswer"), answer.body
        assert "y" not in answer.headers
    assert daemon.request("GET", "/url/web/value").status == 200
    answer = daemon.request("GET", "/url/py", headers={"X-Fn-Memory-Mb": "x"})
    assert (answer.status, answer.json["error"]["code"]) == (400, "InvalidHeader")


def test_a_streamed_answer_has_a_head_of_its_own(daemon, web):
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60 * SCALE)
    connection.request("GET", "/url/jsweb/gate?gate=web")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Type"], answer.headers["X-Own"]) == (207, "text/x-web", "yes")
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.read(6) == b"/gate "
    open_gate(daemon, "jsweb", "web")
    assert answer.read() == b"end"
    connection.close()
    answer = daemon.request("GET", "/url/web/stream")
    assert (answer.status, answer.headers["content-type"], answer.body) == (202, "text/x-py", b"body")


def test_a_streamed_answer_without_a_head_is_a_body(daemon):
    answer = daemon.request("GET", "/url/js")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "text/x-parts", b"first second")


def test_fn_writes_what_comes_as_it_comes_and_says_when_it_breaks_off(daemon):
    answer = daemon.fn("invoke", "py", "-d", '{"what": "raise"}')
    assert (answer.returncode, answer.stdout) == (100, b"first ")
    assert b"failed in the middle of its answer (request " in answer.stderr
    answer = daemon.fn("invoke", "py", "-d", '{"what": "early"}')
    assert answer.returncode == 100 and b"before the first byte" in answer.stdout
