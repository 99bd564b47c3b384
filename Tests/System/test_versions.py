# SPDX-License-Identifier: Apache-2.0
"""Versions, aliases, provisioned concurrency and layers, through boto3 as anybody has it."""
import base64
import concurrent.futures
import io
import json
import threading
import zipfile

import boto3
import botocore.config
import botocore.exceptions
import pytest

from conftest import wait_until

CONFIG = "defaults: {timeout: 60s, init_timeout: 120s}\nhost: {memory: 3GiB}\n"

CODE = """
import os
def handle(event, context):
    return {"text": "%s", "version": context.function_version, "arn": context.invoked_function_arn,
            "start": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]}
"""


def archive(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as bundle:
        for name, text in files.items():
            bundle.writestr(name, text)
    return data.getvalue()


@pytest.fixture(scope="module")
def aws(daemon):
    config = botocore.config.Config(retries={"max_attempts": 0}, read_timeout=300)
    return boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{daemon.port}", region_name="us-east-1",
                        aws_access_key_id="x", aws_secret_access_key="x", config=config)


def create(aws, name, text="one", **more):
    return aws.create_function(FunctionName=name, Runtime="python3.11", Role="arn:aws:iam::000000000000:role/x", Handler="app.handle",
                               Code={"ZipFile": archive({"app.py": CODE % text})}, **more)


def recode(aws, name, text, **more):
    return aws.update_function_code(FunctionName=name, ZipFile=archive({"app.py": CODE % text}), **more)


def invoke(aws, name, **more):
    answer = aws.invoke(FunctionName=name, Payload=b"{}", **more)
    payload = json.load(answer["Payload"])
    assert "FunctionError" not in answer, payload
    return answer, payload


def refused(call, code, text="", **arguments):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    assert error["Code"] == code, error
    assert text in error["Message"], error
    return caught.value.response


def test_a_version_stays_what_it_was_when_the_function_goes_on(aws):
    create(aws, "steady")
    first = aws.publish_version(FunctionName="steady", Description="the first")
    assert first["Version"] == "1" and first["Description"] == "the first"
    assert first["FunctionArn"].endswith(":function:steady:1")
    assert aws.publish_version(FunctionName="steady")["Version"] == "1", "nothing has changed"
    recode(aws, "steady", "two", Publish=True)
    for qualifier, text in [("1", "one"), ("2", "two"), ("$LATEST", "two")]:
        answer, payload = invoke(aws, "steady", Qualifier=qualifier)
        assert answer["ExecutedVersion"] == qualifier
        assert payload["text"] == text and payload["version"] == qualifier
        assert payload["arn"].endswith(":steady:" + qualifier)
    assert invoke(aws, "steady:1")[1]["text"] == "one"
    versions = aws.list_versions_by_function(FunctionName="steady")["Versions"]
    assert [v["Version"] for v in versions] == ["$LATEST", "1", "2"]
    pages = aws.get_paginator("list_versions_by_function").paginate(FunctionName="steady", PaginationConfig={"PageSize": 1})
    assert [v["Version"] for page in pages for v in page["Versions"]] == ["$LATEST", "1", "2"]
    assert aws.get_function(FunctionName="steady", Qualifier="1")["Configuration"]["CodeSha256"] == first["CodeSha256"]
    aws.get_waiter("published_version_active").wait(FunctionName="steady", Qualifier="2")
    everything = [f for page in aws.get_paginator("list_functions").paginate(FunctionVersion="ALL") for f in page["Functions"]]
    assert [f["Version"] for f in everything if f["FunctionName"] == "steady"] == ["$LATEST", "1", "2"]
    aws.delete_function(FunctionName="steady", Qualifier="1")
    refused(aws.invoke, "ResourceNotFoundException", "steady:1", FunctionName="steady", Qualifier="1")
    assert invoke(aws, "steady", Qualifier="2")[1]["text"] == "two"
    aws.delete_function(FunctionName="steady")
    refused(aws.invoke, "ResourceNotFoundException", FunctionName="steady", Qualifier="2")


