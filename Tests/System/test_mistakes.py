# SPDX-License-Identifier: Apache-2.0
"""Whatever a person could plausibly type wrong gets one line that says what is wrong, and the right exit code."""
import contextlib
import http.server
import json
import os
import pathlib
import socket
import subprocess
import threading

import pytest

from conftest import BIN, SCALE

CODE = "def handle(event, context):\n    if event.get('fail'): raise ValueError('no')\n    return event\n"


@pytest.fixture(scope="module", autouse=True)
def functions(daemon):
    daemon.deploy_code("echo", {"app.py": CODE})
    (daemon.directory / "empty").mkdir()
    (daemon.directory / "bare").mkdir()
    (daemon.directory / "bare" / "app.py").write_text(CODE)
    (daemon.directory / "notes.txt").write_text("no archive\n")
    (daemon.directory / "secret.json").write_text("{}")
    for name, text in {
        "typo": "nmae: x\n", "wrong": "name: typo\nruntime: python\nhandler: app.handle\nmemory: lots\n",
        "broken": "name: [\n", "cobol": "name: old\nruntime: cobol\nhandler: a.b\n",
        "ported": "name: ported\nruntime: python\nhandler: app.handle\nhttp_port: 8080\n",
        "low-port": "name: low\nruntime: http\nhttp_port: 80\n",
    }.items():
        (daemon.directory / name).mkdir()
        (daemon.directory / name / "function.yaml").write_text(text)
        (daemon.directory / name / "app.py").write_text(CODE)


def run(daemon, arguments, **env):
    return daemon.fn(*arguments, env=env)


