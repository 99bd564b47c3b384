# SPDX-License-Identifier: Apache-2.0
"""Amazon's own clients, unmodified."""
import base64
import io
import json
import os
import re
import subprocess
import sys
import urllib.request
import zipfile

import boto3
import botocore.config
import botocore.exceptions
import pytest

CODE = """
def handle(event, context):
    print("seen", event)
    if event.get("raise"):
        raise ValueError("bad")
    return {"got": event, "arn": context.invoked_function_arn, "mb": context.memory_limit_in_mb}
"""


def archive(text=CODE):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("app.py", text)
    return data.getvalue()


@pytest.fixture(scope="module")
def client(daemon):
    return boto3.client(
        "lambda", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{daemon.port}", aws_access_key_id="x",
        aws_secret_access_key="x", config=botocore.config.Config(read_timeout=300, retries={"max_attempts": 0}))


@pytest.fixture(scope="module")
def function(client):
    return client.create_function(
        FunctionName="app", Runtime="python3.11", Role="arn:aws:iam::000000000000:role/r", Handler="app.handle",
        Code={"ZipFile": archive()}, Timeout=60, MemorySize=128, Environment={"Variables": {"COLOUR": "blue"}})


def test_create_answers_with_the_configuration(client, function):
    assert function["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert function["FunctionArn"] == "arn:aws:lambda:us-east-1:000000000000:function:app"
    assert (function["Runtime"], function["MemorySize"], function["Timeout"]) == ("python3.11", 128, 60)
    client.get_waiter("function_active_v2").wait(FunctionName="app")


def test_invoke_answers_with_the_log_tail(client, function):
    answer = client.invoke(FunctionName="app", Payload=b'{"a": 1}', LogType="Tail")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answer
    assert json.load(answer["Payload"])["got"] == {"a": 1}
    assert "seen {'a': 1}" in base64.b64decode(answer["LogResult"]).decode()


@pytest.mark.parametrize("name", [
    "app:$LATEST", "000000000000:function:app", "arn:aws:lambda:us-east-1:000000000000:function:app"])
def test_a_function_is_known_by_each_of_its_names(client, function, name):
    assert client.invoke(FunctionName=name, Payload=b"{}")["StatusCode"] == 200


def test_a_function_error_is_an_answer_with_status_200(client, function):
    answer = client.invoke(FunctionName="app", Payload=b'{"raise": true}')
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    document = json.load(answer["Payload"])
    assert (document["errorType"], document["errorMessage"]) == ("ValueError", "bad")
    assert "raise ValueError" in "".join(document["stackTrace"])


def test_a_dry_run_runs_nothing(client, function):
    assert client.invoke(FunctionName="app", InvocationType="DryRun")["StatusCode"] == 204


def test_payloads_that_are_not_json_are_refused(client, function):
    with pytest.raises(client.exceptions.InvalidRequestContentException):
        client.invoke(FunctionName="app", Payload=b"{not json")


def test_unknown_functions_are_not_found(client, function):
    with pytest.raises(client.exceptions.ResourceNotFoundException) as error:
        client.invoke(FunctionName="nobody", Payload=b"{}")
    assert "arn:aws:lambda:us-east-1:000000000000:function:nobody:$LATEST" in str(error.value)


def test_a_name_that_exists_is_a_conflict(client, function):
    with pytest.raises(client.exceptions.ResourceConflictException):
        client.create_function(
            FunctionName="app", Runtime="python3.11", Role="arn:aws:iam::000000000000:role/r", Handler="app.handle",
            Code={"ZipFile": archive()})


def test_the_code_can_be_fetched_back(client, function):
    location = client.get_function(FunctionName="app")["Code"]["Location"]
    assert zipfile.ZipFile(io.BytesIO(urllib.request.urlopen(location).read())).read("app.py").decode() == CODE


def test_the_version_of_the_runtime_has_a_name_that_stays(client, function):
    named = client.get_function_configuration(FunctionName="app")["RuntimeVersionConfig"]["RuntimeVersionArn"]
    assert re.fullmatch("arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}", named)
    assert named == function["RuntimeVersionConfig"]["RuntimeVersionArn"]


def test_a_name_that_may_have_been_meant_is_told_in_our_own_answers_and_not_in_lambdas(client, daemon, function):
    for answer in (daemon.invoke("ap"), daemon.request("GET", "/v1/functions/ap"), daemon.request("GET", "/url/ap/")):
        assert answer.status == 404
        assert answer.json["error"]["message"] == "no such function: ap; did you mean 'app'?"
    with pytest.raises(client.exceptions.ResourceNotFoundException) as error:
        client.invoke(FunctionName="ap", Payload=b"{}")
    assert error.value.response["Error"]["Message"] == (
        "Function not found: arn:aws:lambda:us-east-1:000000000000:function:ap:$LATEST")


def test_get_and_list_show_it(client, function):
    assert client.get_function(FunctionName="app")["Configuration"]["Handler"] == "app.handle"
    assert [f["FunctionName"] for f in client.list_functions()["Functions"]] == ["app"]


def test_memory_is_updated_live_and_seen_by_the_waiter(client, daemon, function):
    client.invoke(FunctionName="app", Payload=b"{}")
    before = daemon.sandbox("app")
    updated = client.update_function_configuration(FunctionName="app", MemorySize=256)
    assert updated["MemorySize"] == 256
    client.get_waiter("function_updated_v2").wait(FunctionName="app")
    assert client.invoke(FunctionName="app", Payload=b"{}")["StatusCode"] == 200
    assert daemon.sandbox("app")["pid"] == before["pid"]


def test_an_old_revision_id_is_refused(client, function):
    with pytest.raises(client.exceptions.PreconditionFailedException):
        client.update_function_configuration(FunctionName="app", Timeout=50, RevisionId=function["RevisionId"])


def test_new_code_answers_the_next_request(client, function):
    client.update_function_code(FunctionName="app", ZipFile=archive("def handle(event, context):\n    return 'new'\n"))
    assert json.load(client.invoke(FunctionName="app", Payload=b"{}")["Payload"]) == "new"


def test_the_aws_command_line_creates_invokes_updates_and_deletes(daemon, tmp_path):
    environment = {
        **os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1", "HOME": str(tmp_path)}
    (tmp_path / "code.zip").write_bytes(archive())

    def aws(*arguments):
        program = "import awscli.clidriver, sys; sys.exit(awscli.clidriver.main())"
        result = subprocess.run(
            [sys.executable, "-c", program, "lambda", *arguments, "--endpoint-url", f"http://127.0.0.1:{daemon.port}",
             "--cli-read-timeout", "300"], capture_output=True, env=environment, cwd=tmp_path)
        assert result.returncode == 0, result.stderr.decode()
        return json.loads(result.stdout) if result.stdout.strip() else None

    aws("create-function", "--function-name", "cli", "--runtime", "python3.11", "--handler", "app.handle",
        "--role", "arn:aws:iam::000000000000:role/r", "--zip-file", "fileb://code.zip", "--timeout", "60")
    answer = aws("invoke", "--function-name", "cli", "--payload", '{"b": 2}', "out.json")
    assert answer["StatusCode"] == 200
    assert json.loads((tmp_path / "out.json").read_text())["got"] == {"b": 2}
    assert aws("update-function-configuration", "--function-name", "cli", "--memory-size", "192")["MemorySize"] == 192
    aws("delete-function", "--function-name", "cli")


def test_delete_removes_it_and_its_sandboxes(client, daemon, function):
    assert client.delete_function(FunctionName="app")["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(botocore.exceptions.ClientError):
        client.get_function(FunctionName="app")
    from conftest import wait_until
    wait_until(lambda: not daemon.sandboxes("app"), "its sandboxes to end")


@pytest.fixture(scope="module")
def second(client):
    return client.create_function(
        FunctionName="second", Runtime="python3.11", Role="arn:aws:iam::000000000000:role/r", Handler="app.handle",
        Code={"ZipFile": archive()}, Timeout=60)


def test_tags_are_kept_and_listed(client, second):
    arn = second["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"team": "tide", "stage": "test"})
    assert client.list_tags(Resource=arn)["Tags"] == {"team": "tide", "stage": "test"}
    assert client.get_function(FunctionName="second")["Tags"]["team"] == "tide"
    client.untag_resource(Resource=arn, TagKeys=["team", "stage"])
    assert client.list_tags(Resource=arn)["Tags"] == {}


def test_reserved_concurrency_bounds_a_function_and_none_switches_it_off(client, second):
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName="second")
    assert client.put_function_concurrency(FunctionName="second", ReservedConcurrentExecutions=0)[
        "ReservedConcurrentExecutions"] == 0
    with pytest.raises(client.exceptions.TooManyRequestsException) as error:
        client.invoke(FunctionName="second", Payload=b"{}")
    assert error.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    client.put_function_concurrency(FunctionName="second", ReservedConcurrentExecutions=3)
    assert client.get_function(FunctionName="second")["Concurrency"] == {"ReservedConcurrentExecutions": 3}
    assert client.invoke(FunctionName="second", Payload=b"{}")["StatusCode"] == 200
    client.delete_function_concurrency(FunctionName="second")
    assert "Concurrency" not in client.get_function(FunctionName="second")
    with pytest.raises(client.exceptions.InvalidParameterValueException):
        client.put_function_concurrency(FunctionName="second", ReservedConcurrentExecutions=100_000)


def test_the_account_and_the_versions_are_told(client, second):
    settings = client.get_account_settings()
    assert settings["AccountUsage"]["FunctionCount"] >= 1
    assert 0 < settings["AccountLimit"]["UnreservedConcurrentExecutions"] <= settings["AccountLimit"]["ConcurrentExecutions"]
    versions = client.list_versions_by_function(FunctionName="second")["Versions"]
    assert [v["Version"] for v in versions] == ["$LATEST"] and versions[0]["FunctionArn"].endswith(":$LATEST")


def test_an_answer_comes_as_an_event_stream_too(client, second):
    events = list(client.invoke_with_response_stream(FunctionName="second", Payload=b'{"n": 1}', LogType="Tail")["EventStream"])
    assert json.loads(events[0]["PayloadChunk"]["Payload"])["got"] == {"n": 1}
    end = events[-1]["InvokeComplete"]
    assert "ErrorCode" not in end and b"REPORT RequestId" in base64.b64decode(end["LogResult"])
    end = list(client.invoke_with_response_stream(FunctionName="second", Payload=b'{"raise": 1}')["EventStream"])[-1]
    assert end["InvokeComplete"]["ErrorCode"] == "Unhandled" and "ValueError" in end["InvokeComplete"]["ErrorDetails"]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke_with_response_stream(FunctionName="nobody", Payload=b"{}")
