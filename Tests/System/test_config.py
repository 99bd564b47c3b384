# SPDX-License-Identifier: Apache-2.0
import subprocess

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
    daemon.config.write_text("defaults: {memory: 96MiB, timeout: 7s, pids: 99}\n")
    wait_until(lambda: daemon.describe("plain")["memory"] == 96 << 20, "the new default")
    assert daemon.describe("plain")["timeoutMs"] == 7000
    assert daemon.describe("hello-python")["memory"] == 64 << 20, "what was deployed beats the default"
    assert "config reload rev 2: defaults.pids 128 -> 99 [needs restart]" in daemon.log


def test_show_tells_where_each_value_comes_from(daemon):
    daemon.config.write_text("defaults:\n  memory: 112MiB\n")
    wait_until(lambda: b"defaults.memory: 112MiB" in daemon.fn("config", "show").stdout, "the value")
    shown = daemon.fn("config", "show", "--origin").stdout.decode()
    assert f"defaults.memory: 112MiB  # {daemon.config}:2" in shown
    assert "log.level: debug  # --log.level" in shown
    assert "defaults.memory: 128MiB" in daemon.fn("config", "show", "--defaults").stdout.decode()
