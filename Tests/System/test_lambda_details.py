# SPDX-License-Identifier: Apache-2.0
"""What Lambda's clients see at the edges: refusals in Lambda's words, headers, logs of what went wrong."""
import base64
import http.client
import io
import json
import re
import time
import zipfile

import pytest

from conftest import SCALE, wait_until
from test_async import ended, event, lambda_client, send

CONFIG = "defaults: {timeout: 60s, init_timeout: 60s, retries: 0, backoff: 100ms}\n"
CODE = """
import decimal, os, sys, time
def handle(event, context):
    print("it was here")
    print("and there", file=sys.stderr)
    how = event.get("how")
    if how == "sleep": time.sleep(50)
    if how == "exit": os._exit(3)
    if how == "kill": os.kill(os.getpid(), 9)
    if how == "decimal": return {"price": decimal.Decimal("1.5"), "odd": [decimal.Decimal(2)]}
    return {key: os.environ.get(key) for key in event.get("env", [])}
"""


@pytest.fixture(scope="module", autouse=True)
def function(daemon):
    daemon.deploy_code("edge", {"app.py": CODE})


def post(daemon, name="edge", body=b"{}", path="/2015-03-31/functions/{}/invocations", **headers):
    return daemon.request("POST", path.format(name), body, {k.replace("_", "-"): v for k, v in headers.items()})


def log_of(answer):
    return base64.b64decode(answer.headers["x-amz-log-result"]).decode()


@pytest.mark.parametrize("how, timeout", [("sleep", str(int(1500 * SCALE))), ("exit", None), ("kill", None)])
def test_what_a_function_printed_is_in_the_log_whatever_ended_it(daemon, how, timeout):
    headers = {"X_Amz_Log_Type": "Tail", **({"X_Fn_Timeout_Ms": timeout} if timeout else {})}
    answer = post(daemon, body=json.dumps({"how": how}).encode(), **headers)
    assert answer.headers["x-amz-function-error"] == "Unhandled"
    lines = log_of(answer).splitlines()
    id = answer.headers["x-amzn-requestid"]
    assert lines[0] == f"START RequestId: {id} Version: $LATEST"
    assert "it was here" in lines and "and there" in lines
    assert lines[-2] == f"END RequestId: {id}" and lines[-1].startswith(f"REPORT RequestId: {id}\t")


@pytest.mark.parametrize("files, words", [
    ({"app.py": "import nothing_of_the_kind\n"}, "nothing_of_the_kind"),
    ({"app.py": "print('as far as this', flush=True)\nraise ValueError('at import')\n"}, "as far as this"),
])
def test_a_start_that_fails_has_the_lines_that_every_request_has(daemon, files, words):
    daemon.deploy_code("broken", files)
    answer = post(daemon, "broken", X_Amz_Log_Type="Tail")
    id, log = answer.headers["x-amzn-requestid"], log_of(answer)
    assert log.startswith(f"START RequestId: {id} Version: $LATEST\n") and words in log
    assert f"END RequestId: {id}\nREPORT RequestId: {id}\t" in log and log.endswith("\tStatus: error\t\n")
    daemon.fn("rm", "--yes", "broken")


def test_a_dry_run_of_a_stream_runs_nothing(daemon):
    before = sum(s["invocations"] for s in daemon.sandboxes("edge"))
    stream = "/2021-11-15/functions/{}/response-streaming-invocations"
    answer = post(daemon, path=stream, X_Amz_Invocation_Type="DryRun")
    assert (answer.status, answer.body) == (204, b"") and answer.headers["x-amzn-requestid"]
    refused = post(daemon, path=stream, X_Amz_Invocation_Type="Event")
    assert refused.status == 400 and "RequestResponse or DryRun" in refused.json["message"]
    assert sum(s["invocations"] for s in daemon.sandboxes("edge")) == before
    assert post(daemon, X_Amz_Invocation_Type="DryRun").headers["x-amzn-requestid"]


@pytest.mark.parametrize("header, value, words", [
    ("X_Amz_Log_Type", "tail", "LogType must be None or Tail"),
    ("X_Amz_Client_Context", base64.b64encode(b"no json").decode(), "base64 of a JSON object"),
    ("X_Amz_Client_Context", base64.b64encode(b"[1]").decode(), "base64 of a JSON object"),
    ("X_Amz_Client_Context", base64.b64encode(json.dumps({"x": "y" * 3000}).encode()).decode(), "at most 3583 bytes"),
])
def test_a_header_that_makes_no_sense_is_the_callers_fault_not_the_functions(daemon, header, value, words):
    answer = post(daemon, **{header: value})
    assert answer.status == 400 and words in answer.json["message"], answer.body
    assert "x-amz-function-error" not in answer.headers