@pytest.mark.parametrize("arguments, code, words", [
    # Verbs and flags.
    (["invok", "echo"], 64, "did you mean 'invoke'?"),
    (["frobnicate"], 64, "'frobnicate'"),
    (["ls", "--ouptut", "json"], 64, "Unknown option '--ouptut'"),
    (["ls", "-o", "xml"], 64, "'xml'"),
    (["ls", "surplus"], 64, "surplus"),
    (["invoke"], 64, "Missing expected argument '<name>' (see 'fn invoke --help')"),
    (["invoke", "echo", "-d"], 64, "Missing value for '-d"),
    (["logs", "echo", "--tail", "few"], 64, "few"),
    (["completion", "tcsh"], 64, "tcsh"),
    (["queue", "ls", "--state", "lost"], 64, "lost"),
    (["config", "shwo"], 64, "shwo"),
    (["config", "show", "--orign"], 64, "Unknown option '--orign'. Did you mean '--origin'?"),
    (["config", "check", "a.yaml", "b.yaml"], 64, "Unexpected argument 'b.yaml'"),
    (["Invoke", "echo"], 64, "did you mean 'invoke'?"),
    (["schedules"], 64, "did you mean 'schedule'?"),
    (["completion"], 64, "Missing expected argument '<shell>'"),
    (["init", "x"], 64, "Missing expected argument '--runtime <runtime>'"),
    (["rm"], 64, "Missing expected argument '<name>'"),
    (["top", "--interval", "5"], 64, "Unknown option '--interval'"),
    (["mem", "surplus"], 64, "surplus"),
    (["doctor", "surplus"], 64, "surplus"),
    (["invoke", "echo", "--log", "all"], 64, "Please provide one of 'none' and 'tail'"),
    (["queue", "show"], 64, "Missing expected argument '<id>'"),
    (["simulate"], 64, "--memory"),
    (["simulate", "--generate", "--memory", "lots"], 64, "--memory: expected a size such as 8GiB"),
    (["simulate", "--memory", "1GiB"], 64, "name a trace with --trace FILE"),
    (["simulate", "--trace", "gone.csv", "--memory", "1GiB"], 66, "gone.csv: No such file or directory"),
    # Names.
    (["invoke", "ecko"], 66, "no such function: ecko; did you mean 'echo'?"),
    (["invoke", ""], 64, "the function's name is empty"),
    (["invoke", "echo:99"], 66, "no such function: echo:99; did you mean 'echo'?"),
    (["invoke", "../echo"], 66, "no such function: ../echo"),
    (["queue", "retry", "ecko"], 66, "no such event: ecko"),
    (["dev", "gone"], 66, "gone is no directory"),
    (["dev", "notes.txt"], 66, "notes.txt is no directory"),
    (["describe", "nobody-knows"], 66, "no such function: nobody-knows; fn ls lists them"),
    (["size", "ecko"], 66, "did you mean 'echo'?"),
    (["logs", "ecko"], 66, "did you mean 'echo'?"),
    (["update", "ecko", "--memory", "64MiB"], 66, "did you mean 'echo'?"),
    (["rm", "--yes", "ecko"], 66, "did you mean 'echo'?"),
    (["why", "ecko"], 66, "nothing is known of 'ecko'"),
    (["queue", "show", "ecko"], 66, "no such event: ecko"),
    (["init", "a b", "--runtime", "python"], 64, "'a b' is no function name"),
    (["init", "../up", "--runtime", "python"], 64, "'../up' is no function name"),
    (["init", "empty", "--runtime", "python"], 1, "File exists"),
    (["init", "new", "--runtime", "pyhton"], 66, "no template for runtime 'pyhton'; there are: command, http, node, provided, python"),
    # Values.
    (["invoke", "echo", "-d", "{oops"], 64, "json"),
    (["invoke", "echo", "--memory", "big"], 64, "--memory: expected a size in whole MiB such as 512MiB, at least 4MiB, got 'big'"),
    (["invoke", "echo", "--memory", "0"], 64, "--memory: expected a size in whole MiB such as 512MiB, at least 4MiB, got '0'"),
    (["invoke", "echo", "--memory", "999GiB"], 64, "above the operator's limit"),
    (["invoke", "echo", "--timeout", "30"], 64, "--timeout: expected a duration such as 30s, got '30'"),
    (["invoke", "echo", "--timeout", "0s"], 64, "--timeout: expected a duration such as 30s, got '0s'"),
    (["invoke", "echo", "--timeout", "1h"], 64, "--timeout: 1h is above the operator's limit of 15m"),
    (["invoke", "echo", "-d", "@"], 64, "--data: expected text, @FILE or -, got '@'"),
    (["update", "echo", "--memory", "256"], 64, "memory: 256B is not between 4MiB and the operator's limit of 10GiB"),
    (["update", "echo", "--memory", "256 apples"], 64, "--memory: expected a size such as 256MiB, got '256 apples'"),
    (["update", "echo", "--cpus", "0"], 64, "cpus: 0 is not between 0.01 and"),
    (["update", "echo", "--cpus", "99"], 64, "cpus: 99 is not between 0.01 and the operator's limit of 16"),
    (["update", "echo", "--timeout", "99h"], 64, "timeout: 99h is not between 1ms and the operator's limit of 15m"),
    (["update", "echo", "--concurrency", "x"], 64, "The value 'x' is invalid for '--concurrency"),
    (["update", "echo", "--tmp", "0"], 64, "tmp: 0 bytes are less than 1MiB"),
    (["update", "echo", "--network", "host"], 64, "--network: expected none or egress, got 'host'"),
    (["update", "echo", "--per-sandbox", "0"], 64, "per_sandbox: expected a whole number from 1 to 64, got 0"),
    (["update", "echo", "--env", "=x"], 64, "--env: expected NAME=VALUE, got '=x'"),
    (["update", "echo", "--env", "novalue"], 64, "--env: expected NAME=VALUE, got 'novalue'"),
    (["update", "echo", "--cpus", "many"], 64, "--cpus: expected a number of cores such as 0.5, got 'many'"),
    (["update", "echo", "--memory", "999GiB"], 64, "memory"),
    (["update", "echo", "--concurrency=-1"], 64, "concurrency: -1 is not between 0 and"),
    (["update", "echo", "--min-warm=-1"], 64, "min_warm: -1 is not between 0 and"),
    (["update", "echo", "--min-warm", "-1"], 64, "min-warm"),
    (["logs", "echo", "--since", "10"], 64, "since: expected a duration such as '10m', got '10'"),
    # Files.
    (["invoke", "echo", "-d", "@empty"], 66, "empty is a directory: name a file"),
    (["invoke", "echo", "-d", "@gone.json"], 66, "gone.json: No such file or directory"),
    (["deploy", "gone"], 66, "gone: No such file or directory"),
    (["deploy", "empty"], 64, "empty holds no files"),
    (["deploy", "notes.txt", "--name", "x", "--runtime", "python", "--handler", "a.b"], 64, "Could not unzip"),
    (["deploy", "empty", "--name", "x", "--runtime", "pythn", "--handler", "a.b"], 64, "empty holds no files"),
    (["deploy", "bare", "--name", "x", "--runtime", "pythn", "--handler", "a.b"], 64, "pythn"),
    (["deploy", "bare", "--name", "x"], 64, "the function needs a runtime: --runtime RUNTIME"),
    (["deploy", "/dev/null", "--name", "x", "--runtime", "python", "--handler", "a.b"], 64, "Could not unzip"),
    (["deploy", "typo"], 64, "function.yaml:1:1: error: unknown key 'nmae'; did you mean 'name'?"),
    (["deploy", "wrong"], 64, "memory: expected"),
    (["deploy", "broken"], 64, "function.yaml:2:1: error: did not find"),
    (["deploy", "cobol"], 64, "cobol"),
    # Container images.
    (["deploy", "--image", "gone.tar", "--name", "x"], 66, "gone.tar: No such file or directory"),
    (["deploy", "--image", "empty", "--name", "x"], 64, "empty is no OCI layout: it has no oci-layout or no index.json"),
    (["deploy", "--image", "notes.txt", "--name", "x"], 64, "the image is refused: an archive in it cannot be read"),
    (["deploy", "--image", "notes.txt"], 64, "an image says no name for its function: --name NAME"),
    (["deploy", "--image", "notes.txt", "--name", "a b"], 64, "'a b' is no function name"),
    (["deploy", "--image", "notes.txt", "--name", "x", "--runtime", "python"], 64, "an image has no runtime and no handler"),
    (["deploy", "--image", "notes.txt", "empty", "--name", "x"], 64, "an image and a directory cannot be one function"),
    (["deploy", "--image", "notes.txt", "--name", "x", "--port", "web"], 64, "web"),
    (["deploy", "--image", "notes.txt", "--name", "x", "--memory", "big"], 64, "--memory: expected a size"),
    (["deploy", "empty", "--name", "x", "--port", "8080"], 64, "name it with --image"),
    (["deploy", "ported"], 64, "http_port: runtime python serves no HTTP: use runtime http"),
    (["deploy", "low-port"], 64, "port 80: expected one from 1024 to 65535, and not 9001"),
    (["config", "check", "gone.yaml"], 66, "gone.yaml: No such file or directory"),
    (["config", "check", "empty"], 66, "empty is a directory"),
    (["config", "check", "wrong/function.yaml"], 78, "unknown setting 'name'"),
    (["config", "diff", "gone.yaml"], 66, "gone.yaml"),
    # Where the daemon is.
    (["ls", "--url", "127.0.0.1:9000"], 64, "--url: expected http://HOST:PORT, got '127.0.0.1:9000'"),
    (["ls", "--url", "unix:///run/fn.sock"], 64, "--url: expected http://HOST:PORT, got 'unix:///run/fn.sock'"),
    (["ls", "--url", "http://"], 64, "--url: expected http://HOST:PORT"),
    (["ls", "--url", "http://127.0.0.1:0"], 64, "'0' is no port: expected 1 to 65535"),
    (["ls", "--url", "https://127.0.0.1:9000"], 64, "asks for TLS"),
    (["ls", "--url", "http://127.0.0.1:99999"], 64, "'99999' is no port"),
    (["ls", "--url", "http://me:secret@127.0.0.1"], 64, "expected no user"),
    (["ls", "--url", "http://127.0.0.1:1"], 69, "not reachable at http://127.0.0.1:1"),
    (["ls", "--url", "http://[::1]:1"], 69, "not reachable at http://[::1]:1"),
    (["ls", "--url", "http://no.such.host.example:9000"], 69, "'no.such.host.example' is not in /etc/hosts"),
])
def test_one_line_and_the_right_exit_code(daemon, arguments, code, words):
    result = run(daemon, arguments)
    said = result.stderr.decode()
    assert (result.returncode, result.stdout) == (code, b""), said
    assert words in said
    if code != 78:
        assert len(said.splitlines()) == 1, said


