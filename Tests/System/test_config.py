# SPDX-License-Identifier: Apache-2.0
import grp
import http.client
import json
import os
import socket
import subprocess

import jsonschema
import pytest
import yaml

from conftest import BIN, wait_until


def test_check_needs_no_daemon_and_lists_every_problem_with_its_place(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("defaults:\n  memmory: 64MiB\n  timeout: 30 seconds\nhtp: {}\nreclaim: {mode: sometimes}\n")
    result = subprocess.run([BIN / "fn", "config", "check", file], capture_output=True)
    assert result.returncode == 78
    lines = result.stderr.decode().splitlines()
    assert f"{file}:2:3: error: unknown setting 'defaults.memmory'; did you mean 'memory'?" in lines
    assert f"{file}:3:12: error: defaults.timeout: expected a duration such as '30s' or '250ms', got '30 seconds'" in lines
    assert f"{file}:4:1: error: unknown setting 'htp'; did you mean 'http'?" in lines
    assert len(lines) == 4


def test_check_accepts_a_good_file(tmp_path):
    file = tmp_path / "good.yaml"
    file.write_text("defaults: {memory: 64MiB}\n")
    assert subprocess.run([BIN / "fn", "config", "check", file], capture_output=True).returncode == 0


def test_a_daemon_with_a_wrong_file_does_not_start(own_daemon, tmp_path):
    daemon = own_daemon("defaults: {memory: 1kg}\n")
    result = subprocess.run(daemon.command(), capture_output=True, timeout=60)
    assert result.returncode == 78
    assert b"fn.yaml:1:20: error: defaults.memory: expected a size" in result.stderr


def test_a_public_address_without_authentication_is_refused(own_daemon):
    daemon = own_daemon()
    command = daemon.command()
    command[2] = "0.0.0.0:9000"
    result = subprocess.run(command, capture_output=True, timeout=60)
    assert result.returncode == 78
    assert b"not a loopback address" in result.stderr


def test_a_bad_file_changes_nothing_and_a_good_one_everything_at_once(daemon):
    daemon.deploy("hello-python", "--memory", "64MiB")
    daemon.deploy_code("plain", {"app.py": "def handle(event, context):\n    return 1\n"})
    daemon.config.write_text("defaults: {memory: 96MiB, tiemout: 3s}\n")
    wait_until(lambda: "did you mean 'timeout'" in daemon.log, "the refusal in the log")
    assert daemon.describe("plain")["memory"] == 128 << 20
    result = daemon.fn("config", "reload")
    assert (result.returncode, b"did you mean 'timeout'?" in result.stderr) == (78, True)
    daemon.config.write_text("defaults: {memory: 96MiB, timeout: 7s}\nhttp: {max_connections: 500}\n")
    wait_until(lambda: daemon.describe("plain")["memory"] == 96 << 20, "the new default")
    assert daemon.describe("plain")["timeoutMs"] == 7000
    assert daemon.describe("hello-python")["memory"] == 64 << 20, "what was deployed beats the default"
    assert "config reload rev 2: http.max_connections 4096 -> 500 [needs restart]" in daemon.log


def test_show_tells_where_each_value_comes_from(daemon):
    daemon.config.write_text("defaults:\n  memory: 112MiB\n")
    wait_until(lambda: b"defaults.memory: 112MiB" in daemon.fn("config", "show").stdout, "the value")
    shown = daemon.fn("config", "show", "--origin").stdout.decode()
    assert f"defaults.memory: 112MiB  # {daemon.config}:2" in shown
    assert "log.level: debug  # --log-level" in shown
    assert "defaults.memory: 128MiB" in daemon.fn("config", "show", "--defaults").stdout.decode()


def test_diff_tells_what_a_file_would_change_and_changes_nothing(own_daemon):
    daemon = own_daemon("defaults: {memory: 96MiB}\nfunctions:\n  billing: {memory: 64MiB, reclaim: off}\n").start()
    same = daemon.fn("config", "diff")
    assert (same.returncode, same.stdout, same.stderr) == (0, b"", b"Nothing would change.\n")
    file = daemon.directory / "new.yaml"
    file.write_text("http: {max_connections: 500}\nfunctions:\n  billing: {memory: 80MiB}\n  other: {min_warm: 1}\n")
    result = daemon.fn("config", "diff", file)
    assert result.returncode == 2
    assert result.stdout.decode().splitlines() == [
        "defaults.memory: 96MiB -> 128MiB [live]",
        "http.max_connections: 4096 -> 500 [needs-restart]",
        "functions.billing.memory: 64MiB -> 80MiB [live]",
        "functions.billing.reclaim: off -> (none) [live]",
        "functions.other.min_warm: (none) -> 1 [live]",
    ]
    assert daemon.fn("config", "diff", "-", stdin=file.read_bytes()).stdout == result.stdout
    paths = [change["path"] for change in json.loads(daemon.fn("config", "diff", "-o", "json", file).stdout)["changes"]]
    assert daemon.fn("config", "diff", "-q", file).stdout.decode().split() == paths
    assert b"defaults.memory: 96MiB" in daemon.fn("config", "show").stdout
    # What waits for a restart is a difference for as long as it waits.
    daemon.config.write_text("defaults: {memory: 96MiB}\nhttp: {max_connections: 500}\nfunctions:\n  billing: {memory: 64MiB, reclaim: off}\n")
    wait_until(lambda: b"http.max_connections: 500" in daemon.fn("config", "show").stdout, "the file to be read")
    assert daemon.fn("config", "diff").stdout == b"http.max_connections: 4096 -> 500 [needs-restart]\n"


def test_diff_refuses_what_check_would_refuse(daemon):
    bad = daemon.directory / "bad.yaml"
    bad.write_text("defaults: {memmory: 1MiB}\n")
    result = daemon.fn("config", "diff", bad)
    assert (result.returncode, result.stdout) == (78, b"")
    assert f"{bad}:1:12: error: unknown setting 'defaults.memmory'; did you mean 'memory'?" in result.stderr.decode()
    assert daemon.fn("config", "diff", "/no/such.yaml").returncode == 66


def test_reload_says_what_is_applied_and_what_waits(own_daemon):
    daemon = own_daemon("defaults: {memory: 96MiB}\n").start()
    assert daemon.fn("config", "reload").stderr == b"Nothing changed.\n"
    # In one step, so that the watching daemon does not read a half of it first.
    new = daemon.directory / "new.yaml"
    new.write_text("defaults: {memory: 80MiB}\nhttp: {hosts: a.example, max_connections: 500}\n")
    new.rename(daemon.config)
    result = daemon.fn("config", "reload")
    lines = result.stdout.decode().splitlines()
    if lines:  # else the watcher was quicker
        assert "defaults.memory: 96MiB -> 80MiB [applied]" in lines
        assert "http.max_connections: 4096 -> 500 [needs-restart]" in lines
    assert "defaults.memory 96MiB -> 80MiB [applied]" in daemon.log, daemon.log
    assert b"defaults.memory: 80MiB" in daemon.fn("config", "show").stdout


def test_show_knows_overrides_and_needs_no_daemon_for_what_is_built_in(own_daemon):
    daemon = own_daemon("defaults:\n  env: {A: b}\nfunctions:\n  \"x-*\": {memory: 64MiB}\n").start()
    shown = daemon.fn("config", "show", "--origin").stdout.decode()
    assert f"functions.x-*.memory: 64MiB  # {daemon.config}:4" in shown
    assert f"defaults.env.A: b  # {daemon.config}:2" in shown
    daemon.stop()
    built_in = daemon.fn("config", "show", "--defaults", "-o", "json")
    assert {"path": "defaults.memory", "value": "128MiB", "origin": "built-in", "live": True} in json.loads(
        built_in.stdout)["values"]


def test_check_says_which_file_is_not_there(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        result = subprocess.run([BIN / "fn", "config", "check", path], capture_output=True)
        assert (result.returncode, len(result.stderr.splitlines())) == (66, 1)
        assert str(path) in result.stderr.decode()


GOOD = """
version: 1
host: {memory: 80%, memory_reserve: 512MiB, promises: measured}
defaults: {memory: 256MiB, swap: auto, memory_burst: 1GiB, cpus: 1.5, init_cpus: 200%, io_read: max, pids: 64,
           timeout: 2.5s, min_warm: 0, env: {A: 1, B: two, C: true}}
limits: {memory: 10 GiB, payload: 1048576}
functions:
  "thumb-*": {memory: 512MiB, min_warm: 2}
  billing: {memory_low: 64MiB, reclaim: off, timeout: 250ms}
reclaim: {mode: off}
socket: {mode: "0660"}
web: {enabled: false}
"""


@pytest.mark.parametrize("text", [
    "defaults: {memmory: 64MiB}", "defaults: {memory: 64 mega}", "defaults: {timeout: 30}", "defaults: {pids: 3}",
    "defaults: 3", "htp: {}", "functions: {a: {memroy: 1MiB}}", "functions: {a: {reclaim: on}}",
    "reclaim: {mode: sometimes}", "log: {level: loud}", "web: {enabled: 1}", "version: 2", "host: {memory: -1}",
])
def test_the_schema_for_editors_and_the_daemon_refuse_the_same(text, tmp_path, schema):
    file = tmp_path / "fn.yaml"
    file.write_text(text)
    assert subprocess.run([BIN / "fn", "config", "check", file], capture_output=True).returncode == 78
    assert not schema.is_valid(yaml.safe_load(text))


def test_the_schema_for_editors_takes_what_the_daemon_takes(tmp_path, schema):
    file = tmp_path / "fn.yaml"
    file.write_text(GOOD)
    result = subprocess.run([BIN / "fn", "config", "check", file], capture_output=True)
    assert result.returncode == 0, result.stderr
    schema.validate(yaml.safe_load(GOOD))
    built_in = {}
    shown = subprocess.run([BIN / "fn", "config", "show", "--defaults", "-o", "json"], capture_output=True, check=True)
    for value in json.loads(shown.stdout)["values"]:
        *sections, key = value["path"].split(".")
        text, place = value["value"], built_in
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = int(text) if text.isdecimal() else text
    schema.validate(built_in)


@pytest.fixture(scope="module")
def schema():
    printed = subprocess.run([BIN / "fn", "config", "schema"], capture_output=True, check=True)
    document = json.loads(printed.stdout)
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def test_what_waits_for_a_restart_holds_as_it_was_until_then(own_daemon):
    daemon = own_daemon()
    command, moved = daemon.command, daemon.directory / "moved.sock"

    def socket_of_the_file():
        words = command()
        at = words.index("--socket")
        return words[:at] + words[at + 2:]

    daemon.command = socket_of_the_file
    daemon.config.write_text(f"socket: {{path: {daemon.socket}}}\n")
    daemon.start()
    daemon.config.write_text(f"http: {{max_header: 4KiB}}\nsocket: {{path: {moved}}}\n")
    assert daemon.fn("config", "reload").returncode == 0
    waiting = daemon.fn("config", "diff")
    assert (waiting.returncode, len(waiting.stdout.splitlines())) == (2, 2)
    assert daemon.request("GET", "/healthz", headers={"X-Long": "x" * 6000}).status == 200
    moved.write_text("somebody else's")
    daemon.stop()
    assert moved.read_text() == "somebody else's" and not daemon.socket.exists()


@pytest.mark.parametrize("text", [
    "reclaim: {step: 0%}", "reclaim: {step: 101%}", "reclaim: {grow_step: 2000%}", "reclaim: {grow_step: 0%}",
    "reclaim: {backoff: 100.5%}", "host: {cpus: 200%}", "host: {overcommit: 0.5}",
])
def test_a_number_out_of_its_range_is_refused_by_the_schema_too(text, tmp_path, schema):
    test_the_schema_for_editors_and_the_daemon_refuse_the_same(text, tmp_path, schema)


@pytest.mark.parametrize("text", [
    "reclaim: {step: 1%, backoff: 99.5%, floor: 16MiB, grow_step: 1000%, grow_headroom: 10.5%, refaults: 100/s}",
    "reclaim: {backoff: 100%, target: 0.1%, host_pressure: {some: 0%, full: 100.0%}}",
    "host: {cpus: 75%, overcommit: 4}", "host: {cpus: 0.5}", "pools: {prewarm: {python: 1}}", "pools: {prewarm: 0}",
])
def test_numbers_within_their_ranges_are_taken_by_both(text, tmp_path, schema):
    file = tmp_path / "fn.yaml"
    file.write_text(text)
    assert subprocess.run([BIN / "fn", "config", "check", file], capture_output=True).returncode == 0
    schema.validate(yaml.safe_load(text))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_metrics_have_a_port_of_their_own_where_the_operator_wants_it(own_daemon):
    port = free_port()
    daemon = own_daemon(f"metrics: {{listen: '127.0.0.1:{port}'}}\n").start()

    def at_own_port(path):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    status, text = at_own_port("/metrics")
    assert status == 200 and "fn_build_info" in text
    assert at_own_port("/healthz")[0] == 200
    for path in ("/", "/v1/sandboxes", "/invoke/nobody", "/2015-03-31/functions/", "/url/nobody"):
        assert at_own_port(path)[0] == 404, path
    there = daemon.request("GET", "/metrics")
    assert there.status == 404 and f"127.0.0.1:{port}" in there.json["error"]["message"]
    # Who may reach the socket may see everything there.
    assert daemon.fn("ls").returncode == 0
    daemon.stop()
    with pytest.raises(ConnectionRefusedError):
        at_own_port("/healthz")


def test_the_socket_is_the_operators_groups(own_daemon):
    group = next(each for each in grp.getgrall() if each.gr_gid)
    daemon = own_daemon(f"socket: {{group: {group.gr_name}}}\n").start()
    found = daemon.socket.stat()
    assert (found.st_gid, found.st_uid, found.st_mode & 0o777) == (group.gr_gid, os.geteuid(), 0o660)
    daemon.stop()
    daemon.config.write_text("socket: {group: nobody-is-in-it}\n")
    result = subprocess.run(daemon.command(), env=daemon.environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 78
    assert "socket.group: error: there is no group 'nobody-is-in-it' on this host: make it (groupadd)" in result.stderr


def test_a_file_that_has_gone_lifts_no_limit(own_daemon):
    daemon = own_daemon("limits: {memory: 300MiB}\n").start()
    daemon.config.unlink()
    result = daemon.fn("config", "reload")
    assert result.returncode == 78 and b"cannot be read" in result.stderr, result
    shown = {each["path"]: each["value"] for each in daemon.request("GET", "/v1/config").json["values"]}
    assert shown["limits.memory"] == "300MiB"
    daemon.config.write_text("limits: {memory: 400MiB}\n")
    assert daemon.fn("config", "reload").returncode == 0


def test_check_says_when_there_is_no_file(tmp_path):
    nowhere = tmp_path / "nowhere.yaml"
    named = subprocess.run([BIN / "fn", "config", "check"], capture_output=True, text=True, env={"FN_CONFIG": str(nowhere)})
    assert named.returncode == 78 and "cannot be read" in named.stderr
    if not os.path.exists("/etc/fn/fn.yaml"):
        unnamed = subprocess.run([BIN / "fn", "config", "check"], capture_output=True, text=True, env={})
        assert (unnamed.returncode, unnamed.stdout.split(",")[0]) == (0, "/etc/fn/fn.yaml: not there")


def test_what_is_said_of_one_function_is_added_to_what_is_said_of_its_like(own_daemon):
    daemon = own_daemon("functions:\n  'a*': {timeout: 9s, pids: 40, memory_burst: 512MiB, reclaim: off}\n"
                        "  ab: {memory: 64MiB, memory_high: 48MiB}\n").start()
    daemon.deploy_code("ab", {"app.py": "def handle(event, context):\n    return 1\n"})
    lines = daemon.fn("describe", "ab").stdout.decode().splitlines()
    found = {line.split(":")[0]: line.split(":", 1)[1].split()[0] for line in lines}
    assert (found["timeout"], found["pids"], found["reclaim"]) == ("9s", "40", "off")
    assert (found["memory burst"], found["memory high"]) == ("512MiB", "48MiB")


def test_a_runtime_that_cannot_be_started_ahead_is_told_of(own_daemon):
    daemon = own_daemon("pools: {prewarm: {pyton: 1}}\n", prewarm=True).start()
    assert "no runtime 'pyton' can be started ahead" in daemon.log and "did you mean 'python'?" in daemon.log


def check(file):
    return subprocess.run([BIN / "fn", "config", "check", file], capture_output=True)


def test_a_file_is_read_to_its_end_or_not_at_all(own_daemon, tmp_path):
    long = tmp_path / "fn.yaml"
    long.write_text("# a comment\n" * 10_000 + "limits: {timeout: 7s}\ndefaults: {memory: nonsense}\n")
    result = check(long)
    assert result.returncode == 78 and b"10002:" in result.stderr, result.stderr
    long.write_text("# a comment\n" * 100_000)
    result = check(long)
    assert result.returncode == 78 and b"is larger than 1 MiB" in result.stderr


def test_aliases_that_stand_for_too_much_are_refused_and_hold_nobody_up(daemon):
    text = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)) + "? *a39\n: 1\n? *a39\n: 2\n"
    result = daemon.fn("config", "diff", "-", stdin=text.encode())
    assert result.returncode == 78 and b"too many aliases" in result.stderr, result.stderr


def test_a_socket_where_somebody_listens_is_not_taken(daemon, own_daemon):
    other = own_daemon().start()
    other.stop()
    other.socket, own = daemon.socket, other.socket
    result = subprocess.run(other.command(), capture_output=True, timeout=60)
    assert result.returncode == 1 and b"somebody listens at" in result.stderr, result.stderr
    assert daemon.fn("ls").returncode == 0
    other.socket = own
