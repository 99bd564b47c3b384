# SPDX-License-Identifier: Apache-2.0
"""Everything a person or a program could plausibly get wrong gives one clear error, and the next request works."""
import concurrent.futures
import io
import stat
import time
import zipfile

import pytest

CONFIG = "defaults: {timeout: 120s, init_timeout: 60s}\nlimits: {unpacked_code: 20MiB}\n"

FAILING = """
import os, sys, time
def handle(event, context):
    what = event.get("what")
    if what == "raise": raise RuntimeError("on purpose")
    if what == "exit": os._exit(7)
    if what == "leave": sys.exit(4)
    if what == "sleep": time.sleep(3600)
    if what == "flood":
        for _ in range(100): sys.stdout.write("x" * 1023 * 1024 + "\\n")
    if what == "large": return "x" * (7 << 20)
    if what == "object": return object()
    return "fine"
"""


@pytest.fixture(scope="module", autouse=True)
def failing(daemon):
    daemon.deploy_code("failing", {"app.py": FAILING})


def fails(daemon, what, status, kind, **headers):
    answer = daemon.invoke("failing", {"what": what}, headers)
    assert answer.status == status, answer.body
    assert answer.json["errorType"] == kind
    assert daemon.invoke("failing").json == "fine", "the next request works"
    return answer.json


def test_a_handler_that_raises(daemon):
    document = fails(daemon, "raise", 502, "RuntimeError")
    assert document["errorMessage"] == "on purpose"
    assert daemon.fn("invoke", "failing", "-d", '{"what": "raise"}').returncode == 100


def test_a_handler_that_ends_its_process(daemon):
    assert "exit status 7" in fails(daemon, "exit", 502, "Runtime.ExitError")["errorMessage"]
    assert "exit status 4" in fails(daemon, "leave", 502, "Runtime.ExitError")["errorMessage"]


def test_a_handler_that_sleeps_past_its_timeout(daemon):
    document = fails(daemon, "sleep", 504, "Sandbox.Timedout", **{"X-Fn-Timeout-Ms": "2000"})
    assert document["errorMessage"].endswith("Error: Task timed out after 2.00 seconds")
    assert document["timeoutMs"] == 2000
    assert daemon.fn("invoke", "failing", "-d", '{"what": "sleep"}', "--timeout", "1s").returncode == 124


def test_a_handler_that_prints_100_mb(daemon):
    answer = daemon.invoke("failing", {"what": "flood"}, {"X-Amz-Log-Type": "Tail"})
    assert (answer.status, answer.json) == (200, "fine")
    kept = sum(file.stat().st_size for file in (daemon.directory / "state" / "logs").glob("failing.log*"))
    assert kept <= 65 << 20, "what is kept of it is bounded"


def test_an_answer_of_7_mb(daemon):
    assert "6291556 bytes" in fails(daemon, "large", 502, "Function.ResponseSizeTooLarge")["errorMessage"]


def test_an_answer_that_is_not_json(daemon):
    fails(daemon, "object", 502, "Runtime.MarshalError")


def test_a_runtime_that_never_asks_for_an_event(own_daemon):
    quick = own_daemon("defaults: {init_timeout: 2s}\n").start()
    quick.deploy_code("mute", {"bootstrap": "#!/bin/sh\nexec sleep 3600\n"}, "provided", "none")
    answer = quick.invoke("mute")
    assert (answer.status, answer.json["errorType"]) == (502, "Sandbox.Timedout")
    assert "did not ask for its first event within 2s" in answer.json["errorMessage"]


def test_a_module_that_cannot_be_imported(daemon):
    daemon.deploy_code("missing", {"app.py": "import no_such_module\n"})
    answer = daemon.invoke("missing")
    assert (answer.status, answer.json["errorType"]) == (502, "Runtime.ImportModuleError")
    assert "no_such_module" in answer.json["errorMessage"]
    daemon.deploy_code("unparsable", {"app.py": "def handle(:\n"})
    assert daemon.invoke("unparsable").json["errorType"] == "Runtime.UserCodeSyntaxError"
    daemon.deploy_code("nameless", {"app.py": "x = 1\n"})
    assert daemon.invoke("nameless").json["errorType"] == "Runtime.HandlerNotFound"


def test_a_provided_function_without_its_program(daemon):
    daemon.deploy_code("empty", {"other": "x"}, "provided", "none")
    assert daemon.invoke("empty").json["errorType"] == "Runtime.InvalidEntrypoint"


