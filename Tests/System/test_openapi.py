# SPDX-License-Identifier: Apache-2.0
"""openapi.yaml is true: what it promises is what the daemon answers, to requests that fit and to those that do not."""
import base64
import io
import json
import os
import subprocess
import sys
import zipfile

import pytest
import schemathesis
import yaml
from openapi_spec_validator import validate
from schemathesis.specs.openapi.checks import content_type_conformance, response_headers_conformance, \
    response_schema_conformance, status_code_conformance

from conftest import SCALE, wait_until
from images import Image, entry, tar

CONFIG = "defaults: {timeout: 60s, retries: 0}\n"
LONG = os.environ.get("EBB_LONG") == "1"
ECHO = "def handle(event, context):\n    print('called')\n    return event\n"
TRUTH = [status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def document(daemon):
    answer = daemon.request("GET", "/openapi.yaml")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/yaml")
    return answer.body.decode()


@pytest.fixture(scope="module")
def call(daemon, document):
    """Calls an operation by its id, and checks everything that the document says of the answer."""
    schema = schemathesis.openapi.from_dict(yaml.safe_load(document))
    operations = {each.ok().definition.raw.get("operationId"): each.ok() for each in schema.get_all_operations()}

    def call(operation, status, **options):
        case = operations[operation].Case(**options)
        response = case.call(base_url=f"http://127.0.0.1:{daemon.port}", timeout=60 * SCALE)
        assert response.status_code == status, response.text
        case.validate_response(response, checks=TRUTH)
        return response

    call.operations = operations
    return call


def test_it_is_a_valid_document_of_its_version(document):
    validate(yaml.safe_load(document))


def archive(text):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as files:
        files.writestr("app.py", text)
    return base64.b64encode(data.getvalue()).decode()


def test_a_life_of_a_function_answers_as_documented(daemon, call):
    name = {"path_parameters": {"name": "life"}}
    source = """
import time
def handle(event, context):
    print("called")
    if event == "sleep":
        time.sleep(600)
    return 1 / event["by"] if "by" in event else event
"""
    body = {"code": archive(source), "name": "life", "runtime": "python", "handler": "app.handle", "limits": {}}
    assert call("deploy", 201, body=body).json()["created"]
    assert not call("deploy", 200, body=body).json()["codeChanged"]
    call("deploy", 400, body={**body, "code": "!"})
    assert call("invoke", 200, **name, body={"a": 1}, headers={"X-Amz-Log-Type": "Tail"}).json() == {"a": 1}
    call("invoke", 400, **name, body={}, headers={"X-Fn-Memory-Mb": "1048576"})
    call("invoke", 502, **name, body={"by": 0})
    call("invoke", 504, **name, body="sleep", headers={"X-Fn-Timeout-Ms": "100"})
    call("invoke", 404, path_parameters={"name": "nobody"}, body={})
    later = call("invoke", 202, **name, body={"by": 0}, headers={"X-Amz-Invocation-Type": "Event"})
    event = {"path_parameters": {"id": later.json()["requestId"]}}
    wait_until(lambda: call("readEvent", 200, **event).json()["state"] == "failed", "the event to fail")
    assert call("listEvents", 200, query={"state": "failed", "function": "life"}).json()["events"]
    call("retryEvent", 200, **event)
    wait_until(lambda: call("readEvent", 200, **event).json()["attempts"] == 1
               and call("readEvent", 200, **event).json()["state"] == "failed", "it to fail again")
    assert call("purgeEvents", 200, query={"function": "life"}).json() == {"removed": 1}
    call("readEvent", 404, **event)
    call("retryEvent", 404, **event)
    done = call("invoke", 202, **name, body={}, headers={"X-Amz-Invocation-Type": "Event"}).json()["requestId"]
    event = {"path_parameters": {"id": done}}
    wait_until(lambda: call("readEvent", 200, **event).json()["state"] == "succeeded", "the event to succeed")
    call("retryEvent", 409, **event)
    assert call("updateFunction", 200, **name, body={"memory": 256 << 20}).json()["memory"] == 256 << 20
    call("updateFunction", 400, **name, body={"memory": "much"})
    assert call("describeFunction", 200, **name).json()["origins"]["memory"] == "function"
    assert call("listFunctions", 200).json()["functions"]
    assert "called" in call("readLogs", 200, **name, query={"tail": 100}).text
    call("readLogs", 400, **name, query={"tail": -1})
    call("readLogs", 400, **name, query={"since": "long", "follow": "true"})
    assert call("readCode", 200, **name).content == base64.b64decode(body["code"])
    call("invoke", 200, **name, body={})
    assert call("listSandboxes", 200).json()["sandboxes"]
    assert call("readLedger", 200).json()["functions"]
    assert call("listDecisions", 200, query={"subject": "life", "limit": 5}).json()["decisions"]
    # The values of its few words, which are checked by hand since any other header may come along.
    for header in ("X-Fn-Cold", "X-Amz-Invocation-Type", "X-Amz-Log-Type", "X-Fn-Timeout-Ms", "X-Fn-Cpu-Millis"):
        call("invoke", 400, **name, body={}, headers={header: "sometimes"})
    for query in ({"state": ""}, {"function": ""}, {"state": "running"}):
        call("purgeEvents", 400, query=query)
    assert call("adviseSize", 200, **name).json()["verdict"]
    assert call("adviseSizes", 200).json()["sizes"]
    call("removeFunction", 204, **name)
    for operation in ("describeFunction", "removeFunction", "readLogs", "readCode", "adviseSize"):
        call(operation, 404, **name)


def test_a_container_image_is_taken_and_refused_as_documented(daemon, call, tmp_path):
    body = Image(tar(entry("a", "1")), config={"Entrypoint": ["/a"], "User": "u"}).archive(tmp_path / "i.tar").read_bytes()
    options = {"path_parameters": {"name": "image"}, "body": body, "media_type": "application/octet-stream"}
    query = {"port": 8080, "memory": 128 << 20, "env": ["A=1", "B=2"], "command": ["x", "y"]}
    function = call("deployImage", 201, **options, query=query).json()["function"]
    assert (function["httpPort"], function["memory"], function["env"]) == (8080, 128 << 20, {"A": "1", "B": "2"})
    assert function["image"]["command"] == ["x", "y"]
    assert not call("deployImage", 200, **options).json()["codeChanged"]
    call("deployImage", 400, **{**options, "body": b"no archive"})
    call("deployImage", 400, **options, query={"memory": "much"})
    assert "httpPort" not in call("describeFunction", 200, path_parameters={"name": "image"}).json()
    call("readCode", 400, path_parameters={"name": "image"})
    call("removeFunction", 204, path_parameters={"name": "image"})


def test_the_daemon_answers_about_itself_as_documented(daemon, call):
    for operation in ("readConfig", "reloadConfig", "doctor", "version", "metrics", "health", "readiness", "page",
                      "specification", "listSchedules"):
        call(operation, 200)
    assert not call("diffConfig", 422, body={"nonsense": 1}, media_type="application/yaml").json()["accepted"]
    assert call("diffConfig", 200, body={"pools": {"events": 3}}, media_type="application/yaml").json()["changes"]
    daemon.config.write_text("nonsense: 1\n")
    assert not call("reloadConfig", 422).json()["accepted"]
    daemon.config.write_text(CONFIG)
    assert call("reloadConfig", 200).json()["accepted"]
    call("health", 403, headers={"Host": "evil.example"})


def test_streams_are_what_they_are_said_to_be(daemon):
    connection = daemon.connect()
    connection.request("GET", "/v1/events")
    response = connection.getresponse()
    assert response.getheader("content-type") == "text/event-stream"
    seen = set()
    while {"host", "sandboxes"} - seen:
        line = response.readline().decode()
        if line.startswith("event: "):
            seen.add(line.split()[1])
            assert json.loads(response.readline().decode().removeprefix("data: "))
    connection.close()


def test_a_method_that_a_path_does_not_take_is_told_those_that_it_does(daemon, document):
    for path, operations in yaml.safe_load(document)["paths"].items():
        known = {each.upper() for each in operations if each != "parameters"}
        if path.startswith("/url/"):
            continue  # takes all
        if path in ("/healthz", "/readyz"):
            known.add("HEAD")
        path = path.replace("{name}", "f").replace("{id}", "1")
        for method in {"POST", "DELETE", "PATCH", "OPTIONS", "HEAD"} - known:
            answer = daemon.request(method, path)
            assert answer.status == 405, (method, path)
            assert set(answer.headers["allow"].split(", ")) == known, (method, path)
    head = daemon.request("HEAD", "/healthz")
    assert (head.status, head.body) == (200, b"")


def fuzz(daemon, document, directory, *arguments, parameters=""):
    """Schemathesis' own program, with requests that fit the document and requests that do not."""
    (directory / "openapi.yaml").write_text(document)
    # Invoke takes any body, and headers that it does not know: nothing there is to be refused.
    (directory / "schemathesis.toml").write_text(
        f'[parameters]\n{parameters}[[operations]]\ninclude-operation-id = "invoke"\n'
        "checks.negative_data_rejection.enabled = false\n")
    phases = ["--phases", "examples,coverage,fuzzing", "-n", "200"] if LONG else ["--phases", "examples,fuzzing", "-n", "5"]
    result = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", "openapi.yaml",
         "--url", f"http://127.0.0.1:{daemon.port}", "--seed", os.environ.get("EBB_SEED", "1"), *phases,
         "--suppress-health-check", "all", "--request-timeout", str(60 * SCALE), "--continue-on-failure",
         # That a request fits the document does not make it fit the function, the archive or the operator's limits;
         # and 502 to 507 are what a function does, while 500, which is what is looked for, is documented nowhere.
         "--exclude-checks", "positive_data_acceptance,not_a_server_error", *arguments],
        cwd=directory, env={**os.environ, "HOME": str(directory), "NO_COLOR": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert daemon.request("GET", "/healthz").status == 200


def test_requests_made_from_the_document_are_answered_as_it_says(daemon, document, tmp_path):
    """Of everything but the stream that does not end and what a function answers itself; names are those of nobody."""
    fuzz(daemon, document, tmp_path, "--exclude-operation-id", "followEvents", "--exclude-path-regex", "^/url/",
         parameters='"path.name" = "nobody"\n"query.follow" = "false"\n')


def test_requests_to_a_function_that_is_there_are_answered_as_it_says(daemon, document, tmp_path):
    daemon.deploy_code("echo", {"app.py": ECHO})
    wanted = ["invoke", "describeFunction", "updateFunction", "readLogs", "readCode"]
    fuzz(daemon, document, tmp_path, *[word for each in wanted for word in ("--include-operation-id", each)],
         parameters='"path.name" = "echo"\n"query.follow" = "false"\n')