@pytest.mark.parametrize("environment, code, words", [
    ({"FN_OUTPUT": "xml"}, 64, "FN_OUTPUT: expected table, json, yaml or name, got 'xml'"),
    ({"FN_TIMEOUT": "soon"}, 64, "FN_TIMEOUT: expected a duration such as 10s, got 'soon'"),
    ({"FN_URL": "localhost"}, 64, "FN_URL: expected http://HOST:PORT, got 'localhost'"),
    ({"FN_SOCKET": "/no/such.sock"}, 69, "not reachable at /no/such.sock: No such file or directory. Start it with `fnd`"),
    ({"FN_SOCKET": "/etc/passwd"}, 69, "not reachable at /etc/passwd"),
    ({"FN_SOCKET": "/" + "x" * 200}, 69, "too long"),
    ({"FN_SOCKET": "/tmp"}, 69, "not reachable at /tmp"),
    ({"FN_TOKEN": "a b"}, 64, "FN_TOKEN: a token has no spaces"),
])
def test_what_the_environment_says_wrong_is_told_by_its_name(daemon, environment, code, words):
    result = run(daemon, ["ls"], **environment)
    assert (result.returncode, result.stdout) == (code, b"")
    assert words in result.stderr.decode() and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("text, words", [
    (b"q\xef[\x01\x02", ": error: this is no text: "),
    (b"\t defaults: 1\n", ":1:1: error: found character that cannot start any token"),
    (b"[1, 2]", ":1:1: error: 'the file' must be a section with settings in it"),
    (b"defaults: {memory: 64MiB", "error: did not find expected ',' or '}'"),
    (b"defaults: {memory: 64MiB}\ndefaults: {timeout: 3s}", ":1:1: error: the key 'defaults' stands here twice"),
    (b"memory: 1GiB", "unknown setting 'memory'; did you mean 'host.memory', 'defaults.memory' or 'limits.memory'?"),
    (b"defaults: {evict_after: 1m}", "unknown setting 'defaults.evict_after'; did you mean 'pools.evict_after'?"),
    (b"defaults: {memory: null}", "defaults.memory: expected a size such as '256MiB', at least 4MiB, got 'null'"),
    (b"defaults: {timeout: 30sec}", "defaults.timeout: expected a duration such as '30s' or '250ms', got '30sec'"),
    (b"defaults: {pids: 1e3}", "defaults.pids: expected a whole number from 4 to 65536, got '1e3'"),
    (b"defaults: {cpus: 150}", "defaults.cpus: 150 is above limits.cpus, 16"),
    (b"defaults: {network: host}", "defaults.network: expected one of none, egress, got 'host'"),
    (b"defaults: {env: {A: {b: c}}}", "'defaults.env' must map names to single values"),
    (b"defaults: {env: {A=B: c}}", "defaults.env: 'A=B' is no name of a variable"),
    (b"functions: {a: 3}", "'functions.a' must be a section with settings in it"),
    (b"functions: {'a*b': {memory: 1GiB}}", "functions: 'a*b' matches no function"),
    (b"functions: {a b: {memory: 1GiB}}", "functions: 'a b' matches no function"),
    (b"functions: {a: {tmp: 1KiB}}", "functions.a.tmp: expected a size such as '256MiB', at least 1MiB, got '1KiB'"),
    (b"host: {memory: 120%}", "host.memory: expected a size such as '8GiB' or a share"),
    (b"limits: {memory: 0}", "limits.memory: expected a size such as '256MiB', at least 4MiB, got '0'"),
    (b"limits: {concurrency: 50}", "defaults.concurrency: 100 is above limits.concurrency, 50"),
    (b"reclaim: {mode: on}", "reclaim.mode: expected one of auto, observe, off, got 'on'"),
    (b"reclaim: {step: 5}", "reclaim.step: expected a share such as '25%', from 1% to 100%, got '5'"),
    (b"reclaim: {refaults: 100}", "reclaim.refaults: expected a rate such as '4000/s', got '100'"),
    (b"reclaim: {floor: 1GiB}", "reclaim.floor: 1GiB is above defaults.memory, 128MiB"),
    (b"reclaim: {host_pressure: 10%}", "'reclaim.host_pressure' must be a section with settings in it"),
    (b"defaults: {backoff: [1s, soon]}", "defaults.backoff: expected durations such as '1s, 10s, 60s', got '1s,soon'"),
    (b"host: {cpus: 101%}", "host.cpus: expected a number of cores such as '3.5', or a share of the machine's"),
    (b"host: {overcommit: 0.5}", "host.overcommit: expected a number such as '4.0', at least 1, got '0.5'"),
    (b"pools: {prewarm: {python: -1}}", "pools.prewarm: expected a whole number from 0 to 1000, or one for each"),
    (b"storage: {keep_versions: 0}", "storage.keep_versions: expected a whole number from 1 to 100000, or all, got '0'"),
    (b"metrics: {listen: '0.0.0.0:9100'}", "metrics.listen: 0.0.0.0:9100 is not a loopback address: set auth.mode"),
    (b"http: {tls.cert: a}", "'http.tls.cert' is a setting within a section: write http: {tls: {cert: "),
    (b"web: {enabled: yes}", "web.enabled: expected true or false, got 'yes'"),
    (b"log: {level: verbose}", "log.level: expected one of trace, debug, info, notice, warning, error, got 'verbose'"),
    (b"http: {listen: 9000}", "http.listen: expected an address such as '127.0.0.1:9000', got '9000'"),
    (b"http: {listen: 'localhost:http'}", "http.listen: expected an address"),
    (b"socket: {mode: 660}", "socket.mode: expected file permissions such as '0660', got '660'"),
    (b"network: {subnet: 10.0.0.0}", "network.subnet: expected a block of IPv4 addresses"),
    (b"tracing: {otlp: 'localhost:4318'}", "tracing.otlp: expected an address such as 'http://127.0.0.1:4318', or none"),
    (b"tracing: {sample: 0.5}", "tracing.sample: expected a share such as '1%', from 0% to 100%, got '0.5'"),
])
def test_a_wrong_configuration_is_one_line_with_its_place(daemon, text, words):
    file = daemon.directory / "wrong.yaml"
    file.write_bytes(text)
    result = daemon.fn("config", "check", file)
    said = result.stderr.decode()
    assert (result.returncode, result.stdout, len(said.splitlines())) == (78, b"", 1), said
    assert said.startswith(f"{file}:") and words in said


