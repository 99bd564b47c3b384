# SPDX-License-Identifier: Apache-2.0
import json
import os
import pty
import re
import subprocess

import pytest

from conftest import BIN, EXAMPLES, SCALE


@pytest.fixture(scope="module", autouse=True)
def functions(daemon):
    daemon.deploy("hello-python")
    daemon.deploy("counter")


def test_lists_are_tables_or_json_or_yaml_or_names(daemon):
    table = daemon.fn("ls").stdout.decode().splitlines()
    assert table[0].split() == ["NAME", "RUNTIME", "MEMORY", "CPUS", "TIMEOUT", "SANDBOXES", "REV"]
    assert [line.split()[0] for line in table[1:]] == ["counter", "hello-python"]
    assert [f["name"] for f in json.loads(daemon.fn("ls", "-o", "json").stdout)] == ["counter", "hello-python"]
    assert daemon.fn("ls", "-o", "name").stdout == daemon.fn("ls", "-q").stdout == b"counter\nhello-python\n"
    assert "  name: \"counter\"" in daemon.fn("ls", "-o", "yaml").stdout.decode()


def test_deploying_unchanged_code_stores_it_once(daemon):
    store = daemon.directory / "state" / "code"
    before = sorted(os.listdir(store))
    result = daemon.fn("deploy", EXAMPLES / "counter")
    assert result.returncode == 0
    assert b"unchanged code" in result.stderr
    assert sorted(os.listdir(store)) == before


def test_describe_tells_whose_word_each_limit_is(daemon):
    text = daemon.fn("describe", "counter").stdout.decode()
    assert "memory:       128MiB" in text and "[function]" in text
    assert "cpus:         1" in text and "[default]" in text


def test_doctor_prints_one_line_a_check(daemon):
    result = daemon.fn("doctor")
    checks = [line for line in result.stdout.decode().splitlines() if not line.startswith(" ")]
    names = {line.split("  ", 1)[1].split(":")[0] for line in checks}
    assert {"cgroup v2", "controllers", "delegation", "memory.reclaim", "swap or zram", "seccomp", "socket", "config"} <= names
    has_failures = any(line.startswith("FAIL") for line in checks)
    assert result.returncode == (2 if has_failures else 0)


def test_version_and_completion(daemon):
    assert daemon.fn("version").stdout.startswith(b"fn ")
    for shell in ("bash", "zsh", "fish"):
        assert b"fn" in daemon.fn("completion", shell).stdout


def test_fn_needs_no_dynamic_linker():
    assert b"ld-linux" not in (BIN / "fn").read_bytes()[:8192]


def test_without_a_daemon_the_exit_code_is_69(tmp_path):
    result = subprocess.run(
        [BIN / "fn", "ls"], capture_output=True, env={"FN_SOCKET": str(tmp_path / "none.sock"), "PATH": os.environ["PATH"]})
    assert (result.returncode, result.stdout) == (69, b"")
    assert b"not reachable" in result.stderr


def test_removing_a_function_ends_its_sandboxes(daemon):
    daemon.deploy("hello-python", "--name", "short-lived")
    daemon.invoke("short-lived")
    assert daemon.fn("rm", "--yes", "short-lived").returncode == 0
    assert daemon.invoke("short-lived").status == 404


def test_nothing_is_coloured_when_it_is_not_a_terminal(daemon):
    assert b"\x1b[" not in daemon.fn("doctor").stdout


def test_what_takes_longer_than_a_second_says_so_on_a_terminal_and_leaves_no_line(daemon):
    daemon.deploy_code("slow", {"app.py": "import time\ndef handle(event, context):\n    time.sleep(3)\n    return 1\n"},
                       "python", "app.handle", "--timeout", "60s")
    screen, terminal = pty.openpty()
    waiting = subprocess.Popen([BIN / "fn", "invoke", "slow"], stdout=subprocess.PIPE, stderr=terminal,
                               env={"PATH": os.environ["PATH"], "FN_SOCKET": str(daemon.socket), "TERM": "xterm"})
    os.close(terminal)
    answer = waiting.communicate(timeout=120 * SCALE)[0]
    said = os.read(screen, 1 << 16)
    os.close(screen)
    assert (waiting.returncode, answer) == (0, b"1")
    assert re.search(rb"waiting for slow, \d+ s", said) and said.endswith(b"\r\x1b[K"), said
    assert daemon.fn("invoke", "slow").stderr == b"", "to nobody who is no terminal"


def test_a_result_that_cannot_be_written_is_no_success(daemon):
    with open("/dev/full", "w") as full:
        result = subprocess.run([str(BIN / "fn"), "ls"], stdout=full, stderr=subprocess.PIPE,
                                env={"PATH": os.environ["PATH"], "FN_SOCKET": str(daemon.socket)})
    assert result.returncode == 1 and b"cannot be written: No space left" in result.stderr


@pytest.mark.parametrize("size", ["5", "5KiB", "4.5MiB", "much"])
def test_a_size_for_one_request_is_whole_and_said_with_its_unit(daemon, size):
    result = daemon.fn("invoke", "nobody", "--memory", size)
    assert result.returncode == 64 and f"at least 4MiB, got '{size}'".encode() in result.stderr