def test_an_unknown_function(daemon):
    answer = daemon.invoke("failin")
    assert (answer.status, answer.json["error"]["code"]) == (404, "FunctionNotFound")
    result = daemon.fn("invoke", "failin")
    assert (result.returncode, result.stdout) == (66, b"")
    assert b"no such function: failin; did you mean 'failing'?" in result.stderr


def test_an_event_that_is_not_json(daemon):
    answer = daemon.invoke("failing", raw=b"{oops")
    assert (answer.status, answer.json["error"]["code"]) == (400, "InvalidPayload")
    assert daemon.fn("invoke", "failing", "-d", "{oops").returncode == 64


def test_a_body_above_the_limit(daemon):
    answer = daemon.invoke("failing", raw=b'"' + b"x" * (6 << 20) + b'"')
    assert answer.status == 413
    assert daemon.invoke("failing").json == "fine"


def zipped(entries, symlinks=()):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
        for name, target in symlinks:
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)
    return data.getvalue()


@pytest.mark.parametrize("archive, complaint", [
    (zipped([("../evil.py", "x")]), "leads out of the archive"),
    (zipped([("/etc/evil.py", "x")]), "absolute path"),
    (zipped([("app.py", "x")], [("link", "/etc/passwd")]), "outside of the archive"),
    (zipped([("app.py", "x")], [("a/link", "../../x")]), "outside of the archive"),
    (zipped([("d/d/app.py", "x")], [("d/d/up", "../.."), ("function.yaml", "d/d/up/../../../../../../etc/shadow")]),
     "outside of the archive or by a detour"),
    (zipped([("bomb", b"\0" * (64 << 20))]), "smaller than 20971520 bytes"),
    (b"PK\x03\x04 and then nonsense", "Could not unzip"),
    (b"", "Could not unzip"),
], ids=["dotdot", "absolute", "link-out", "link-up", "detour", "bomb", "nonsense", "nothing"])
def test_hostile_archives_are_refused_and_leave_nothing(daemon, archive, complaint):
    file = daemon.directory / "hostile.zip"
    file.write_bytes(archive)
    result = daemon.fn("deploy", file, "--name", "hostile", "--runtime", "python", "--handler", "app.handle")
    assert result.returncode == 64, result.stderr
    assert complaint in result.stderr.decode()
    assert daemon.request("GET", "/v1/functions/hostile").status == 404
    store = daemon.directory / "state" / "code"
    assert not [path for path in store.iterdir() if path.name.startswith(".")]


def test_two_deployments_at_once_both_succeed(daemon):
    source = daemon.directory / "twice"
    source.mkdir()
    (source / "app.py").write_text("def handle(event, context):\n    return 'one of two'\n")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        calls = [
            threads.submit(daemon.fn, "deploy", source, "--name", f"twice-{n}", "--runtime", "python", "--handler", "app.handle")
            for n in range(4)]
        assert [call.result().returncode for call in calls] == [0] * 4
    assert daemon.invoke("twice-3").json == "one of two"


@pytest.mark.parametrize("arguments, code, words", [
    (["invoke"], 64, "Missing expected argument"),
    (["invoke", "failing", "--nonsense"], 64, "Unknown option '--nonsense'"),
    (["deploy", "/no/such/place"], 66, "/no/such/place"),
    (["update", "failing", "--memory", "lots"], 64, "expected a size such as 256MiB, got 'lots'"),
    (["update", "failing", "--timeout", "30"], 64, "expected a duration such as 30s, got '30'"),
    (["update", "failing"], 64, "nothing to change"),
    (["update", "nobody", "--memory", "64MiB"], 66, "no such function: nobody"),
    (["update", "failing", "--memory", "1MiB"], 64, "not between 4MiB"),
    (["describe", "nobody"], 66, "no such function: nobody"),
    (["rm", "--yes", "nobody"], 66, "no such function: nobody"),
    (["logs", "nobody"], 66, "no such function: nobody"),
    (["invoke", "failing", "-d", "@/no/such/file"], 66, "/no/such/file"),
    (["init", "x", "--runtime", "cobol"], 66, "no template for runtime 'cobol'"),
    (["--url", "ftp://x", "ls"], 64, "Unknown option"),
    (["ls", "--url", "ftp://x"], 64, "expected http://HOST:PORT"),
    (["ls", "--url", "http://127.0.0.1:1"], 69, "not reachable"),
])
def test_wrong_words_on_the_command_line(daemon, arguments, code, words):
    result = daemon.fn(*arguments)
    assert (result.returncode, result.stdout) == (code, b""), result.stderr
    assert words in result.stderr.decode()