@pytest.mark.parametrize("arguments, env, code, words", [
    (["--lisen", "127.0.0.1:9"], {}, 64, "fnd: Unknown option '--lisen'. Did you mean '--listen'? (see 'fnd serve --help')"),
    (["--listen"], {}, 64, "fnd: Missing value for '--listen <listen>'"),
    (["surplus"], {}, 64, "fnd: Unexpected argument 'surplus'"),
    (["--listen", "9000"], {}, 78, "--listen: error: http.listen: expected an address such as '127.0.0.1:9000', got '9000'"),
    (["--log-level", "loud"], {}, 78, "--log-level: error: log.level: expected one of"),
    (["--config", "/no/such.yaml"], {}, 78, "/no/such.yaml: error: cannot be read: open /no/such.yaml: No such file"),
    (["--cgroup-root", "/no/such"], {}, 1, "fnd: "),
    (["--state", "/dev/null/x"], {}, 1, "fnd: the state directory /dev/null/x cannot be written"),
    ([], {"FN_DEFAULTS_MEMORY": "lots"}, 78, "FN_DEFAULTS_MEMORY: error: defaults.memory: expected a size"),
    ([], {"FN_DEFAULTS_MEMMORY": "1GiB"}, 78, "FN_DEFAULTS_MEMMORY: error: unknown setting; did you mean 'FN_DEFAULTS_MEMORY'?"),
])
def test_the_daemon_says_in_one_line_why_it_does_not_start(tmp_path, arguments, env, code, words):
    config = tmp_path / "fn.yaml"
    config.write_text(f"storage: {{state: {tmp_path}/state}}\n")
    result = subprocess.run([BIN / "fnd", *arguments], capture_output=True, timeout=60 * SCALE,
                            env={"PATH": os.environ["PATH"], "FN_CONFIG": str(config), **env})
    said = result.stderr.decode()
    assert (result.returncode, result.stdout, len(said.splitlines())) == (code, b"", 1), said
    assert words in said


