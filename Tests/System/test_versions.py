# SPDX-License-Identifier: Apache-2.0
"""Versions, aliases, provisioned concurrency and layers, as Amazon's own client sees them."""
import base64
import collections
import concurrent.futures
import hashlib
import io
import json
import os
import pathlib
import platform
import signal
import threading
import urllib.request
import zipfile

import boto3
import botocore.config
import botocore.exceptions
import pytest

from conftest import cgroup_file, wait_until

ROLE = "arn:aws:iam::000000000000:role/r"
ARN = "arn:aws:lambda:us-east-1:000000000000:function"
CODE = """
import os
WORD = {word!r}
def handle(event, context):
    return {{"word": WORD, "version": context.function_version, "arn": context.invoked_function_arn,
            "environment": os.environ["AWS_LAMBDA_FUNCTION_VERSION"], "pid": os.getpid(),
            "start": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]}}
"""


def archive(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o755 << 16
            file.writestr(info, text)
    return data.getvalue()


def code(word):
    return archive({"app.py": CODE.format(word=word)})


def make_client(daemon):
    # What boto3 would refuse by itself has to reach the daemon.
    config = botocore.config.Config(
        read_timeout=300, retries={"max_attempts": 0}, parameter_validation=False, max_pool_connections=32)
    return boto3.client(
        "lambda", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{daemon.port}", aws_access_key_id="x",
        aws_secret_access_key="x", config=config)


@pytest.fixture(scope="module")
def client(daemon):
    return make_client(daemon)


def create(client, name, files=None, **members):
    given = {"FunctionName": name, "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handle", "Timeout": 60,
             "Code": {"ZipFile": archive(files) if files else code("first")}, **members}
    return client.create_function(**given)


def call(client, name, qualifier=None, **members):
    more = {"Qualifier": qualifier} if qualifier else {}
    answer = client.invoke(FunctionName=name, Payload=b"{}", **more, **members)
    body = json.load(answer["Payload"])
    assert "FunctionError" not in answer, body
    return body, answer


@pytest.fixture(scope="module")
def two(client):
    """A function with two published versions of different code and the alias `prod` on the first."""
    create(client, "two")
    client.publish_version(FunctionName="two", Description="one")
    client.update_function_code(FunctionName="two", ZipFile=code("second"))
    client.publish_version(FunctionName="two")
    return client.create_alias(FunctionName="two", Name="prod", FunctionVersion="1", Description="for users")


def error_of(call, *arguments, **members):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(*arguments, **members)
    response = caught.value.response
    return response["Error"]["Code"], response["Error"]["Message"], response["ResponseMetadata"]["HTTPStatusCode"]


# Versions


def test_a_published_version_stays_what_it_was(client):
    created = create(client, "published")
    version = client.publish_version(FunctionName="published", Description="the first")
    assert version["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (version["Version"], version["FunctionArn"]) == ("1", f"{ARN}:published:1")
    assert (version["Description"], version["CodeSha256"]) == ("the first", created["CodeSha256"])
    assert version["CodeSha256"] == base64.b64encode(hashlib.sha256(code("first")).digest()).decode()
    client.get_waiter("published_version_active").wait(FunctionName="published", Qualifier="1")
    again = client.publish_version(FunctionName="published", Description="unchanged: the same version")
    assert (again["Version"], again["RevisionId"]) == ("1", version["RevisionId"])

    client.update_function_code(FunctionName="published", ZipFile=code("second"))
    client.update_function_configuration(FunctionName="published", Timeout=50, MemorySize=256)
    client.get_waiter("function_updated_v2").wait(FunctionName="published")
    assert call(client, "published")[0]["word"] == "second"
    body, answer = call(client, "published", "1", LogType="Tail")
    assert (body["word"], body["version"], body["environment"]) == ("first", "1", "1")
    assert answer["ExecutedVersion"] == "1"
    assert " Version: 1\n" in base64.b64decode(answer["LogResult"]).decode()
    old = client.get_function_configuration(FunctionName="published", Qualifier="1")
    assert (old["Timeout"], old["MemorySize"], old["Version"]) == (60, 128, "1")
    got = client.get_function(FunctionName=f"{ARN}:published:1")
    assert got["Configuration"]["FunctionArn"] == f"{ARN}:published:1"
    assert urllib.request.urlopen(got["Code"]["Location"]).read() == code("first")


def test_the_function_hears_its_arn_as_the_caller_spelled_it(client, two):
    assert call(client, "two")[0]["arn"] == f"{ARN}:two"
    assert call(client, "two", "$LATEST")[0]["arn"] == f"{ARN}:two:$LATEST"
    assert call(client, "two:2")[0]["arn"] == f"{ARN}:two:2"
    body, answer = call(client, f"{ARN}:two:prod")
    assert (body["arn"], body["version"], answer["ExecutedVersion"]) == (f"{ARN}:two:prod", "1", "1")
    assert call(client, "two", "$LATEST")[1]["ExecutedVersion"] == "$LATEST"


def test_versions_are_published_with_what_makes_them(client):
    made = create(client, "at-once", Publish=True)
    assert made["Version"] == "1"
    updated = client.update_function_code(FunctionName="at-once", ZipFile=code("second"), Publish=True)
    assert (updated["Version"], updated["FunctionArn"]) == ("2", f"{ARN}:at-once:2")
    assert [call(client, "at-once", q)[0]["word"] for q in ("1", "2")] == ["first", "second"]


def test_a_dry_run_checks_and_changes_nothing(client, two):
    before = client.get_function_configuration(FunctionName="two")
    tried = client.update_function_code(FunctionName="two", ZipFile=code("third"), DryRun=True)
    assert tried["CodeSha256"] != before["CodeSha256"]
    after = client.get_function_configuration(FunctionName="two")
    assert (after["CodeSha256"], after["RevisionId"]) == (before["CodeSha256"], before["RevisionId"])
    kind, message, _ = error_of(client.update_function_code, FunctionName="two", ZipFile=b"no zip", DryRun=True)
    assert kind == "InvalidParameterValueException" and "Could not unzip uploaded file" in message


def test_versions_are_listed_in_pages(client, two):
    versions = client.list_versions_by_function(FunctionName="two")["Versions"]
    assert [v["Version"] for v in versions] == ["$LATEST", "1", "2"]
    assert versions[2]["FunctionArn"] == f"{ARN}:two:2"
    for size in (1, 2):
        pages = client.get_paginator("list_versions_by_function").paginate(
            FunctionName="two", PaginationConfig={"PageSize": size})
        assert [v["Version"] for page in pages for v in page["Versions"]] == ["$LATEST", "1", "2"]
    for size in (1, 3, 50):
        pages = client.get_paginator("list_functions").paginate(
            FunctionVersion="ALL", PaginationConfig={"PageSize": size})
        found = [f["FunctionArn"] for page in pages for f in page["Functions"]]
        assert len(found) == len(set(found))
        assert [arn for arn in found if ":two:" in arn] == [f"{ARN}:two:{v}" for v in ("$LATEST", "1", "2")]
    names = [f["FunctionName"] for f in client.list_functions()["Functions"]]
    assert names.count("two") == 1


def test_one_version_is_deleted_unless_an_alias_leads_to_it(client):
    create(client, "deleted", Publish=True)
    client.update_function_code(FunctionName="deleted", ZipFile=code("second"), Publish=True)
    client.create_alias(FunctionName="deleted", Name="prod", FunctionVersion="1")
    assert error_of(client.delete_function, FunctionName="deleted", Qualifier="1") == (
        "ResourceConflictException",
        "Unable to delete version because the following aliases reference it: [prod]", 409)
    call(client, "deleted", "2")
    client.delete_function(FunctionName="deleted", Qualifier="2")
    kind, message, status = error_of(client.invoke, FunctionName="deleted", Qualifier="2", Payload=b"{}")
    assert (kind, message, status) == (
        "ResourceNotFoundException", f"Function not found: {ARN}:deleted:2", 404)
    assert call(client, "deleted", "prod")[0]["word"] == "first"
    client.update_function_configuration(FunctionName="deleted", Description="so that there is something to publish")
    assert client.publish_version(FunctionName="deleted")["Version"] == "3", "numbers are not given twice"
    client.delete_function(FunctionName="deleted")
    assert error_of(client.get_function, FunctionName="deleted", Qualifier="1")[0] == "ResourceNotFoundException"
    assert error_of(client.invoke, FunctionName="deleted", Qualifier="prod", Payload=b"{}")[2] == 404


def test_versions_share_the_reserved_concurrency_of_their_function(client, daemon):
    create(client, "reserved", Publish=True)
    client.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=1)
    first, second = call(client, "reserved")[0], call(client, "reserved", "1")[0]
    assert (first["version"], second["version"]) == ("$LATEST", "1")
    wait_until(lambda: len(daemon.sandboxes("reserved")) == 1, "the other version's sandbox to be gone")
    assert daemon.sandboxes("reserved")[0]["version"] == "1"
    client.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=0)
    kind, _, status = error_of(client.invoke, FunctionName="reserved", Qualifier="1", Payload=b"{}")
    assert (kind, status) == ("TooManyRequestsException", 429)