def test_a_trace_id_comes_back(daemon):
    trace = "Root=1-65f0a1b2-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=0"
    assert post(daemon, X_Amzn_Trace_Id=trace).headers["x-amzn-trace-id"] == trace


def test_a_call_without_a_trace_id_gets_one_that_its_function_is_told(daemon, tmp_path):
    (tmp_path / "app.py").write_text("import os\ndef handle(event, context):\n    return os.environ['_X_AMZN_TRACE_ID']\n")
    assert daemon.fn("deploy", tmp_path, "--name", "traced", "--runtime", "python", "--handler", "app.handle").returncode == 0
    answers = [lambda_client(daemon).invoke(FunctionName="traced") for _ in range(2)]
    told = [json.loads(answer["Payload"].read()) for answer in answers]
    assert [answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"] for answer in answers] == told
    assert len(set(told)) == 2
    for value in told:
        assert re.fullmatch("Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", value)
        assert abs(int(value[7:15], 16) - time.time()) < 600


def test_names_that_every_sandbox_has_cannot_be_set(daemon):
    client = lambda_client(daemon)
    for name in ("AWS_REGION", "LAMBDA_TASK_ROOT", "AWS_EXECUTION_ENV"):
        with pytest.raises(client.exceptions.InvalidParameterValueException, match=f"reserved keys.*{name}"):
            client.update_function_configuration(FunctionName="edge", Environment={"Variables": {name: "x"}})


def test_the_environment_says_what_lambda_says(daemon):
    client, names = lambda_client(daemon), ["AWS_EXECUTION_ENV", "AWS_XRAY_CONTEXT_MISSING"]
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("app.py", CODE)
    client.create_function(FunctionName="named", Runtime="python3.12", Role="arn:aws:iam::000000000000:role/r",
                           Handler="app.handle", Code={"ZipFile": data.getvalue()})
    found = json.load(client.invoke(FunctionName="named", Payload=json.dumps({"env": names}).encode())["Payload"])
    assert found == {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12", "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR"}


def test_decimals_are_written_as_lambdas_own_client_writes_them(daemon):
    assert daemon.invoke("edge", {"how": "decimal"}).json == {"price": 1.5, "odd": [2.0]}


def test_an_event_of_a_function_that_is_switched_off_fails_at_once_and_says_so(daemon):
    daemon.deploy_code("off", {"app.py": CODE})
    client, path = lambda_client(daemon), daemon.directory / "state" / "destinations" / "off.jsonl"
    client.put_function_event_invoke_config(FunctionName="off",
                                            DestinationConfig={"OnFailure": {"Destination": f"file://{path}"}})
    client.put_function_concurrency(FunctionName="off", ReservedConcurrentExecutions=0)
    id = send(daemon, {}, "off")
    ended(daemon, id, "failed")
    assert event(daemon, id)["reason"] == "ZeroReservedConcurrency"
    record = json.loads(wait_until(lambda: path.exists() and path.read_text(), "the record", 30))
    assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"


def test_every_answer_has_a_request_id_and_every_error_a_type(daemon):
    client = lambda_client(daemon)
    client.put_function_event_invoke_config(FunctionName="edge", MaximumRetryAttempts=0)
    for answer in (client.get_function_event_invoke_config(FunctionName="edge"),
                   client.list_function_event_invoke_configs(FunctionName="edge"),
                   client.delete_function_event_invoke_config(FunctionName="edge")):
        assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    for method, path, body, status, kind in [
        ("POST", "/2015-03-31/functions/%zz/invocations", b"{}", 404, "UnknownOperationException"),
        ("PUT", "/2017-10-31/functions/edge/concurrency", b"{}", 400, "ValidationException"),
        ("PUT", "/2015-03-31/functions/edge/configuration", b'{"MemorySize": "much"}', 400, "SerializationException"),
        ("PUT", "/2015-03-31/functions/edge/configuration", b'{"MemorySize":', 400, "InvalidRequestContentException"),
    ]:
        answer = daemon.request(method, path, body)
        assert (answer.status, answer.headers.get("x-amzn-errortype")) == (status, kind), answer.body
        assert "Swift" not in answer.body.decode() and "CodingKey" not in answer.body.decode()


def test_code_that_is_too_large_to_send_is_told_so(daemon):
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    connection.putrequest("POST", "/2015-03-31/functions")
    connection.putheader("Content-Length", str(200 << 20))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")
    connection.close()


def test_the_accounts_code_is_that_of_all_versions(daemon):
    client = lambda_client(daemon)

    def total():
        return client.get_account_settings()["AccountUsage"]["TotalCodeSize"]

    daemon.deploy_code("counted", {"app.py": CODE})
    one = total()
    client.publish_version(FunctionName="counted")
    assert total() == one
    daemon.deploy_code("counted", {"app.py": CODE + "# more\n"})
    assert total() > one