def test_the_environment_sets_the_form_of_lists_and_flags_win(daemon):
    assert json.loads(run(daemon, ["ls"], FN_OUTPUT="json").stdout)[0]["name"] == "echo"
    assert run(daemon, ["ls", "-o", "name"], FN_OUTPUT="json").stdout == b"echo\n"


@pytest.mark.parametrize("verb", [
    ["ls"], ["describe", "echo"], ["sandboxes"], ["mem"], ["top"], ["size"], ["size", "echo"], ["why", "echo"],
    ["queue", "ls"], ["config", "show"], ["config", "show", "--defaults"], ["config", "diff"], ["config", "reload"],
    ["doctor"]], ids=" ".join)
def test_every_list_has_json_yaml_and_names(daemon, verb):
    daemon.invoke("echo")
    json.loads(daemon.fn(*verb, "-o", "json").stdout)
    assert daemon.fn(*verb, "-o", "yaml").returncode in (0, 2)
    names, quiet = daemon.fn(*verb, "-o", "name"), daemon.fn(*verb, "-q")
    assert b" " not in quiet.stdout or verb == ["doctor"]
    if verb[0] not in ("why", "top", "sandboxes", "mem"):
        assert names.stdout == quiet.stdout


def test_the_daemon_is_found_by_address_name_and_socket(daemon):
    for url in (f"http://127.0.0.1:{daemon.port}", f"http://localhost:{daemon.port}/"):
        assert daemon.fn("ls", "-q", "--url", url).stdout == b"echo\n"
        assert daemon.fn("ls", "-q", env={"FN_URL": url}).stdout == b"echo\n"