def test_logs_metrics_and_lists_go_by_the_name_of_the_function(client, daemon, two):
    call(client, "two", "2")
    lines = daemon.request("GET", "/v1/functions/two/logs?tail=50").body.decode()
    assert "Version: 2" in lines
    metrics = daemon.request("GET", "/metrics").body.decode()
    assert 'function="two"' in metrics and 'function="two:' not in metrics
    names = [f["name"] for f in daemon.request("GET", "/v1/functions").json["functions"]]
    assert names.count("two") == 1 and not [name for name in names if ":" in name]
    found = daemon.sandboxes("two")
    assert "2" in [s.get("version") for s in found]
    assert all(":" not in s["id"] and ":" not in s["cgroup"].rsplit("/", 1)[1] for s in found)
    assert [d for d in daemon.request("GET", "/v1/decisions?subject=two").json["decisions"] if d["function"] == "two:2"]


# Aliases


def test_an_alias_is_made_read_changed_listed_and_deleted(client):
    create(client, "named", Publish=True)
    made = client.create_alias(FunctionName="named", Name="live", FunctionVersion="1", Description="d")
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["AliasArn"], made["FunctionVersion"], made["Description"]) == (f"{ARN}:named:live", "1", "d")
    assert "RoutingConfig" not in made
    assert error_of(client.create_alias, FunctionName="named", Name="live", FunctionVersion="1") == (
        "ResourceConflictException", f"Alias already exists: {ARN}:named:live", 409)
    changed = client.update_alias(
        FunctionName="named", Name="live", FunctionVersion="$LATEST", RevisionId=made["RevisionId"])
    assert (changed["FunctionVersion"], changed["Description"]) == ("$LATEST", "d")
    assert changed["RevisionId"] != made["RevisionId"]
    kind, message, status = error_of(
        client.update_alias, FunctionName="named", Name="live", Description="x", RevisionId=made["RevisionId"])
    assert (kind, status) == ("PreconditionFailedException", 412) and "The Revision Id provided" in message
    assert client.get_alias(FunctionName="named", Name="live")["RevisionId"] == changed["RevisionId"]
    got = client.get_function(FunctionName="named", Qualifier="live")["Configuration"]
    assert (got["Version"], got["FunctionArn"]) == ("$LATEST", f"{ARN}:named:live")

    client.update_function_code(FunctionName="named", ZipFile=code("second"), Publish=True)
    for name, version in (("a", "1"), ("b", "2")):
        client.create_alias(FunctionName="named", Name=name, FunctionVersion=version)
    names = lambda **given: [a["Name"] for a in client.list_aliases(FunctionName="named", **given)["Aliases"]]
    assert names() == ["a", "b", "live"] and names(FunctionVersion="2") == ["b"]
    pages = client.get_paginator("list_aliases").paginate(FunctionName="named", PaginationConfig={"PageSize": 2})
    assert [a["Name"] for page in pages for a in page["Aliases"]] == ["a", "b", "live"]

    assert client.delete_alias(FunctionName="named", Name="live")["ResponseMetadata"]["HTTPStatusCode"] == 204
    client.delete_alias(FunctionName="named", Name="live")
    assert error_of(client.get_alias, FunctionName="named", Name="live") == (
        "ResourceNotFoundException", f"Cannot find alias arn: {ARN}:named:live", 404)
    assert error_of(client.invoke, FunctionName="named", Qualifier="live", Payload=b"{}")[1] == (
        f"Function not found: {ARN}:named:live")


