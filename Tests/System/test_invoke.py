# SPDX-License-Identifier: Apache-2.0
import base64
import concurrent.futures

import pytest


@pytest.fixture(scope="module", autouse=True)
def functions(daemon):
    daemon.deploy("hello-python")
    daemon.deploy("sum-command")


def test_fn_invoke_prints_the_answer_and_nothing_else_on_stdout(daemon):
    result = daemon.fn("invoke", "hello-python", "-d", '{"name": "Ebb"}')
    assert result.returncode == 0, result.stderr
    assert result.stdout == b'{"hello": "Ebb"}'


def test_the_plain_door_answers_with_the_functions_answer_and_says_how_it_ran(daemon):
    answer = daemon.invoke("hello-python", {"name": "curl"})
    assert (answer.status, answer.json) == (200, {"hello": "curl"})
    assert answer.headers["x-fn-start"] in ("cold", "warm", "thawed")
    assert float(answer.headers["x-fn-duration-ms"]) > 0
    assert len(answer.headers["x-fn-request-id"]) == 36


def test_a_second_request_uses_the_same_warm_sandbox(daemon):
    daemon.invoke("hello-python")
    first = daemon.sandbox("hello-python")
    assert daemon.invoke("hello-python").headers["x-fn-start"] != "cold"
    assert daemon.sandbox("hello-python")["pid"] == first["pid"]


def test_an_empty_body_is_an_empty_event(daemon):
    assert daemon.invoke("hello-python", raw=b"").json == {"hello": "world"}


def test_the_log_tail_holds_what_was_printed_between_start_and_report(daemon):
    answer = daemon.invoke("hello-python", headers={"X-Amz-Log-Type": "Tail"})
    tail = base64.b64decode(answer.headers["x-amz-log-result"]).decode()
    request = answer.headers["x-fn-request-id"]
    lines = tail.splitlines()
    assert lines[0] == f"START RequestId: {request} Version: $LATEST"
    assert lines[1] == f"greeting for {request}"
    assert lines[2] == f"END RequestId: {request}"
    assert lines[3].startswith(f"REPORT RequestId: {request}\tDuration: ")
    assert "\tMemory Size: 128 MB\tMax Memory Used: " in lines[3]


def test_the_log_tail_goes_to_stderr(daemon):
    result = daemon.fn("invoke", "hello-python", "--log", "tail")
    assert result.stdout == b'{"hello": "world"}'
    assert b"REPORT RequestId:" in result.stderr


def test_a_command_gets_the_event_on_stdin_and_answers_on_stdout(daemon):
    result = daemon.fn("invoke", "sum-command", "-d", "-", stdin=b"1 2\n39\n")
    assert (result.returncode, result.stdout) == (0, b"42\n")


def test_parallel_requests_get_sandboxes_of_their_own(daemon):
    daemon.deploy("counter")
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(daemon.invoke, "counter", {"hold_ms": 3000}) for _ in range(3)]
        answers = [call.result().json for call in calls]
    assert [answer["count"] for answer in answers] == [1, 1, 1]
    assert len(daemon.sandboxes("counter")) == 3


def test_cold_uses_a_sandbox_started_for_this_request(daemon):
    daemon.invoke("hello-python")
    assert daemon.invoke("hello-python", headers={"X-Fn-Cold": "1"}).headers["x-fn-start"] == "cold"


def test_a_repeated_deployment_replaces_the_code_without_a_failed_request(daemon):
    daemon.deploy_code("changing", {"app.py": "def handle(event, context):\n    return 1\n"})
    assert daemon.invoke("changing").json == 1
    daemon.deploy_code("changing", {"app.py": "def handle(event, context):\n    return 2\n"})
    assert daemon.invoke("changing").json == 2


def test_logs_are_kept_and_shown(daemon):
    request = daemon.invoke("hello-python").headers["x-fn-request-id"]
    result = daemon.fn("logs", "hello-python")
    assert f"greeting for {request}".encode() in result.stdout


def test_a_deadline_at_the_moment_of_the_answer_harms_nobody_else(daemon):
    """Deadlines that are about as long as the call: some come just before its end, and some just after."""
    daemon.deploy("hello-python")
    for number in range(24):
        short = daemon.invoke("hello-python", {}, {"X-Fn-Timeout-Ms": str(1 + number % 4)})
        assert short.status in (200, 504)
        assert daemon.invoke("hello-python", {}, {"X-Fn-Timeout-Ms": "60000"}).status == 200
