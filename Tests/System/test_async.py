# SPDX-License-Identifier: Apache-2.0
"""Events that are accepted for later: on disk before the answer, run at least once, told what became of them."""
import json
import os
import re
import time

import boto3
import botocore.config
import pytest

from conftest import Hook, wait_until

LONG = os.environ.get("EBB_LONG") == "1"
CONFIG = "defaults: {timeout: 60s, init_timeout: 120s, retries: 2, backoff: 300ms}\n"

CODE = """
import time
calls = {}
def handle(event, context):
    key = event.get("key", "")
    calls[key] = calls.get(key, 0) + 1
    time.sleep(event.get("sleep", 0))
    if event.get("fail", 0) >= calls[key]:
        raise ValueError(f"attempt {calls[key]}")
    return {"key": key, "calls": calls[key], "id": context.aws_request_id}
"""


def lambda_client(daemon):
    config = botocore.config.Config(retries={"max_attempts": 0}, read_timeout=300)
    return boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{daemon.port}", region_name="us-east-1",
                        aws_access_key_id="x", aws_secret_access_key="x", config=config)


@pytest.fixture(scope="module", autouse=True)
def functions(daemon):
    daemon.deploy_code("work", {"app.py": CODE}, "python", "app.handle", "--timeout", "50s", "--concurrency", "4")
    daemon.deploy_code("told", {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")


def send(daemon, event, name="work"):
    answer = daemon.invoke(name, event, {"X-Amz-Invocation-Type": "Event"})
    assert answer.status == 202, answer.body
    assert answer.json["requestId"] == answer.headers["x-fn-request-id"]
    return answer.json["requestId"]


def event(daemon, id):
    return daemon.request("GET", f"/v1/queue/{id}").json


def ended(daemon, id, state="succeeded"):
    found = wait_until(lambda: (e := event(daemon, id))["state"] in ("succeeded", "failed") and e, f"{id} to end", 60)
    assert found["state"] == state, found
    return found


def test_an_event_is_accepted_by_boto3_run_later_and_its_answer_is_kept(daemon):
    answer = lambda_client(daemon).invoke(FunctionName="work", InvocationType="Event", Payload=b'{"key": "boto"}')
    assert answer["StatusCode"] == 202 and answer["Payload"].read() == b"" and "ExecutedVersion" not in answer
    id = answer["ResponseMetadata"]["RequestId"]
    assert json.loads(ended(daemon, id)["result"]) == {"key": "boto", "calls": 1, "id": id}


def test_all_attempts_of_an_event_have_one_trace_id(daemon):
    code = "import os\ndef handle(event, context):\n    print(os.environ['_X_AMZN_TRACE_ID'])\n    raise ValueError('no')\n"
    daemon.deploy_code("attempts", {"app.py": code}, "python", "app.handle")
    id = send(daemon, {}, "attempts")
    ended(daemon, id, "failed")

    def told():
        printed = daemon.fn("logs", "attempts", "--request", id, "--tail", "200").stdout.decode()
        found = re.findall(r"Root=1-[^\"\s]+", printed)
        return found if len(found) == 3 else None
    assert len(set(wait_until(told, "three attempts in the log"))) == 1


def test_the_older_invoke_async_is_the_same(daemon):
    answer = lambda_client(daemon).invoke_async(FunctionName="work", InvokeArgs=b'{"key": "old"}')
    assert answer["Status"] == 202
    ended(daemon, answer["ResponseMetadata"]["RequestId"])


def test_an_error_is_tried_again_under_the_same_id_and_then_given_up(daemon):
    daemon.fn("update", "work", "--concurrency", "1")
    lucky = send(daemon, {"key": "lucky", "fail": 2})
    found = ended(daemon, lucky)
    assert found["attempts"] == 3 and json.loads(found["result"]) == {"key": "lucky", "calls": 3, "id": lucky}
    hopeless = send(daemon, {"key": "hopeless", "fail": 99})
    found = ended(daemon, hopeless, "failed")
    assert (found["attempts"], found["reason"]) == (3, "RetriesExhausted")
    assert json.loads(found["result"])["errorMessage"] == "attempt 3"
    assert daemon.fn("queue", "retry", hopeless).returncode == 0
    assert ended(daemon, hopeless, "failed")["attempts"] == 3
    assert daemon.fn("queue", "retry", lucky).returncode != 0
    daemon.fn("update", "work", "--concurrency", "4")


def test_what_cannot_run_now_waits_and_is_no_attempt(own_daemon):
    daemon = own_daemon(CONFIG + "host: {memory: 150MiB}\npools: {queue_timeout: 500ms}\n").start()
    for name in ("large", "small"):
        daemon.deploy_code(name, {"app.py": CODE}, "python", "app.handle", "--timeout", "50s", "--memory", "100MiB")
    first = send(daemon, {"sleep": 4}, "large")
    wait_until(lambda: event(daemon, first)["state"] == "running", "it to run")
    second = send(daemon, {"key": "patient"}, "small")
    wait_until(lambda: "reason" in event(daemon, second), "it to be put off", 30)
    found = ended(daemon, second)
    assert found["attempts"] == 1 and json.loads(found["result"])["calls"] == 1


def test_destinations_are_told_what_became_of_it(daemon):
    client = lambda_client(daemon)
    told = client.get_function(FunctionName="told")["Configuration"]["FunctionArn"]
    client.put_function_event_invoke_config(
        FunctionName="work", MaximumRetryAttempts=0, MaximumEventAgeInSeconds=600,
        DestinationConfig={"OnSuccess": {"Destination": told}, "OnFailure": {"Destination": told}})
    config = client.get_function_event_invoke_config(FunctionName="work")
    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (0, 600)
    assert config["DestinationConfig"]["OnFailure"]["Destination"] == told
    assert len(client.list_function_event_invoke_configs(FunctionName="work")["FunctionEventInvokeConfigs"]) == 1
    for failing, condition in ((0, "Success"), (9, "RetriesExhausted")):
        id = send(daemon, {"key": f"destination {failing}", "fail": failing})
        ended(daemon, id, "failed" if failing else "succeeded")

        def record():
            for found in daemon.request("GET", "/v1/queue?function=told").json["events"]:
                sent = json.loads(event(daemon, found["id"])["payload"])
                if sent["requestContext"]["requestId"] == id:
                    return sent
        sent = wait_until(record, "the destination to be told")
        assert sent["version"] == "1.0" and sent["requestContext"]["condition"] == condition
        assert sent["requestContext"]["approximateInvokeCount"] == 1
        assert sent["requestPayload"]["key"] == f"destination {failing}"
        assert sent["responseContext"]["statusCode"] == 200
        assert ("functionError" in sent["responseContext"]) == (failing > 0)
        assert ("errorMessage" if failing else "calls") in sent["responsePayload"]
    client.update_function_event_invoke_config(FunctionName="work", MaximumRetryAttempts=1)
    assert client.get_function_event_invoke_config(FunctionName="work")["MaximumEventAgeInSeconds"] == 600
    client.delete_function_event_invoke_config(FunctionName="work")
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="EventInvokeConfig"):
        client.get_function_event_invoke_config(FunctionName="work")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="destination ARN"):
        client.put_function_event_invoke_config(
            FunctionName="work", DestinationConfig={"OnSuccess": {"Destination": "arn:aws:sqs:us-east-1:0:q"}})
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="between 0 and 2"):
        client.put_function_event_invoke_config(FunctionName="work", MaximumRetryAttempts=3)