def test_weights_share_out_the_requests(client, two):
    client.create_alias(
        FunctionName="two", Name="canary", FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.3}})
    seen = collections.Counter(call(client, "two", "canary")[1]["ExecutedVersion"] for _ in range(200))
    assert sum(seen.values()) == 200
    # Six standard deviations of a binomial distribution of 200 with 0.3.
    assert 21 <= seen["2"] <= 99, seen
    changed = client.update_alias(FunctionName="two", Name="canary", RoutingConfig={"AdditionalVersionWeights": {}})
    assert "RoutingConfig" not in changed
    assert {call(client, "two", "canary")[1]["ExecutedVersion"] for _ in range(20)} == {"1"}


def test_an_alias_moves_under_load_and_no_request_fails(client, daemon, two):
    client.create_alias(FunctionName="two", Name="moving", FunctionVersion="1")
    stop, seen = threading.Event(), [[] for _ in range(4)]

    def run(mine):
        while not stop.is_set():
            body, answer = call(client, "two", "moving")
            assert body["version"] == answer["ExecutedVersion"]
            assert body["word"] == {"1": "first", "2": "second"}[body["version"]]
            mine.append(body["version"])

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(run, mine) for mine in seen]
        try:
            for version in ("2", "1", "2"):
                counts = [len(mine) for mine in seen]
                wait_until(lambda: all(len(mine) >= n + 3 for mine, n in zip(seen, counts)), "requests to come", 60)
                client.update_alias(FunctionName="two", Name="moving", FunctionVersion=version)
            wait_until(lambda: all(mine[-3:] == ["2"] * 3 for mine in seen), "all to be served by 2", 60)
        finally:
            stop.set()
        for each in runs:
            each.result()
    assert call(client, "two", "moving")[0]["version"] == "2"


def test_as_many_versions_are_kept_as_the_operator_says(own_daemon):
    daemon = own_daemon("storage: {keep_versions: 2}\n").start()
    client = make_client(daemon)
    daemon.deploy_code("grows", {"app.py": "def handle(event, context): return 0\n"})

    def publish(number):
        client.update_function_code(FunctionName="grows", ZipFile=archive({"app.py": f"def handle(event, context): return {number}\n"}))
        return client.publish_version(FunctionName="grows")["Version"]

    def versions():
        return [each["Version"] for each in client.list_versions_by_function(FunctionName="grows")["Versions"]][1:]

    assert [publish(number) for number in range(1, 4)] == ["1", "2", "3"]
    assert versions() == ["2", "3"]
    client.create_alias(FunctionName="grows", Name="kept", FunctionVersion="2")
    publish(4)
    assert versions() == ["2", "4"]
    assert daemon.fn("invoke", "grows:kept").stdout.strip() == b"2"
    daemon.config.write_text("storage: {keep_versions: all}\n")
    daemon.request("POST", "/v1/config/reload")
    publish(5)
    assert versions() == ["2", "4", "5"]


LATER = """
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
def handle(event, context):
    print("it waits", flush=True)
    signal.sigwait([signal.SIGUSR1])
    from more import word
    return word
"""


def test_what_is_replaced_stays_on_disk_for_what_still_runs_on_it(daemon):
    store = daemon.directory / "state" / "code"

    def deploy(word):
        before = {path.name for path in store.iterdir()}
        daemon.deploy_code("later", {"app.py": LATER, "more.py": f"word = {word!r}\n"})
        return next(path.name for path in store.iterdir() if path.name not in before)

    first = deploy("first")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(daemon.invoke, "later")
        sandbox = daemon.sandbox("later", "busy")
        wait_until(lambda: b"it waits" in daemon.fn("logs", "later").stdout, "the handler to run")
        deploy("second")
        assert (store / first / "tree").is_dir()
        for pid in cgroup_file(sandbox, "cgroup.procs").split():
            if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("python"):
                os.kill(int(pid), signal.SIGUSR1)
        answer = call.result()
    assert (answer.status, answer.json) == (200, "first"), answer.body
    wait_until(lambda: not (store / first).exists(), "it to go with the last sandbox that ran on it")
    daemon.fn("rm", "--yes", "later")


