# SPDX-License-Identifier: Apache-2.0
"""Where records of ended events go: files and HTTP addresses that the operator allows, and dead letters."""
import json
import signal
import socket

import pytest

from conftest import Hook, wait_until
from test_async import CODE, ended, event, lambda_client, send

CONFIG = """
defaults: {timeout: 60s, init_timeout: 120s, retries: 0, backoff: 300ms}
limits: {delivery_attempts: 3, destination_file: 8KiB}
"""


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def functions(daemon):
    for name in ("work", "told"):
        daemon.deploy_code(name, {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")


def configure(daemon, name="work", **members):
    destinations = {f"On{key}": {"Destination": value} for key, value in members.items()}
    lambda_client(daemon).put_function_event_invoke_config(FunctionName=name, DestinationConfig=destinations)


def deliveries(daemon, name="work"):
    return [e for e in daemon.request("GET", f"/v1/queue?function={name}").json["events"] if "destination" in e]


def test_a_file_gets_one_json_record_a_line(daemon):
    path = daemon.directory / "state" / "destinations" / "deep" / "work.jsonl"
    configure(daemon, Success=f"file://{path}", Failure=f"file://{path}")
    good, bad = send(daemon, {"key": "good"}), send(daemon, {"key": "bad", "fail": 9})
    ended(daemon, good)
    ended(daemon, bad, "failed")
    wait_until(lambda: path.exists() and path.read_text().count("\n") == 2, "two records", 30)
    records = {r["requestContext"]["requestId"]: r for r in map(json.loads, path.read_text().splitlines())}
    assert records[good]["requestContext"]["condition"] == "Success"
    assert records[good]["responsePayload"]["key"] == "good" and records[good]["requestPayload"] == {"key": "good"}
    assert records[bad]["requestContext"]["condition"] == "RetriesExhausted"
    config = lambda_client(daemon).get_function_event_invoke_config(FunctionName="work")
    assert config["DestinationConfig"]["OnSuccess"]["Destination"] == f"file://{path}"


def test_an_address_is_posted_to_and_tried_again_under_the_same_delivery_id(daemon, hook):
    hook.refusals = 2
    configure(daemon, Success=f"{hook.url}/done?x=1")
    id = send(daemon, {"key": "posted"})
    ended(daemon, id)
    wait_until(lambda: len(hook.of(id)) == 3, "the third attempt", 60)
    sent = hook.of(id)
    assert {path for path, _, _ in sent} == {"/done?x=1"}
    assert len({headers["X-Fn-Delivery-Id"] for _, headers, _ in sent}) == 1
    assert sent[0][1]["Content-Type"] == "application/json" and sent[0][2]["responsePayload"]["id"] == id
    delivery = sent[0][1]["X-Fn-Delivery-Id"]
    assert ended(daemon, delivery)["attempts"] == 3
    shown = daemon.fn("queue", "show", delivery).stdout.decode()
    assert f"carried to: {hook.url}/done?x=1" in shown


def test_a_backlog_is_told_of_to_the_last_event(own_daemon, hook):
    """While more is due than may run at once, the records of what has ended are due too: each has room of its own."""
    daemon = own_daemon(CONFIG + "pools: {events: 8}\n").start()
    daemon.deploy_code("work", {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")
    configure(daemon, Success=hook.url)
    ids = {send(daemon, {"key": "backlog", "sleep": 0.1}) for _ in range(50)}
    daemon.stop(signal.SIGKILL)
    daemon.start()
    wait_until(lambda: ids <= {sent["requestContext"]["requestId"] for _, _, sent in hook.received},
               lambda: f"50 records, there are {len(hook.received)}; left: {deliveries(daemon)[:3]}", 60)


def test_a_delivery_outlives_the_daemon(daemon, hook):
    hook.refusals = 1
    configure(daemon, Success=hook.url)
    id = send(daemon, {"key": "outlives"})
    wait_until(lambda: hook.of(id), "the first attempt", 30)
    daemon.stop(signal.SIGKILL)
    daemon.start()
    wait_until(lambda: len(hook.of(id)) >= 2, "another attempt", 60)
    assert len({headers["X-Fn-Delivery-Id"] for _, headers, _ in hook.of(id)}) == 1


def test_what_cannot_be_delivered_is_given_up_says_why_and_can_be_retried(daemon):
    gone = Hook()
    gone.close()
    configure(daemon, Success=gone.url)
    ended(daemon, send(daemon, {"key": "gone"}))
    delivery = wait_until(lambda: [d for d in deliveries(daemon) if d["destination"] == gone.url + "/"], "the delivery")[0]
    found = ended(daemon, delivery["id"], "failed")
    assert found["attempts"] == 3 and "cannot be reached" in found["reason"], found
    assert daemon.fn("queue", "retry", delivery["id"]).returncode == 0
    ended(daemon, delivery["id"], "failed")
    metrics = daemon.request("GET", "/metrics").body.decode()
    assert 'fn_dead_letters_total{function="work"}' in metrics and 'fn_queue_retries_total{function="work"}' in metrics
    assert 'fn_queue_messages{function="work"}' in metrics and 'fn_queue_oldest_seconds{function="work"}' in metrics


def test_a_full_file_and_a_planted_link_say_so(daemon):
    base = daemon.directory / "state" / "destinations"
    base.mkdir(exist_ok=True)
    (base / "full").write_text("x" * 8190 + "\n")
    (base / "link").symlink_to(daemon.directory / "stolen")
    for name, reason in (("full", "limits.destination_file"), ("link", "symbolic link")):
        configure(daemon, Success=f"file://{base}/{name}")
        ended(daemon, send(daemon, {"key": name}))
        mine = wait_until(lambda: [d for d in deliveries(daemon) if d["destination"].endswith(f"/{name}")], "the delivery")
        assert reason in ended(daemon, mine[0]["id"], "failed")["reason"]
    assert not (daemon.directory / "stolen").exists()


@pytest.mark.parametrize("destination, why", [
    ("file:///etc/cron.d/x", "storage.destinations"), ("file://relative", "absolute"),
    ("http://169.254.169.254/latest", "limits.destination_hosts"), ("http://10.0.0.1/", "limits.destination_hosts"),
    ("https://localhost/", "TLS"), ("arn:aws:sqs:us-east-1:000000000000:q", "'sqs' is not offered"),
    ("arn:aws:lambda:us-east-1:000000000000:function:nobody", "no such function"),
])
def test_a_destination_that_is_not_allowed_is_refused_when_it_is_named(daemon, destination, why):
    client = lambda_client(daemon)
    with pytest.raises(client.exceptions.InvalidParameterValueException, match=why):
        configure(daemon, Success=destination)


def test_the_daemon_itself_is_no_destination(daemon):
    client = lambda_client(daemon)
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="daemon itself"):
        configure(daemon, Success=f"http://localhost:{daemon.port}/v1/config/reload")


def test_dead_letters_get_the_event_itself(daemon):
    client = lambda_client(daemon)
    configure(daemon)
    told = client.get_function(FunctionName="told")["Configuration"]["FunctionArn"]
    answer = client.update_function_configuration(FunctionName="work", DeadLetterConfig={"TargetArn": told})
    assert answer["DeadLetterConfig"] == {"TargetArn": told}
    ended(daemon, send(daemon, {"key": "letter", "fail": 9}), "failed")

    def letter():
        for found in daemon.request("GET", "/v1/queue?function=told").json["events"]:
            if json.loads(event(daemon, found["id"])["payload"]).get("key") == "letter":
                return found
    wait_until(letter, "the dead letter", 30)
    # It is part of the function, not of its event-invoke configuration.
    client.delete_function_event_invoke_config(FunctionName="work")
    assert client.get_function_configuration(FunctionName="work")["DeadLetterConfig"]["TargetArn"] == told
    for arn in ("arn:aws:sqs:us-east-1:000000000000:q", "arn:aws:sns:us-east-1:000000000000:t"):
        with pytest.raises(client.exceptions.InvalidParameterValueException, match="is not offered"):
            client.update_function_configuration(FunctionName="work", DeadLetterConfig={"TargetArn": arn})
    client.update_function_configuration(FunctionName="work", DeadLetterConfig={"TargetArn": ""})
    assert "DeadLetterConfig" not in client.get_function_configuration(FunctionName="work")


def test_function_yaml_says_what_becomes_of_events(daemon):
    base = daemon.directory / "state" / "destinations"
    yaml = f"events: {{retries: 1, max_age: 10m, on_success: told, on_failure: 'file://{base}/said.jsonl'}}\n"
    daemon.deploy_code("said", {"app.py": CODE, "function.yaml": yaml}, "python", "app.handle", "--timeout", "50s")
    shown = daemon.fn("describe", "said").stdout.decode()
    assert "events:       retries 1, for at most 10m" in shown and "on success:   told" in shown
    assert f"on failure:   file://{base}/said.jsonl" in shown
    found = ended(daemon, send(daemon, {"key": "said", "fail": 9}, "said"), "failed")
    assert found["attempts"] == 2
    wait_until(lambda: (base / "said.jsonl").exists(), "the record", 30)
    for bad, why in (("events: {on_success: nobody}", "no such function"),
                     ("events: {on_failure: 'file:///etc/x'}", "storage.destinations"),
                     ("events: {retires: 1}", "function.yaml:1:10: error: unknown key 'retires'; did you mean 'retries'?")):
        source = daemon.directory / "code" / "said"
        (source / "function.yaml").write_text(bad)
        result = daemon.fn("deploy", source, "--name", "said", "--runtime", "python", "--handler", "app.handle")
        assert result.returncode == 64 and why in result.stderr.decode(), result.stderr


def test_an_address_that_does_not_answer_takes_no_room_from_events(own_daemon):
    """With room for two at once, both of it taken by records that hang, events still run."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)  # accepts nothing: whoever posts waits for an answer
    daemon = own_daemon(CONFIG + "pools: {events: 2}\n").start()
    daemon.deploy_code("work", {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")
    daemon.deploy_code("free", {"app.py": CODE}, "python", "app.handle", "--timeout", "50s")
    configure(daemon, Success=f"http://127.0.0.1:{listener.getsockname()[1]}/")
    for n in range(4):
        ended(daemon, send(daemon, {"key": f"slow {n}"}))
    running = lambda: [e for e in deliveries(daemon) if e["state"] == "running"]
    wait_until(running, "a record to hang")
    for n in range(4):
        ended(daemon, send(daemon, {"key": f"quick {n}"}, name="free"))
        assert running(), "the record did not hang for so long"
    listener.close()