def test_bad_events_are_refused_before_they_are_accepted(daemon):
    client = lambda_client(daemon)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="nobody", InvocationType="Event", Payload=b"{}")
    with pytest.raises(client.exceptions.InvalidRequestContentException):
        client.invoke(FunctionName="work", InvocationType="Event", Payload=b"{no")
    with pytest.raises(client.exceptions.RequestTooLargeException):
        client.invoke(FunctionName="work", InvocationType="Event", Payload=json.dumps("x" * (1 << 20)).encode())
    assert daemon.request("GET", "/v1/queue/nothing").status == 404
    assert daemon.request("POST", "/v1/queue/nothing/retry").status == 404
    assert daemon.request("GET", "/v1/queue?state=asleep").status == 400
    assert daemon.request("DELETE", "/v1/queue?state=running").status == 400


def test_a_full_queue_says_so_and_old_answers_make_room_first(own_daemon):
    daemon = own_daemon(CONFIG + "limits: {queue: 300KiB}\n").start()
    daemon.deploy_code("work", {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")
    ended(daemon, send(daemon, {"pad": "x" * 200_000}))
    ended(daemon, send(daemon, {"pad": "x" * 200_000}))
    assert len(daemon.request("GET", "/v1/queue").json["events"]) == 1
    slow = send(daemon, {"sleep": 3, "pad": "x" * 200_000})
    refused = daemon.invoke("work", {"pad": "x" * 200_000}, {"X-Amz-Invocation-Type": "Event"})
    assert refused.status == 429 and b"limits.queue" in refused.body
    ended(daemon, slow)


def test_fn_sends_shows_and_purges(daemon):
    id = daemon.fn("invoke", "work", "--async", "-d", '{"key": "fn"}').stdout.decode().strip()
    ended(daemon, id)
    shown = daemon.fn("queue", "show", id).stdout.decode()
    assert "succeeded" in shown and '"calls": 1' in shown
    assert id in daemon.fn("queue", "ls", "--function", "work", "-q").stdout.decode().split()
    assert b"STATE" in daemon.fn("queue").stdout
    assert daemon.fn("queue", "show", "nothing").returncode == 66
    removed = daemon.fn("queue", "purge", "--function", "work", "--state", "succeeded", "-y")
    assert removed.stderr.startswith(b"Removed ")
    assert id not in daemon.fn("queue", "ls", "-q").stdout.decode()
    metrics = daemon.request("GET", "/metrics").body.decode()
    assert 'fn_queue_events{function="told",state="succeeded"}' in metrics


def test_the_log_of_one_request_can_be_asked_for(daemon):
    daemon.deploy_code("talks", {"app.py": "def handle(event, context):\n    print(event)\n"}, "python", "app.handle")
    first, second = (send(daemon, {"n": n}, "talks") for n in (1, 2))
    for id in (first, second):
        ended(daemon, id)
    lines = [json.loads(line) for line in daemon.fn("logs", "talks", "--request", first).stdout.decode().splitlines()]
    assert {line["requestId"] for line in lines} == {first} and any("'n': 1" in line["message"] for line in lines)
    assert daemon.fn("logs", "talks", "--request", second[:8]).stdout
    assert daemon.fn("logs", "talks", "--request", "nothing").stdout == b""
    why = daemon.fn("why", "talkz")
    assert why.returncode == 66 and b"did you mean 'talks'?" in why.stderr


def test_an_event_runs_at_the_size_that_its_caller_asked_for(daemon):
    daemon.deploy_code("sized", {"app.py": "def handle(event, context):\n    return context.get_remaining_time_in_millis()\n"},
                       "python", "app.handle", "--timeout", "50s")
    result = daemon.fn("invoke", "sized", "--async", "--timeout", "20s", "--memory", "64MiB")
    assert result.returncode == 0, result.stderr
    id = result.stdout.decode().strip()
    assert 10_000 < int(ended(daemon, id)["result"]) <= 20_000
    decisions = daemon.request("GET", f"/v1/decisions?subject={id}").json["decisions"]
    assert any(d.get("numbers", {}).get("contract_bytes") == 64 << 20 for d in decisions), decisions


def test_events_of_a_removed_function_are_given_up_and_say_why(daemon):
    daemon.deploy_code("leaves", {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")
    id = send(daemon, {"fail": 9, "key": "x"}, "leaves")
    wait_until(lambda: event(daemon, id)["attempts"] >= 1, "its first attempt", 30)
    daemon.fn("rm", "leaves", "-y")
    assert ended(daemon, id, "failed")["reason"] in ("the function was removed", "RetriesExhausted")


def test_a_flood_of_one_function_leaves_room_for_another(own_daemon):
    daemon = own_daemon(CONFIG + "pools: {events: 4}\n").start()
    for name in ("floods", "quiet"):
        daemon.deploy_code(name, {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")
    flood = [send(daemon, {"sleep": 1.5}, "floods") for _ in range(12)]
    quiet = send(daemon, {"key": "quiet"}, "quiet")
    ended(daemon, quiet)
    assert sum(event(daemon, id)["state"] in ("queued", "running") for id in flood) > 0
    for id in flood:
        ended(daemon, id)