def test_events_run_the_version_that_was_asked_for(client, daemon, two):
    identifiers = []
    for qualifier in ("1", "2", "prod"):
        answer = client.invoke(FunctionName="two", Qualifier=qualifier, InvocationType="Event", Payload=b"{}")
        assert answer["StatusCode"] == 202
        identifiers.append(answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"])

    def result(identifier):
        event = daemon.request("GET", f"/v1/queue/{identifier}").json
        return json.loads(event["result"])["version"] if event["state"] == "succeeded" else None

    found = [wait_until(lambda: result(each), "the event to run", 30) for each in identifiers]
    assert found == ["1", "2", "1"]
    assert error_of(client.invoke, FunctionName="two", Qualifier="nobody", InvocationType="Event", Payload=b"{}")[2] == 404


def test_a_destination_is_told_which_version_ran(client, daemon, two):
    create(client, "told", {"app.py": "def handle(event, context):\n    return event\n"})
    client.put_function_event_invoke_config(
        FunctionName="two", DestinationConfig={"OnSuccess": {"Destination": f"{ARN}:told"}})
    try:
        client.invoke(FunctionName="two", Qualifier="prod", InvocationType="Event", Payload=b"{}")
        ended = lambda: [e for e in daemon.request("GET", "/v1/queue?function=told").json["events"]
                         if e["state"] == "succeeded"]
        identity = wait_until(ended, "the record", 30)[0]["id"]
    finally:
        client.delete_function_event_invoke_config(FunctionName="two")
    record = json.loads(daemon.request("GET", f"/v1/queue/{identity}").json["result"])
    assert record["requestContext"]["functionArn"] == f"{ARN}:two:prod"
    assert record["responseContext"]["executedVersion"] == "1"


def test_events_of_a_version_and_of_an_alias_have_rules_of_their_own(client, daemon, two):
    create(client, "told-apart", {"app.py": "def handle(event, context):\n    return event\n"})
    create(client, "failing", {"app.py": "def handle(event, context):\n    raise ValueError()\n"}, Publish=True)
    client.create_alias(FunctionName="failing", Name="live", FunctionVersion="1")
    put, get = client.put_function_event_invoke_config, client.get_function_event_invoke_config
    put(FunctionName="failing", MaximumRetryAttempts=2)
    mine = put(FunctionName="failing", Qualifier="live", MaximumRetryAttempts=0,
               DestinationConfig={"OnFailure": {"Destination": f"{ARN}:told-apart"}})
    assert mine["FunctionArn"] == f"{ARN}:failing:live"
    put(FunctionName="failing:1", MaximumEventAgeInSeconds=60)
    changed = client.update_function_event_invoke_config(FunctionName="failing", Qualifier="live", MaximumEventAgeInSeconds=90)
    assert (changed["MaximumRetryAttempts"], changed["MaximumEventAgeInSeconds"]) == (0, 90)
    listed = client.list_function_event_invoke_configs(FunctionName="failing")["FunctionEventInvokeConfigs"]
    assert [c["FunctionArn"].split(":")[-1] for c in listed] == ["$LATEST", "1", "live"]
    page = client.list_function_event_invoke_configs(FunctionName="failing", MaxItems=2)
    assert len(page["FunctionEventInvokeConfigs"]) == 2 and page["NextMarker"] == "1"
    assert get(FunctionName="failing", Qualifier="$LATEST")["MaximumRetryAttempts"] == 2
    # The alias's own rules: no second attempt, and a record for its destination.
    answer = client.invoke(FunctionName="failing", Qualifier="live", InvocationType="Event", Payload=b"{}")
    identity = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    event = lambda: daemon.request("GET", f"/v1/queue/{identity}").json
    wait_until(lambda: event()["state"] == "failed", "the event to be given up", 30)
    assert event()["attempts"] == 1
    ended = lambda: [e for e in daemon.request("GET", "/v1/queue?function=told-apart").json["events"] if e["state"] == "succeeded"]
    record = daemon.request("GET", f"/v1/queue/{wait_until(ended, 'the record', 30)[0]['id']}").json["result"]
    assert json.loads(record)["requestContext"]["functionArn"] == f"{ARN}:failing:live"
    # They go with what they are said of.
    client.delete_alias(FunctionName="failing", Name="live")
    client.create_alias(FunctionName="failing", Name="live", FunctionVersion="1")
    for call in (get, client.delete_function_event_invoke_config, client.update_function_event_invoke_config):
        assert error_of(call, FunctionName="failing", Qualifier="live")[0] == "ResourceNotFoundException"
    assert error_of(put, FunctionName="failing", Qualifier="nobody", MaximumRetryAttempts=0)[2] == 404
    client.delete_function_event_invoke_config(FunctionName="failing", Qualifier="1")
    assert error_of(get, FunctionName="failing", Qualifier="1")[2] == 404
    client.delete_function(FunctionName="failing")


def test_code_and_layers_are_bounded_together_and_layers_only_count_where_they_are_used(client, layers):
    large = {"large": "".join(chr(33 + n * 7 % 90) for n in range(1000)) * 140_000}  # 140 MB
    layer = client.publish_layer_version(LayerName="large", Content={"ZipFile": compressed(large)})["LayerVersionArn"]
    create(client, "bounded", {"app.py": "def handle(event, context):\n    return 1\n"}, Layers=[layer])
    archive_of_140 = compressed({**large, "app.py": "def handle(event, context):\n    return 2\n"})
    code, message, status = error_of(client.update_function_code, FunctionName="bounded", ZipFile=archive_of_140)
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert message.startswith("Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. "
                              "The actual size is 280000"), message
    client.update_function_configuration(FunctionName="bounded", Layers=[])
    client.update_function_code(FunctionName="bounded", ZipFile=archive_of_140)
    assert error_of(client.update_function_configuration, FunctionName="bounded", Layers=[layer])[0] == code
    client.delete_function(FunctionName="bounded")
    client.delete_layer_version(LayerName="large", VersionNumber=1)


def compressed(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, text in files.items():
            file.writestr(name, text)
    return data.getvalue()


def test_a_streamed_answer_names_its_version(client):
    text = "def handle(event, context):\n    yield 'in '\n    yield 'pieces'\n"
    create(client, "streamed", {"app.py": text}, Publish=True)
    answer = client.invoke_with_response_stream(FunctionName="streamed", Qualifier="1", Payload=b"{}")
    assert answer["ExecutedVersion"] == "1"
    pieces = [e["PayloadChunk"]["Payload"] for e in answer["EventStream"] if "PayloadChunk" in e]
    assert b"".join(pieces) == b"in pieces"
    assert error_of(client.invoke_with_response_stream, FunctionName="streamed", Qualifier="9", Payload=b"{}")[2] == 404


# The command line and the plain door


def test_fn_and_curl_invoke_by_qualifier(client, daemon, two):
    result = daemon.fn("invoke", "two:2", "-d", "{}")
    assert (result.returncode, json.loads(result.stdout)["word"]) == (0, "second")
    assert json.loads(daemon.fn("invoke", "two:prod", "-d", "{}").stdout)["version"] == "1"
    assert json.loads(daemon.invoke("two:2").body)["arn"] == f"{ARN}:two:2"
    result = daemon.fn("invoke", "two:99", "-d", "{}")
    assert result.returncode == 66 and b"two:99" in result.stderr
    assert daemon.invoke("two:nobody").status == 404
    assert daemon.request("GET", "/url/two:2/somewhere").json["version"] == "2"


# Provisioned concurrency


def wait_ready(client, name, qualifier):
    def look():
        found = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
        assert found["Status"] in ("IN_PROGRESS", "READY"), found
        return found if found["Status"] == "READY" else None
    return wait_until(look, f"{name}:{qualifier} to be READY", 60)


def test_provisioned_concurrency_is_started_before_any_request(client, daemon):
    create(client, "ready", Publish=True)
    assert call(client, "ready", "1")[0]["start"] == "on-demand"
    put = client.put_provisioned_concurrency_config(
        FunctionName="ready", Qualifier="1", ProvisionedConcurrentExecutions=2)
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (put["RequestedProvisionedConcurrentExecutions"], put["Status"]) == (2, "IN_PROGRESS")
    ready = wait_ready(client, "ready", "1")
    assert ready["AllocatedProvisionedConcurrentExecutions"] == 2
    assert ready["AvailableProvisionedConcurrentExecutions"] == 2
    wait_until(lambda: call(client, "ready", "1")[0]["start"] == "provisioned-concurrency", "a provisioned one to serve")
    listed = client.list_provisioned_concurrency_configs(FunctionName="ready")["ProvisionedConcurrencyConfigs"]
    assert [c["FunctionArn"] for c in listed] == [f"{ARN}:ready:1"]
    assert error_of(client.put_function_concurrency, FunctionName="ready", ReservedConcurrentExecutions=1)[0] == (
        "InvalidParameterValueException")
    assert client.delete_provisioned_concurrency_config(
        FunctionName="ready", Qualifier="1")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert error_of(client.get_provisioned_concurrency_config, FunctionName="ready", Qualifier="1")[0] == (
        "ProvisionedConcurrencyConfigNotFoundException")


def test_what_cannot_start_fails_and_says_so(client):
    create(client, "broken", {"app.py": "raise ValueError('not today')"}, Publish=True)
    client.put_provisioned_concurrency_config(
        FunctionName="broken", Qualifier="1", ProvisionedConcurrentExecutions=1)

    def failed():
        found = client.get_provisioned_concurrency_config(FunctionName="broken", Qualifier="1")
        return found if found["Status"] == "FAILED" else None
    found = wait_until(failed, "it to be FAILED", 60)
    assert found["StatusReason"].startswith("FUNCTION_ERROR_INIT_FAILURE")
    assert found["AllocatedProvisionedConcurrentExecutions"] == 0
    client.delete_function(FunctionName="broken")


def test_provisioned_concurrency_follows_its_alias_and_outlives_a_restart(own_daemon):
    daemon = own_daemon().start()
    client = make_client(daemon)
    create(client, "kept", Publish=True)
    client.update_function_code(FunctionName="kept", ZipFile=code("second"), Publish=True)
    client.create_alias(FunctionName="kept", Name="prod", FunctionVersion="1")
    client.put_provisioned_concurrency_config(
        FunctionName="kept", Qualifier="prod", ProvisionedConcurrentExecutions=1)
    wait_ready(client, "kept", "prod")
    client.update_alias(FunctionName="kept", Name="prod", FunctionVersion="2")
    wait_ready(client, "kept", "prod")
    assert call(client, "kept", "prod")[0]["start"] == "provisioned-concurrency"
    daemon.stop()
    daemon.start()
    client = make_client(daemon)
    wait_ready(client, "kept", "prod")
    body = call(client, "kept", "prod")[0]
    assert (body["word"], body["version"], body["start"]) == ("second", "2", "provisioned-concurrency")
    assert call(client, "kept", "1")[0]["word"] == "first"
    assert [v["Version"] for v in client.list_versions_by_function(FunctionName="kept")["Versions"]] == [
        "$LATEST", "1", "2"]


# Layers


@pytest.fixture(scope="module")
def layers(client):
    lower = client.publish_layer_version(
        LayerName="lower", Description="below", LicenseInfo="none", CompatibleRuntimes=["python3.11"],
        Content={"ZipFile": archive({
            "python/shared.py": "NAME = 'lower'\n", "python/only.py": "NAME = 'only in lower'\n",
            "python/lib/python3.11/site-packages/deep.py": "NAME = 'deep'\n"})})
    upper = client.publish_layer_version(
        LayerName="upper", CompatibleRuntimes=["nodejs18.x"], Content={"ZipFile": archive({
            "python/shared.py": "NAME = 'upper'\n",
            "nodejs/node_modules/greeting/index.js": "module.exports = 'from a layer';\n",
            "bootstrap": "#!/bin/sh\nexec /usr/bin/python3 /opt/loop.py\n",
            "loop.py": LOOP})})
    return lower["LayerVersionArn"], upper["LayerVersionArn"]


LOOP = """
import os, urllib.request
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    event = urllib.request.urlopen(base + "next")
    event.read()
    url = base + event.headers["Lambda-Runtime-Aws-Request-Id"] + "/response"
    urllib.request.urlopen(urllib.request.Request(url, b'"the bootstrap of a layer"', method="POST")).read()
"""
USES_LAYERS = """
import os
def handle(event, context):
    import shared, only
    try:
        open("/opt/python/x", "w")
        state = "writable"
    except OSError as error:
        state = error.strerror
    return {"shared": shared.NAME, "only": only.NAME, "write": state, "pid": os.getpid(),
            "flags": os.statvfs("/opt").f_flag}
"""


def test_layers_are_published_listed_and_fetched(client, layers):
    lower, upper = layers
    assert lower == "arn:aws:lambda:us-east-1:000000000000:layer:lower:1"
    got = client.get_layer_version(LayerName="lower", VersionNumber=1)
    assert (got["Description"], got["LicenseInfo"], got["CompatibleRuntimes"]) == ("below", "none", ["python3.11"])
    content = urllib.request.urlopen(got["Content"]["Location"]).read()
    assert len(content) == got["Content"]["CodeSize"]
    assert base64.b64encode(hashlib.sha256(content).digest()).decode() == got["Content"]["CodeSha256"]
    assert client.get_layer_version_by_arn(Arn=lower)["Version"] == 1
    second = client.publish_layer_version(LayerName="paged", Content={"ZipFile": archive({"a": "1"})})
    assert second["Version"] == 1
    assert client.publish_layer_version(LayerName="paged", Content={"ZipFile": archive({"a": "2"})})["Version"] == 2
    versions = client.list_layer_versions(LayerName="paged")["LayerVersions"]
    assert [v["Version"] for v in versions] == [2, 1]
    pages = client.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1})
    found = {l["LayerName"]: l["LatestMatchingVersion"]["Version"] for page in pages for l in page["Layers"]}
    assert found == {"lower": 1, "upper": 1, "paged": 2}
    listed = client.list_layers(CompatibleRuntime="nodejs18.x")["Layers"]
    assert [l["LayerName"] for l in listed] == ["upper"]
    client.delete_layer_version(LayerName="paged", VersionNumber=2)
    assert error_of(client.get_layer_version, LayerName="paged", VersionNumber=2)[0] == "ResourceNotFoundException"
    assert [v["Version"] for v in client.list_layer_versions(LayerName="paged")["LayerVersions"]] == [1]