def test_a_function_that_raises_is_exit_100_with_its_document_on_stdout(daemon):
    result = daemon.fn("invoke", "echo", "-d", '{"fail": true}')
    assert result.returncode == 100
    assert json.loads(result.stdout)["errorType"] == "ValueError"
    assert result.stderr.startswith(b"fn: echo failed (")


@contextlib.contextmanager
def server(status, body=b"", **headers):
    """Something that answers every request with the same."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


def ours(code, message):
    return json.dumps({"error": {"code": code, "message": message}}).encode()


@pytest.mark.parametrize("status, body, headers, code", [
    (502, b'{"errorType": "E"}', {"X_Fn_Error": "Unhandled"}, 100),
    (504, b'{"errorType": "E"}', {"X_Fn_Error": "Unhandled"}, 124),
    (507, b'{"errorType": "E"}', {"X_Fn_Error": "Unhandled"}, 137),
    (502, b"<html>Bad Gateway</html>", {}, 69),
    (503, b"no server is available", {}, 69),
    (504, b"", {}, 69),
    (507, b"disk full", {}, 1),
    (429, ours("Throttled", "no room"), {"Retry_After": "1"}, 75),
    (400, ours("InvalidPayload", "no JSON"), {}, 64),
    (401, ours("Unauthorized", "who are you?"), {}, 77),
    (403, b"Forbidden", {}, 77),
    (404, b"<html>Not Found</html>", {}, 1),
    (413, ours("PayloadTooLarge", "too large"), {}, 1),
    (500, ours("Storage", "disk"), {}, 1),
    (503, ours("ShuttingDown", "the daemon is stopping"), {}, 1),
])
def test_each_answer_has_its_exit_code_and_only_the_daemons_own_are_taken_for_its(daemon, status, body, headers, code):
    with server(status, body, **headers) as url:
        result = daemon.fn("invoke", "x", "--url", url)
    assert result.returncode == code, result.stderr
    assert (result.stdout != b"") == (code in (100, 124, 137))
    assert len(result.stderr.splitlines()) == 1


def test_a_server_that_is_no_fnd_is_said_to_be_none(daemon):
    with server(200, b"<html>hello</html>") as url:
        result = daemon.fn("ls", "--url", url)
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"what answers is no fnd of this version" in result.stderr


def test_a_daemon_that_hangs_is_given_up_and_one_that_takes_its_time_is_not(daemon, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(8)
        result = daemon.fn("ls", env={"FN_SOCKET": str(tmp_path / "s"), "FN_TIMEOUT": "200ms"})
    assert (result.returncode, result.stdout) == (69, b"")
    assert b"does not answer: it may hang" in result.stderr
    daemon.deploy_code("slow", {"app.py": "import time\ndef handle(e, c):\n    time.sleep(2)\n    return 1\n"},
                       "python", "app.handle", "--timeout", "60s")
    patient = f"{int(500 * SCALE)}ms"
    assert daemon.fn("invoke", "slow", env={"FN_TIMEOUT": patient}).stdout == b"1"


def test_new_functions_of_every_runtime_run_as_they_are(daemon):
    runtimes = sorted(path.parent.name for path in pathlib.Path(os.environ["EBB_RUNTIMES"]).glob("*/template"))
    assert {"python", "node", "provided", "command", "http"} <= set(runtimes)
    for runtime in runtimes:
        assert daemon.fn("init", f"new-{runtime}", "--runtime", runtime).returncode == 0
        assert daemon.fn("deploy", f"new-{runtime}").returncode == 0
        result = daemon.fn("invoke", f"new-{runtime}", "-d", '{"name": "you"}')
        assert result.returncode == 0, (runtime, result.stderr)
        json.loads(result.stdout)


def test_bash_completes_verbs_flags_and_names_of_functions(daemon):
    script = daemon.fn("completion", "bash").stdout
    (daemon.directory / "fn.bash").write_bytes(script)

    def complete(*words):
        body = 'source fn.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; ' \
            'COMP_TYPE=9; complete -p fn >/dev/null && _fn "$1" "${@: -1}" "${@: -2:1}"; printf "%s\\n" "${COMPREPLY[@]}"'
        result = subprocess.run(
            ["bash", "--norc", "-c", body, "bash", *words], capture_output=True, cwd=daemon.directory,
            env={"PATH": f"{BIN}:{os.environ['PATH']}", "FN_SOCKET": str(daemon.socket),
                 "FN_RUNTIMES": os.environ["EBB_RUNTIMES"]}, timeout=60 * SCALE)
        return result.stdout.decode().split()

    assert "invoke" in complete("fn", "inv")
    assert {"top", "config", "deploy"} <= set(complete("fn", ""))
    assert "--memory" in complete("fn", "update", "--mem")
    assert "--image" in complete("fn", "deploy", "--im")
    assert "echo" in complete("fn", "describe", "ec")
    assert "python" in complete("fn", "init", "x", "--runtime", "py")


def test_completion_of_other_shells_begins_as_they_want(daemon):
    assert daemon.fn("completion", "zsh").stdout.startswith(b"#compdef fn\n")
    assert b"complete -c 'fn'" in daemon.fn("completion", "fish").stdout


def test_version_tells_both_programs_and_does_without_the_daemon(daemon):
    lines = daemon.fn("version").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["fn", "fnd"]
    alone = daemon.fn("version", env={"FN_SOCKET": "/no/such.sock"})
    assert (alone.returncode, len(alone.stdout.splitlines())) == (0, 1)


def test_size_waits_for_enough_calls(daemon):
    text = daemon.fn("size", "echo").stdout.decode()
    assert "advice:    not enough calls yet: " in text and " of 20" in text
    table = daemon.fn("size").stdout.decode().splitlines()
    assert table[0].split() == ["FUNCTION", "CALLS", "P50", "P99", "HIGHEST", "MEMORY", "SAVES", "ADVICE"]
    assert any(line.startswith("echo ") for line in table[1:])


def test_size_says_what_to_set_and_that_works(daemon, limits):
    daemon.deploy_code("roomy", {"app.py": CODE}, "python", "app.handle", "--memory", "512MiB")
    for _ in range(24):
        assert daemon.invoke("roomy").status == 200
    view = json.loads(daemon.fn("size", "roomy", "-o", "json").stdout)
    assert view["verdict"] == "lower"
    assert view["peakP50"] <= view["peakP99"] <= view["peakHighest"] < view["suggestion"] < 512 << 20
    assert view["saving"] == (512 << 20) - view["suggestion"]
    advice = next(line for line in daemon.fn("size", "roomy").stdout.decode().splitlines() if line.startswith("advice:"))
    command = advice.split("advice:")[1].split(";")[0].split()
    assert daemon.fn(*command[1:]).returncode == 0
    assert daemon.describe("roomy")["memory"] == view["suggestion"]
    assert daemon.invoke("roomy").status == 200


def test_a_value_that_a_program_would_see_cut_off_is_refused(daemon):
    body = json.dumps({"env": {"WORD": "one\0two"}}).encode()
    refused = daemon.request("PATCH", "/v1/functions/echo", body, {"Content-Type": "application/json"})
    assert refused.status == 400 and b"'WORD' holds a NUL character" in refused.body, refused.body
