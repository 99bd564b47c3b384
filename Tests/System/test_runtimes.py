# SPDX-License-Identifier: Apache-2.0
import os
import shutil

import pytest

CONFIG = "defaults: {timeout: 120s, init_timeout: 120s}\n"


def test_node_runs_values_promises_and_callbacks(daemon):
    code = """
    exports.value = (event) => ({ value: event.n });
    exports.promise = async (event) => ({ value: event.n });
    exports.callback = (event, context, done) => { setTimeout(() => done(null, { value: event.n }), 5); };
    exports.thrower = async () => { throw new TypeError("bad"); };
    """
    for kind in ("value", "promise", "callback"):
        daemon.deploy_code(f"node-{kind}", {"index.js": code}, "node", f"index.{kind}", "--timeout", "100s")
        answer = daemon.invoke(f"node-{kind}", {"n": 7})
        assert (answer.status, answer.json) == (200, {"value": 7}), answer.body
    daemon.deploy_code("node-thrower", {"index.js": code}, "node", "index.thrower", "--timeout", "100s")
    answer = daemon.invoke("node-thrower")
    assert (answer.status, answer.json["errorType"], answer.json["errorMessage"]) == (502, "TypeError", "bad")


def test_the_node_example_answers(daemon):
    daemon.deploy("hello-node", "--timeout", "100s")
    assert daemon.invoke("hello-node", {"name": "node"}).json == {"hello": "node"}


def test_a_provided_function_speaks_the_runtime_api_itself(daemon):
    result = daemon.fn("init", "own-loop", "--runtime", "provided")
    assert result.returncode == 0, result.stderr
    result = daemon.fn("deploy", "own-loop", "--timeout", "100s")
    assert result.returncode == 0, result.stderr
    assert daemon.invoke("own-loop", {"x": [1, 2]}).json == {"x": [1, 2]}


def test_the_official_python_client_runs_unmodified_as_a_provided_function(daemon):
    source = daemon.directory / "ric"
    shutil.copytree(os.environ["EBB_RIC"], source, ignore=shutil.ignore_patterns("__pycache__", "bin"))
    (source / "app.py").write_text(
        "def handler(event, context):\n"
        "    if event.get('raise'): raise KeyError('x')\n"
        "    return {'echo': event, 'id': context.aws_request_id}\n")
    start = source / "bootstrap"
    start.write_text("#!/bin/sh\nexec /usr/bin/python3 -m awslambdaric app.handler\n")
    start.chmod(0o755)
    result = daemon.fn("deploy", source, "--name", "ric", "--runtime", "provided", "--timeout", "100s", "--memory", "192MiB")
    assert result.returncode == 0, result.stderr
    for n in range(3):
        answer = daemon.invoke("ric", {"n": n})
        assert answer.status == 200, answer.body
        assert answer.json == {"echo": {"n": n}, "id": answer.headers["x-fn-request-id"]}
    answer = daemon.invoke("ric", {"raise": True})
    assert (answer.status, answer.json["errorType"]) == (502, "KeyError")


@pytest.mark.parametrize("start, words", [
    (None, "there is no such file"),
    ("#!/opt/none\n", "the interpreter that it names is not in the image"),
    ("not a program\n", "it is no program of this machine's kind"),
], ids=["missing", "interpreter", "kind"])
def test_a_program_that_cannot_be_executed_says_why(daemon, start, words):
    source = daemon.directory / "unstartable"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    (source / "README").write_text("so that there is something\n")
    if start:
        (source / "bootstrap").write_text(start)
        (source / "bootstrap").chmod(0o755)
    result = daemon.fn("deploy", source, "--name", "unstartable", "--runtime", "provided")
    assert result.returncode == 0, result.stderr
    answer = daemon.invoke("unstartable")
    assert (answer.status, answer.json["errorType"]) == (502, "Runtime.InvalidEntrypoint"), answer.body
    assert answer.json["errorMessage"].startswith("cannot execute /var/task/bootstrap: ") and words in answer.json["errorMessage"]
    daemon.fn("rm", "--yes", "unstartable")


@pytest.mark.parametrize("runtime", ["python", "node", "provided", "command", "http"])
def test_every_runtime_has_a_template_that_works(daemon, runtime):
    name = f"fresh-{runtime}"
    assert daemon.fn("init", name, "--runtime", runtime).returncode == 0
    result = daemon.fn("deploy", name, "--timeout", "100s")
    assert result.returncode == 0, result.stderr
    assert daemon.invoke(name, {"name": "new"}).status == 200


def test_a_command_that_fails_says_how(daemon):
    daemon.deploy_code("broken", {"run.sh": "#!/bin/sh\necho oh no >&2\nexit 3\n"}, "command", "run.sh")
    answer = daemon.invoke("broken")
    assert answer.status == 502
    assert (answer.json["errorType"], answer.json["exitStatus"]) == ("Command.ExitError", 3)
    assert "oh no" in answer.json["errorMessage"]