def test_python_finds_layers_later_over_earlier_and_cannot_write_there(client, daemon, layers):
    lower, upper = layers
    made = create(client, "layered", {"app.py": USES_LAYERS}, Layers=[lower, upper])
    assert [layer["Arn"] for layer in made["Layers"]] == [lower, upper]
    assert all(layer["CodeSize"] > 0 for layer in made["Layers"])
    first = call(client, "layered")[0]
    assert (first["shared"], first["only"], first["write"]) == ("upper", "only in lower", "Read-only file system")
    assert first["flags"] & 7 == 7, "read-only, nosuid, nodev (statvfs.h: 1, 2, 4)"
    before = daemon.sandbox("layered")["id"]
    client.update_function_configuration(FunctionName="layered", Layers=[upper, lower])
    assert call(client, "layered")[0]["shared"] == "lower"
    assert before not in [s["id"] for s in daemon.sandboxes("layered") if s["state"] != "stopping"]
    client.update_function_configuration(FunctionName="layered", Layers=[])
    assert "Layers" not in client.get_function_configuration(FunctionName="layered")
    answer = client.invoke(FunctionName="layered", Payload=b"{}")
    assert answer["FunctionError"] == "Unhandled" and b"No module named 'shared'" in answer["Payload"].read()


def test_a_deleted_layer_is_kept_for_who_has_it(client, layers):
    made = client.publish_layer_version(
        LayerName="gone", Content={"ZipFile": archive({"python/shared.py": "NAME = 'gone'\n",
                                                       "python/only.py": "NAME = ''\n"})})
    create(client, "keeps", {"app.py": USES_LAYERS}, Layers=[made["LayerVersionArn"]], Publish=True)
    client.delete_layer_version(LayerName="gone", VersionNumber=1)
    client.update_function_configuration(FunctionName="keeps", Layers=[])
    assert call(client, "keeps", "1")[0]["shared"] == "gone"