def test_what_was_published_is_there_after_a_restart(own_daemon):
    daemon = own_daemon(CONFIG).start()
    client = boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{daemon.port}", region_name="us-east-1",
                          aws_access_key_id="x", aws_secret_access_key="x")
    create(client, "kept")
    client.publish_version(FunctionName="kept")
    client.create_alias(FunctionName="kept", Name="live", FunctionVersion="1")
    recode(client, "kept", "two")
    daemon.stop()
    daemon.start()
    client = boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{daemon.port}", region_name="us-east-1",
                          aws_access_key_id="x", aws_secret_access_key="x")
    assert invoke(client, "kept:live")[1]["text"] == "one"
    assert invoke(client, "kept")[1]["text"] == "two"


def test_an_alias_moves_under_load_and_no_request_fails(aws):
    create(aws, "moving")
    aws.publish_version(FunctionName="moving")
    recode(aws, "moving", "two", Publish=True)
    alias = aws.create_alias(FunctionName="moving", Name="live", FunctionVersion="1", Description="what users get")
    assert alias["AliasArn"].endswith(":moving:live") and alias["FunctionVersion"] == "1"
    seen, stop = [], threading.Event()

    def call():
        while not stop.is_set():
            seen.append(invoke(aws, "moving", Qualifier="live")[1]["text"])

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(call) for _ in range(3)]
        wait_until(lambda: seen.count("one") >= 10, "calls of the first version")
        aws.update_alias(FunctionName="moving", Name="live", FunctionVersion="2")
        wait_until(lambda: seen[-10:] == ["two"] * 10, "calls of the second", 30)
        stop.set()
        for each in calls:
            each.result()
    answer, payload = invoke(aws, "moving:live")
    assert answer["ExecutedVersion"] == "2" and payload["version"] == "2" and payload["arn"].endswith(":moving:live")
    refused(aws.delete_function, "ResourceConflictException", FunctionName="moving", Qualifier="2")
    aws.delete_alias(FunctionName="moving", Name="live")
    refused(aws.get_alias, "ResourceNotFoundException", FunctionName="moving", Name="live")
    aws.delete_function(FunctionName="moving")