def test_site_packages_of_a_layer_are_found(client, layers):
    version = "".join(platform.python_version_tuple()[:1])
    text = "import sys\ndef handle(event, context):\n    return [p for p in sys.path if p.startswith('/opt')]\n"
    create(client, "paths", {"app.py": text}, Layers=[layers[0]])
    found = call(client, "paths")[0]
    assert found[1] == "/opt/python"
    assert found[0].startswith(f"/opt/python/lib/python{version}.") and found[0].endswith("/site-packages")


def test_node_finds_modules_of_a_layer(client, layers):
    text = "exports.handle = async () => require('greeting');\n"
    create(client, "node-layered", {"app.js": text}, Runtime="nodejs18.x", Layers=[layers[1]])
    assert call(client, "node-layered")[0] == "from a layer"


def test_a_layer_may_bring_the_bootstrap(client, layers):
    create(client, "bare", {"readme": "no bootstrap here"}, Runtime="provided.al2023", Layers=[layers[1]])
    assert call(client, "bare")[0] == "the bootstrap of a layer"


# Members that mean nothing here


def test_harmless_members_are_read_back(client):
    made = create(
        client, "harmless", TracingConfig={"Mode": "Active"}, VpcConfig={"SubnetIds": [], "SecurityGroupIds": []},
        LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "LogGroup": "/my/group"},
        SnapStart={"ApplyOn": "None"}, PackageType="Zip", EphemeralStorage={"Size": 512})
    assert made["TracingConfig"] == {"Mode": "Active"}
    assert made["LoggingConfig"] == {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "LogGroup": "/my/group"}
    assert (made["Role"], made["SnapStart"]["ApplyOn"]) == (ROLE, "None")
    updated = client.update_function_configuration(FunctionName="harmless", LoggingConfig={"LogFormat": "Text"})
    assert updated["LoggingConfig"]["LogGroup"] == "/my/group"