def test_weights_share_requests_out_and_are_read_back(aws):
    create(aws, "shared")
    aws.publish_version(FunctionName="shared")
    recode(aws, "shared", "two", Publish=True)
    aws.create_alias(FunctionName="shared", Name="canary", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.3}})
    assert aws.get_alias(FunctionName="shared", Name="canary")["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.3}}
    texts = [invoke(aws, "shared", Qualifier="canary")[1]["text"] for _ in range(200)]
    assert 25 <= texts.count("two") <= 100, "60 are expected; this is seven standard deviations wide"
    found = aws.list_aliases(FunctionName="shared", FunctionVersion="2")["Aliases"]
    assert [a["Name"] for a in found] == ["canary"]
    aws.delete_function(FunctionName="shared")


def test_an_event_for_later_runs_the_version_that_it_named(daemon, aws):
    create(aws, "later")
    aws.publish_version(FunctionName="later")
    recode(aws, "later", "two")
    answer = aws.invoke(FunctionName="later", Qualifier="1", InvocationType="Event", Payload=b"{}")
    identity = answer["ResponseMetadata"]["RequestId"]
    ended = wait_until(lambda: (e := daemon.request("GET", f"/v1/queue/{identity}").json)["state"] == "succeeded" and e, "the event", 60)
    assert json.loads(ended["result"])["version"] == "1"
    aws.delete_function(FunctionName="later")


def test_revisions_are_checked_and_change(aws):
    revision = create(aws, "locked")["RevisionId"]
    newer = aws.update_function_configuration(FunctionName="locked", MemorySize=256, RevisionId=revision)["RevisionId"]
    assert newer != revision
    for call, more in [(aws.update_function_configuration, {"MemorySize": 512}), (aws.publish_version, {})]:
        refused(call, "PreconditionFailedException", FunctionName="locked", RevisionId=revision, **more)
    refused(aws.publish_version, "InvalidParameterValueException", FunctionName="locked", CodeSha256="wrong")
    aws.publish_version(FunctionName="locked", RevisionId=newer)
    alias = aws.create_alias(FunctionName="locked", Name="a", FunctionVersion="1")
    aws.update_alias(FunctionName="locked", Name="a", Description="new", RevisionId=alias["RevisionId"])
    refused(aws.update_alias, "PreconditionFailedException", FunctionName="locked", Name="a", Description="x", RevisionId=alias["RevisionId"])
    aws.delete_function(FunctionName="locked")


def test_provisioned_sandboxes_are_started_ahead_and_told_so(daemon, aws):
    create(aws, "ready", MemorySize=128)
    aws.publish_version(FunctionName="ready")
    refused(aws.get_provisioned_concurrency_config, "ProvisionedConcurrencyConfigNotFoundException", FunctionName="ready", Qualifier="1")
    answer = aws.put_provisioned_concurrency_config(FunctionName="ready", Qualifier="1", ProvisionedConcurrentExecutions=2)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202 and answer["RequestedProvisionedConcurrentExecutions"] == 2

    def state():
        return aws.get_provisioned_concurrency_config(FunctionName="ready", Qualifier="1")
    wait_until(lambda: state()["Status"] == "READY", "both to be ready", 60)
    assert state()["AllocatedProvisionedConcurrentExecutions"] == 2
    answer, payload = invoke(aws, "ready", Qualifier="1")
    assert payload["start"] == "provisioned-concurrency"
    assert invoke(aws, "ready")[1]["start"] == "on-demand"
    listed = aws.list_provisioned_concurrency_configs(FunctionName="ready")["ProvisionedConcurrencyConfigs"]
    assert [c["FunctionArn"].rsplit(":", 1)[1] for c in listed] == ["1"]
    aws.delete_provisioned_concurrency_config(FunctionName="ready", Qualifier="1")
    refused(aws.put_provisioned_concurrency_config, "InvalidParameterValueException", FunctionName="ready", Qualifier="$LATEST",
            ProvisionedConcurrentExecutions=1)
    aws.delete_function(FunctionName="ready")


def publish(aws, name, files, **more):
    return aws.publish_layer_version(LayerName=name, Content={"ZipFile": archive(files)}, **more)


def test_layers_lie_at_opt_later_ones_over_earlier_ones(aws):
    low = publish(aws, "low", {"python/shared.py": "value = 'low'\n", "data/only-low": "1"}, Description="below", CompatibleRuntimes=["python3.11"])
    high = publish(aws, "high", {"python/shared.py": "value = 'high'\n"})
    assert low["Version"] == 1 and low["LayerVersionArn"].endswith(":layer:low:1")
    code = """
import os, shared
def handle(event, context):
    try:
        open("/opt/new", "w")
        writable = True
    except OSError:
        writable = False
    return {"value": shared.value, "files": sorted(os.listdir("/opt")), "writable": writable}
"""
    arguments = dict(Runtime="python3.11", Role="arn:aws:iam::000000000000:role/x", Handler="app.handle", Code={"ZipFile": archive({"app.py": code})})
    made = aws.create_function(FunctionName="layered", Layers=[low["LayerVersionArn"], high["LayerVersionArn"]], **arguments)
    assert [layer["Arn"] for layer in made["Layers"]] == [low["LayerVersionArn"], high["LayerVersionArn"]]
    assert invoke(aws, "layered")[1] == {"value": "high", "files": ["data", "python"], "writable": False}
    aws.update_function_configuration(FunctionName="layered", Layers=[low["LayerVersionArn"]])
    assert invoke(aws, "layered")[1]["value"] == "low"
    aws.delete_layer_version(LayerName="low", VersionNumber=1)
    assert invoke(aws, "layered")[1]["value"] == "low", "who has a layer keeps it"
    assert [layer["LayerName"] for layer in aws.list_layers()["Layers"]] == ["high"]
    again = publish(aws, "high", {"python/shared.py": "value = 'higher'\n"})
    assert again["Version"] == 2
    assert [v["Version"] for v in aws.list_layer_versions(LayerName="high")["LayerVersions"]] == [2, 1]
    assert aws.get_layer_version(LayerName="high", VersionNumber=1)["Content"]["CodeSize"] == high["Content"]["CodeSize"]
    assert aws.get_layer_version_by_arn(Arn=again["LayerVersionArn"])["Version"] == 2
    refused(aws.update_function_configuration, "InvalidParameterValueException", "does not exist", FunctionName="layered",
            Layers=[low["LayerVersionArn"]])
    aws.delete_function(FunctionName="layered")


def test_a_layer_brings_node_modules_and_a_bootstrap(aws):
    modules = publish(aws, "modules", {"nodejs/node_modules/greet/index.js": "module.exports = () => 'hello from a layer';"})
    code = "const greet = require('greet'); exports.handle = async () => greet();"
    aws.create_function(FunctionName="node-layer", Runtime="nodejs18.x", Role="arn:aws:iam::000000000000:role/x", Handler="app.handle",
                        Code={"ZipFile": archive({"app.js": code})}, Layers=[modules["LayerVersionArn"]])
    assert invoke(aws, "node-layer")[1] == "hello from a layer"
    aws.delete_function(FunctionName="node-layer")


def test_a_hostile_layer_is_refused(aws):
    refused(publish, "InvalidParameterValueException", "..", aws=aws, name="hostile", files={"../../escape": "x"})
    refused(aws.publish_layer_version, "InvalidParameterValueException", LayerName="broken", Content={"ZipFile": b"no archive"})


def test_what_is_not_offered_is_refused_by_name(aws):
    base = dict(FunctionName="refused", Role="arn:aws:iam::000000000000:role/x", Handler="app.handle", Runtime="python3.11",
                Code={"ZipFile": archive({"app.py": CODE % "x"})})
    table = [
        ({"PackageType": "Image", "Code": {"ImageUri": "x"}}, "mages"), ({"Code": {"S3Bucket": "bbb", "S3Key": "k"}}, "S3"),
        ({"VpcConfig": {"SubnetIds": ["s"], "SecurityGroupIds": ["g"]}}, "VpcConfig"), ({"KMSKeyArn": "arn:aws:kms:x"}, "KMSKeyArn"),
        ({"SnapStart": {"ApplyOn": "PublishedVersions"}}, "SnapStart"), ({"Architectures": ["arm64"]}, "Architectures"),
        ({"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"}}, ""), ({"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:no:1"]}, "does not exist"),
    ]
    for more, text in table:
        refused(aws.create_function, "InvalidParameterValueException", text, **{**base, **more})
    refused(aws.create_function, "ValidationException", "memorySize", **base, MemorySize=20_000)
    refused(aws.create_event_source_mapping, "InvalidParameterValueException", "not offered", FunctionName="x", EventSourceArn="arn:aws:sqs:us-east-1:0:q")
    refused(aws.get_policy, "InvalidParameterValueException", "not offered", FunctionName="x")
    refused(aws.get_function, "ResourceNotFoundException", "Function not found", FunctionName="refused")


def test_a_dry_run_of_new_code_changes_nothing(aws):
    before = create(aws, "dry")["CodeSha256"]
    answer = recode(aws, "dry", "two", DryRun=True)
    assert answer["CodeSha256"] != before
    assert aws.get_function_configuration(FunctionName="dry")["CodeSha256"] == before
    assert invoke(aws, "dry")[1]["text"] == "one"
    aws.delete_function(FunctionName="dry")


def test_the_plain_door_and_fn_take_a_qualifier(daemon, aws):
    create(aws, "plain")
    aws.publish_version(FunctionName="plain")
    recode(aws, "plain", "two")
    assert daemon.invoke("plain:1").json["text"] == "one"
    result = daemon.fn("invoke", "plain:1", "-d", "{}")
    assert result.returncode == 0 and json.loads(result.stdout)["version"] == "1"
    unknown = daemon.fn("invoke", "plain:7", "-d", "{}")
    assert unknown.returncode == 66, unknown.stderr
    log = aws.invoke(FunctionName="plain", Qualifier="1", LogType="Tail", Payload=b"{}")["LogResult"]
    assert b"Version: 1" in base64.b64decode(log)
    aws.delete_function(FunctionName="plain")