# Refusals

INVALID, MISSING, CONFLICT = "InvalidParameterValueException", "ResourceNotFoundException", "ResourceConflictException"
WRONG = "ValidationException"
OTHER_MACHINE = "arm64" if platform.machine() == "x86_64" else "x86_64"


def updating(**members):
    return "update_function_configuration", {"FunctionName": "two", **members}


def creating(**members):
    code_ = members.pop("Code", None) or {"ZipFile": code("x")}
    return "create_function", {
        "FunctionName": "refused", "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handle", "Code": code_, **members}


def aliasing(**members):
    return "create_alias", {"FunctionName": "two", "Name": "x", "FunctionVersion": "1", **members}


def weighing(version="1", **weights):
    return aliasing(FunctionVersion=version,
                    RoutingConfig={"AdditionalVersionWeights": {k.lstrip("v"): w for k, w in weights.items()}})


def provisioning(qualifier, count=1):
    return "put_provisioned_concurrency_config", {
        "FunctionName": "two", "Qualifier": qualifier, "ProvisionedConcurrentExecutions": count}


LAYER = "arn:aws:lambda:us-east-1:000000000000:layer"
REFUSALS = [
    (*creating(Code={"ImageUri": "x"}), INVALID, "images"),
    (*creating(PackageType="Image"), INVALID, "images"),
    (*creating(Code={"S3Bucket": "bucket", "S3Key": "k"}), INVALID, "S3"),
    (*creating(VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": []}), INVALID, "VpcConfig"),
    (*creating(FileSystemConfigs=[{"Arn": "a", "LocalMountPath": "/mnt/x"}]), INVALID, "FileSystemConfigs"),
    (*creating(KMSKeyArn="arn:aws:kms:x"), INVALID, "KMSKeyArn"),
    (*creating(SnapStart={"ApplyOn": "PublishedVersions"}), INVALID, "SnapStart"),
    (*creating(CodeSigningConfigArn="arn:aws:lambda:x"), INVALID, "CodeSigningConfigArn"),
    (*creating(Architectures=[OTHER_MACHINE]), INVALID, OTHER_MACHINE),
    (*creating(DeadLetterConfig={"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"}), INVALID, "DeadLetterConfig"),
    (*creating(MemorySize=64), WRONG, "Value '64' at 'memorySize' failed to satisfy constraint: "
     "Member must have value greater than or equal to 128"),
    (*creating(MemorySize=50_000), WRONG, "Member must have value less than or equal to 10240"),
    (*creating(Timeout=901), WRONG, "Value '901' at 'timeout' failed to satisfy constraint: "
     "Member must have value less than or equal to 900"),
    (*creating(Layers=[f"{LAYER}:nobody:1"]), INVALID, f"Layer version {LAYER}:nobody:1 does not exist."),
    (*creating(Layers=[f"{LAYER}:l{n}:1" for n in range(6)]), INVALID, "Cannot reference more than 5 layers."),
    (*creating(Layers=[f"{LAYER}:lower:1", f"{LAYER}:lower:1"]), INVALID, "Two different versions of the same layer"),
    (*creating(Layers=["lower"]), WRONG, "at 'layers'"),
    (*creating(FunctionName="two"), CONFLICT, "Function already exist: two"),
    (*creating(FunctionName="two:1"), INVALID, "Aliases and versions do not support this operation"),
    (*updating(Timeout=0), WRONG, "Member must have value greater than or equal to 1"),
    (*updating(SnapStart={"ApplyOn": "PublishedVersions"}), INVALID, "SnapStart"),
    (*updating(FileSystemConfigs=[{"Arn": "a", "LocalMountPath": "/mnt/x"}]), INVALID, "FileSystemConfigs"),
    (*updating(RevisionId="another"), "PreconditionFailedException", "The Revision Id provided does not match"),
    ("update_function_code", {"FunctionName": "two", "S3Bucket": "bucket", "S3Key": "k"}, INVALID, "S3"),
    ("update_function_code", {"FunctionName": "two", "ImageUri": "x"}, INVALID, "images"),
    ("publish_version", {"FunctionName": "two", "CodeSha256": "AAAA"}, INVALID,
     "CodeSHA256 (AAAA) is different from current CodeSHA256 in $LATEST"),
    ("publish_version", {"FunctionName": "two", "RevisionId": "x"}, "PreconditionFailedException", "Revision Id"),
    ("publish_version", {"FunctionName": "nobody"}, MISSING, f"Function not found: {ARN}:nobody"),
    ("get_function", {"FunctionName": "nobody"}, MISSING, f"Function not found: {ARN}:nobody"),
    ("get_function", {"FunctionName": "two", "Qualifier": "9"}, MISSING, f"Function not found: {ARN}:two:9"),
    ("get_function", {"FunctionName": "two:1", "Qualifier": "2"}, INVALID,
     "The derived qualifier from the function name does not match the specified qualifier."),
    ("get_function_configuration", {"FunctionName": "two", "Qualifier": "x"}, MISSING, f"{ARN}:two:x"),
    ("delete_function", {"FunctionName": "two", "Qualifier": "$LATEST"}, INVALID,
     "$LATEST version cannot be deleted without deleting the function."),
    ("delete_function", {"FunctionName": "two", "Qualifier": "prod"}, INVALID, "Deletion of aliases"),
    ("delete_function", {"FunctionName": "two", "Qualifier": "9"}, MISSING, f"{ARN}:two:9"),
    ("put_function_concurrency", {"FunctionName": "two:1", "ReservedConcurrentExecutions": 1}, INVALID,
     "This operation is permitted on Lambda functions only."),
    (*aliasing(Name="12"), WRONG, "at 'name'"),
    (*aliasing(FunctionVersion="first"), WRONG, "at 'functionVersion'"),
    (*aliasing(FunctionVersion="9"), MISSING, f"Function not found: {ARN}:two:9"),
    (*aliasing(FunctionName="nobody"), MISSING, f"Function not found: {ARN}:nobody"),
    (*weighing(v1=0.5), INVALID, "already included in routing configuration"),
    (*weighing(v2=1.5), INVALID, "between 0.0 and 1.0"),
    (*weighing(v9=0.5), MISSING, f"{ARN}:two:9"),
    (*weighing(version="$LATEST", v2=0.5), INVALID, "$LATEST is not supported for an alias pointing to more than 1"),
    ("update_alias", {"FunctionName": "two", "Name": "nobody", "Description": "x"}, MISSING,
     f"Cannot find alias arn: {ARN}:two:nobody"),
    (*provisioning("$LATEST"), INVALID,
     "Provisioned Concurrency Configs cannot be applied to unpublished function versions."),
    (*provisioning("9"), MISSING, f"{ARN}:two:9"),
    (*provisioning("nobody"), MISSING, f"Cannot find alias arn: {ARN}:two:nobody"),
    (*provisioning("1", 0), WRONG, "greater than or equal to 1"),
    (*provisioning("1", 100_000), INVALID, "unreserved concurrency"),
    ("get_provisioned_concurrency_config", {"FunctionName": "two", "Qualifier": "1"},
     "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function"),
    ("get_layer_version", {"LayerName": "nobody", "VersionNumber": 1}, MISSING, "does not exist"),
    ("get_layer_version_by_arn", {"Arn": f"{LAYER}:nobody"}, WRONG, "regular expression"),
    ("publish_layer_version", {"LayerName": "bad", "Content": {"ZipFile": b"no zip"}}, INVALID, "Could not unzip"),
    ("publish_layer_version", {"LayerName": "bad", "Content": {"ZipFile": archive({"../evil": "x"})}}, INVALID, "evil"),
    ("publish_layer_version", {"LayerName": "bad", "Content": {"S3Bucket": "b", "S3Key": "k"}}, INVALID, "S3"),
    ("publish_layer_version", {"LayerName": "a b", "Content": {"ZipFile": archive({"a": "x"})}}, WRONG, "layerName"),
    ("list_functions", {"FunctionVersion": "SOME"}, WRONG, "functionVersion"),
    ("list_functions", {"MaxItems": 0}, INVALID, "MaxItems"),
    ("invoke", {"FunctionName": "two", "TenantId": "t"}, INVALID, "X-Amz-Tenant-Id is not offered"),
    ("invoke", {"FunctionName": "two", "DurableExecutionName": "d"}, INVALID, "X-Amz-Durable-Execution-Name"),
    # Operations that are not offered at all.
    ("list_event_source_mappings", {}, INVALID, "not offered"),
    ("create_event_source_mapping", {"FunctionName": "two", "EventSourceArn": "arn:aws:sqs:us-east-1:0:q"}, INVALID,
     "not offered"),
    ("get_policy", {"FunctionName": "two"}, INVALID, "not offered"),
    ("add_permission", {"FunctionName": "two", "StatementId": "s", "Action": "a", "Principal": "p"}, INVALID, "not offered"),
    ("get_function_code_signing_config", {"FunctionName": "two"}, INVALID, "not offered"),
    ("list_code_signing_configs", {}, INVALID, "not offered"),
    ("get_runtime_management_config", {"FunctionName": "two"}, INVALID, "not offered"),
    ("get_layer_version_policy", {"LayerName": "lower", "VersionNumber": 1}, INVALID, "not offered"),
]


@pytest.mark.parametrize(
    "operation, members, kind, text", REFUSALS, ids=[f"{n}-{row[0]}" for n, row in enumerate(REFUSALS)])
def test_what_cannot_be_done_is_refused_in_lambdas_words(client, two, layers, operation, members, kind, text):
    code_, message, status = error_of(getattr(client, operation), **members)
    assert code_ == kind and text in message, message
    expected = {INVALID: 400, WRONG: 400, MISSING: 404, CONFLICT: 409, "PreconditionFailedException": 412}
    assert status == expected.get(kind, 404)
    assert "refused" not in [f["FunctionName"] for f in client.list_functions()["Functions"]]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", [
    "/2015-03-31/nothing", "/2015-03-31/functions/two/invocations/more", "/2020-04-22/code-signing-configs/",
    "/2099-12-31/anything", "/2018-10-31/layers/lower/versions/1/policy"])
def test_everything_else_below_lambdas_dates_answers_in_lambdas_shape(daemon, method, path):
    answer = daemon.request(method, path)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-amzn-errortype"] == INVALID and answer.headers["x-amzn-requestid"]
    assert "not offered" in answer.json["message"] and path in answer.json["message"]


def test_an_update_during_another_is_a_conflict(client, daemon):
    create(client, "contended")
    # Many small files: unpacking takes a while.
    large = archive({f"d/{n}": str(n) * 50 for n in range(6_000)})
    outcomes = collections.Counter()

    def update(_):
        try:
            client.update_function_code(FunctionName="contended", ZipFile=large)
            outcomes["done"] += 1
        except client.exceptions.ResourceConflictException as error:
            assert f"An update is in progress for resource: {ARN}:contended" in str(error)
            outcomes["conflict"] += 1

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(update, range(4)))
    assert outcomes["done"] >= 1 and outcomes["done"] + outcomes["conflict"] == 4, outcomes
    assert outcomes["conflict"] >= 1, outcomes
    client.update_function_code(FunctionName="contended", ZipFile=code("after"))
    assert call(client, "contended")[0]["word"] == "after"
