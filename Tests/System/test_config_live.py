# SPDX-License-Identifier: Apache-2.0
"""Every setting that is said to be live: it is changed while functions run, and the kernel's file or what happens follows."""
import concurrent.futures
import copy
import json
import os
import pathlib
import re
import threading
import time

import pytest
import yaml

from conftest import Daemon, Hog, Hook, cgroup_file, clean, wait_until
from images import Image, entry, tar
from test_async import ended, event, lambda_client, send

MIB = 1 << 20
BASE = {
    "defaults": {"timeout": "100s", "init_timeout": "100s", "retries": 0},
    "limits": {"memory": "2GiB", "cpus": 4},
    "reclaim": {"mode": "off"},
}
# What other files change while functions run, where what it takes is at hand.
ELSEWHERE = {
    "network.egress": "test_network.py::test_the_operator_refuses_egress",
    "network.dns": "test_network.py::test_a_resolver_in_a_private_range_answers_names_and_nothing_else",
    "network.deny": "test_network.py::test_the_lists_change_while_a_sandbox_runs",
    "network.allow": "test_network.py::test_the_lists_change_while_a_sandbox_runs",
    "http.hosts": "test_page.py::test_the_page_and_the_names_are_the_operators",
    "web.enabled": "test_page.py::test_the_page_and_the_names_are_the_operators",
    "log.level": "test_logs.py::test_level_and_form_of_the_daemons_log_change_while_it_runs",
    "log.format": "test_logs.py::test_level_and_form_of_the_daemons_log_change_while_it_runs",
    "tracing.otlp": "test_traces.py::test_the_share_of_traces_and_the_collector_change_while_the_daemon_runs",
    "tracing.sample": "test_traces.py::test_the_share_of_traces_and_the_collector_change_while_the_daemon_runs",
    "tracing.headers": "test_traces.py::test_the_share_of_traces_and_the_collector_change_while_the_daemon_runs",
    "auth.open_urls": "test_function_urls.py::test_an_address_is_open_to_all_where_the_operator_lets_it",
    "limits.response_stream": "test_streaming.py::test_a_stream_without_an_end_is_cut_at_its_limit",
    "pools.prewarm": "test_prewarm.py::test_how_many_there_are_follows_the_operators_word_at_once",
    "log.functions.to": "test_logs.py::test_what_functions_print_is_among_the_daemons_own_lines_where_the_operator_wants_it",
    "storage.keep_versions": "test_versions.py::test_as_many_versions_are_kept_as_the_operator_says",
}
# Numbers of a rule whose effect no file shows by itself: the rule is tested with them, and that they reach it here.
RULES = {
    "reclaim.target": "PolicyTests/LearningTests.swift::tuning",
    "reclaim.step": "CgroupTests/LimitControlTests.swift::step",
    "reclaim.io_target": "CgroupTests/LimitControlTests.swift::disks",
    "reclaim.host_pressure.over": "CgroupTests/LimitControlTests.swift::window",
}
CHANGED = set()


def changes(*paths):
    """Marks what a test changes."""
    CHANGED.update(paths)
    return lambda test: test


CODE = """
import os, time
def handle(event, context):
    time.sleep(event.get("sleep", 0))
    if event.get("fail"):
        raise ValueError("as told")
    held = bytearray(event.get("mb", 0) << 20)
    for page in range(0, len(held), 4096):
        held[page] = 1
    return {"env": {k: v for k, v in os.environ.items() if k.startswith(("TOLD", "AWS_LAMBDA_MAX"))}, "held": len(held)}
"""


@pytest.fixture(scope="module")
def daemon():
    running = Daemon(yaml.safe_dump(BASE)).start()
    running.deploy_code("plain", {"app.py": CODE})
    running.deploy_code("large", {"app.py": CODE}, "python", "app.handle", "--memory", "200MiB", "--cpus", "2",
                        "--timeout", "90s", "--concurrency", "50")
    yield running
    clean(running)


def set_to(daemon, **sections):
    """The base with these on top is in force when this returns, all of it."""
    settings = copy.deepcopy(BASE)
    for name, section in sections.items():
        settings.setdefault(name, {}).update(section)
    # In one step: the daemon looks at the file, too.
    new = daemon.directory / "new.yaml"
    new.write_text(yaml.safe_dump(settings))
    new.rename(daemon.config)
    result = daemon.fn("config", "reload")
    assert result.returncode == 0, result.stderr.decode()
    waiting = daemon.fn("config", "diff")
    assert waiting.returncode == 0, f"what waits for a restart is not live: {waiting.stdout.decode()}"


@pytest.fixture(autouse=True)
def base(daemon):
    yield
    set_to(daemon)


class Load:
    """Calls of one function, one after the other, from the beginning to the end of a test: none may fail."""

    def __init__(self, daemon, function):
        self.daemon, self.function, self.answers, self.goes_on = daemon, function, [], True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        wait_until(lambda: self.answers, "the first call", 30)
        self.sandbox = daemon.sandbox(function)

    def run(self):
        while self.goes_on:
            self.answers.append(self.daemon.invoke(self.function, {"sleep": 0.05}))

    def end(self):
        self.goes_on = False
        self.thread.join()
        assert {answer.status for answer in self.answers} == {200}
        assert self.daemon.sandbox(self.function)["pid"] == self.sandbox["pid"], "all in one sandbox"


@pytest.fixture
def load(daemon):
    """Two sandboxes that are under load all the while."""
    loads = {name: Load(daemon, name) for name in ("plain", "large")}
    yield loads
    for each in loads.values():
        each.end()


KERNEL = {
    "memory": ("96MiB", "memory.max", str(96 * MIB)),
    "memory_low": ("8MiB", "memory.low", str(8 * MIB)),
    "cpus": ("0.5", "cpu.max", "50000 100000"),
    "memory_high": ("64MiB", "memory.high", str(64 * MIB)),
    "cpu_weight": ("250", "cpu.weight", "250"),
    "io_weight": ("300", "io.weight", "default 300"),
    "pids": ("77", "pids.max", "77"),
    "io_read": ("8MiB", "io.max", "rbps=8388608"),
    "io_write": ("4MiB", "io.max", "wbps=4194304"),
}


@pytest.mark.parametrize("whose", ["defaults", "functions"])
@pytest.mark.parametrize("key", KERNEL)
@changes(*[f"{whose}.{key}" for whose in ("defaults", "functions") for key in KERNEL])
def test_the_kernels_file_of_a_busy_sandbox_follows(daemon, limits, load, key, whose):
    value, file, text = KERNEL[key]
    sandbox = load["plain"].sandbox
    before = cgroup_file(sandbox, file)
    assert text not in before
    set_to(daemon, **{whose: {key: value} if whose == "defaults" else {"pl*": {key: value}}})
    wait_until(lambda: text in cgroup_file(sandbox, file), f"{file} to follow {whose}.{key}")
    if key == "pids":
        wait_until(lambda: re.search(r"Max processes +77 +77 ", pathlib.Path(f"/proc/{sandbox['pid']}/limits").read_text()),
                   "the processes' own limit to follow")
    set_to(daemon)
    wait_until(lambda: cgroup_file(sandbox, file) == before, f"{file} to return")


@changes("defaults.swap")
def test_swap_is_what_is_said_and_as_much_as_the_memory_where_nothing_is(daemon, limits, load):
    sandbox = load["plain"].sandbox
    set_to(daemon, defaults={"swap": "32MiB"})
    wait_until(lambda: cgroup_file(sandbox, "memory.swap.max") == str(32 * MIB), "memory.swap.max")
    set_to(daemon, defaults={"memory": "160MiB"})
    wait_until(lambda: cgroup_file(sandbox, "memory.swap.max") == str(160 * MIB), "memory.swap.max to follow the memory")


@changes("limits.memory", "limits.cpus", "limits.timeout", "limits.concurrency")
def test_a_lower_ceiling_holds_for_what_runs(daemon, limits, load):
    sandbox = load["large"].sandbox
    assert cgroup_file(sandbox, "memory.max") == str(200 * MIB)
    set_to(daemon, defaults={"timeout": "3s", "concurrency": 5},
           limits={"memory": "150MiB", "cpus": 1, "timeout": "60s", "concurrency": 20})
    wait_until(lambda: cgroup_file(sandbox, "memory.max") == str(150 * MIB), "memory.max to fall to the ceiling")
    wait_until(lambda: cgroup_file(sandbox, "cpu.max") == "100000 100000", "cpu.max to fall to the ceiling")
    seen = daemon.describe("large")
    assert (seen["timeoutMs"], seen["concurrency"]) == (60_000, 20)
    assert {seen["origins"][key] for key in ("memory", "cpus", "timeout", "concurrency")} == {"limit"}
    set_to(daemon)
    wait_until(lambda: cgroup_file(sandbox, "memory.max") == str(200 * MIB), "memory.max to rise again")


def tmp_size(sandbox):
    of = os.statvfs(f"/proc/{sandbox['pid']}/root/tmp")
    return of.f_blocks * of.f_frsize


@pytest.mark.parametrize("whose", ["defaults", "functions"])
@changes("defaults.tmp", "functions.tmp")
def test_the_size_of_tmp_follows_in_a_busy_sandbox(daemon, load, whose):
    sandbox = load["plain"].sandbox
    set_to(daemon, **{whose: {"tmp": "24MiB"} if whose == "defaults" else {"plain": {"tmp": "24MiB"}}})
    wait_until(lambda: tmp_size(sandbox) == 24 * MIB, "/tmp to be smaller")
    set_to(daemon)
    wait_until(lambda: tmp_size(sandbox) == 64 * MIB, "/tmp to be as large as before")


@changes("host.memory", "host.memory_reserve")
def test_the_budget_follows(daemon, load):
    def budget():
        return daemon.request("GET", "/v1/ledger").json["budget"]

    set_to(daemon, host={"memory": "700MiB"})
    assert budget() == 700 * MIB
    total = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) << 10
    set_to(daemon, host={"memory": "100%", "memory_reserve": "900MiB"})
    assert budget() == total - 900 * MIB


@changes("host.cpus", "host.pids", "host.swap")
def test_the_kernels_files_of_all_sandboxes_together_follow(daemon, limits, load):
    pool = {"cgroup": str(pathlib.Path(load["plain"].sandbox["cgroup"]).parent)}
    files = ("cpu.max", "pids.max", "memory.swap.max")
    before = [cgroup_file(pool, file) for file in files]
    assert before == ["max 100000", "16384", "max"]
    set_to(daemon, host={"cpus": "1.5", "pids": 5000, "swap": "300MiB"})
    assert [cgroup_file(pool, file) for file in files] == ["150000 100000", "5000", str(300 * MIB)]
    set_to(daemon, host={"cpus": f"{60 / (os.cpu_count() or 1)}%"})
    assert cgroup_file(pool, "cpu.max") == "60000 100000"
    set_to(daemon)
    assert [cgroup_file(pool, file) for file in files] == before


@changes("host.overcommit")
def test_sizes_beyond_what_the_host_has_are_warned_of_once_the_operator_says_so(daemon):
    def deployed():
        result = daemon.fn("deploy", "--name", "plain", daemon.directory / "code" / "plain", "--runtime", "python",
                           "--handler", "app.handle")
        assert result.returncode == 0 and result.stdout == b"plain\n", result.stderr
        return result.stderr.decode()

    assert "warning" not in deployed()
    set_to(daemon, host={"memory": "220MiB", "overcommit": 1})
    assert "(host.overcommit)" in deployed()
    set_to(daemon, host={"memory": "220MiB", "overcommit": 100})
    assert "warning" not in deployed()


@changes("host.promises")
def test_what_a_busy_sandbox_is_charged_follows(daemon, limits, load):
    before = daemon.sandbox("large")["held"]
    assert before == 200 * MIB
    set_to(daemon, host={"promises": "measured"})
    wait_until(lambda: daemon.sandbox("large")["held"] < before, "it to be charged what its calls need", 30)


@changes("defaults.memory_burst", "functions.memory_burst")
@pytest.mark.parametrize("whose", ["defaults", "functions"])
def test_memory_may_run_ahead_of_its_size_once_the_operator_says_so(daemon, limits, whose):
    assert daemon.invoke("plain", {"mb": 300}).status == 507
    burst = {"memory_burst": "768MiB"}
    set_to(daemon, **{whose: burst if whose == "defaults" else {"plain": burst}})
    answer = daemon.invoke("plain", {"mb": 300})
    assert (answer.status, answer.json["held"]) == (200, 300 * MIB), answer.body


@changes("reclaim.grow_step", "reclaim.grow_headroom")
def test_how_soon_and_in_which_steps_memory_runs_ahead_follows(daemon, limits):
    def grown(event, **reclaim):
        set_to(daemon, defaults={"memory_burst": "768MiB"}, reclaim=reclaim)
        answer = daemon.invoke("plain", event)
        assert answer.status == 200, answer.body
        told = daemon.request("GET", f"/v1/decisions?subject={daemon.sandbox('plain')['id']}").json["decisions"]
        last = max(d["seq"] for d in told if d["kind"] == "run")
        return [d["reason"] for d in told if d["kind"] == "grow" and "runs ahead" in d["reason"] and d["seq"] > last]

    assert daemon.invoke("plain").status == 200
    assert len(grown({"mb": 300})) > 1
    assert len(grown({"mb": 300}, grow_step="1000%")) == 1
    assert grown({"sleep": 0.3}) == []
    assert grown({"sleep": 0.3}, grow_headroom="1000%")


@changes("defaults.init_cpus")
def test_what_starts_gets_the_processors_that_are_said(daemon, limits):
    daemon.deploy_code("slow-start", {"app.py": "import time\ntime.sleep(1)\n" + CODE})
    for cores, text in (("3", "300000 100000"), ("1.5", "150000 100000")):
        set_to(daemon, defaults={"init_cpus": cores})
        with concurrent.futures.ThreadPoolExecutor() as threads:
            call = threads.submit(daemon.invoke, "slow-start", {}, {"X-Fn-Cold": "1"})
            starting = wait_until(lambda: [s for s in daemon.sandboxes("slow-start")
                                           if s["state"] == "starting" and s["cgroup"]], "it to start")[0]
            wait_until(lambda: cgroup_file(starting, "cpu.max") == text, f"cpu.max of {cores} cores while it starts")
            assert call.result().status == 200
        wait_until(lambda: cgroup_file(starting, "cpu.max") == "100000 100000", "cpu.max of one that works")


@changes("defaults.timeout", "functions.timeout")
def test_a_timeout_is_the_next_calls(daemon):
    for sections in ({"defaults": {"timeout": "300ms"}}, {"functions": {"plain": {"timeout": "300ms"}}}):
        set_to(daemon, **sections)
        assert daemon.invoke("plain", {"sleep": 60}).status == 504
        set_to(daemon)
        assert daemon.invoke("plain", {"sleep": 0.4}).status == 200


@changes("defaults.init_timeout")
def test_a_start_is_given_up_when_the_operator_says(daemon):
    daemon.deploy_code("mute", {"bootstrap": "#!/bin/sh\nexec sleep 3600\n"}, "provided", "none")
    set_to(daemon, defaults={"init_timeout": "700ms"})
    assert "did not ask for its first event within 700ms" in daemon.invoke("mute").json["errorMessage"]


@changes("defaults.concurrency", "functions.concurrency", "pools.queue_timeout", "pools.max_sandboxes")
def test_how_many_sandboxes_there_may_be_and_how_long_a_call_waits_for_one(daemon):
    daemon.deploy_code("many", {"app.py": CODE})

    def two_at_once():
        with concurrent.futures.ThreadPoolExecutor() as threads:
            first = threads.submit(daemon.invoke, "many", {"sleep": 4})
            wait_until(lambda: [s for s in daemon.sandboxes("many") if s["state"] == "busy"], "the first to run", 30)
            second = daemon.invoke("many")
            assert first.result().status == 200
            return second.status

    alone = [{"defaults": {"concurrency": 1}}, {"functions": {"many": {"concurrency": 1}}}]
    for sections in alone:
        set_to(daemon, pools={"queue_timeout": "200ms"}, **sections)
        assert two_at_once() == 429
    assert daemon.describe("many")["origins"]["concurrency"] == "operator"
    set_to(daemon, pools={"queue_timeout": "200ms"})
    assert two_at_once() == 200
    count = len([s for s in daemon.sandboxes() if s["state"] == "busy" or s["function"] != "many"])
    set_to(daemon, pools={"queue_timeout": "200ms", "max_sandboxes": count + 1})
    with concurrent.futures.ThreadPoolExecutor() as threads:
        calls = [threads.submit(daemon.invoke, "many", {"sleep": 3}) for _ in range(count + 2)]
        assert 429 in [call.result().status for call in calls]
    set_to(daemon, defaults={"concurrency": 1}, pools={"queue_timeout": "90s"})
    assert two_at_once() == 200, "it waited for the first"


@changes("defaults.min_warm", "functions.min_warm", "pools.evict_after")
def test_what_is_kept_warm_and_what_ends_follow(daemon):
    daemon.deploy_code("kept", {"app.py": CODE})
    set_to(daemon, functions={"kept": {"min_warm": 2}})
    wait_until(lambda: len(daemon.sandboxes("kept")) == 2, "two to be started without a call", 30)
    set_to(daemon, functions={"kept": {"min_warm": 1}}, pools={"evict_after": "200ms"})
    wait_until(lambda: len(daemon.sandboxes("kept")) == 1, "one of them to end", 30)
    set_to(daemon, pools={"evict_after": "200ms"})
    wait_until(lambda: not daemon.sandboxes("kept"), "the last to end", 30)
    set_to(daemon, defaults={"min_warm": 1})
    wait_until(lambda: len(daemon.sandboxes("kept")) == 1, "one of every function", 60)


@changes("defaults.per_sandbox", "functions.per_sandbox")
def test_sandboxes_that_are_started_from_then_on_run_as_many_at_once(daemon):
    for sections, places in (({"defaults": {"per_sandbox": 2}}, "2"), ({"functions": {"pl*": {"per_sandbox": 3}}}, "3")):
        set_to(daemon, **sections)
        assert daemon.invoke("plain", headers={"X-Fn-Cold": "1"}).json["env"]["AWS_LAMBDA_MAX_CONCURRENCY"] == places


@changes("defaults.network", "functions.network")
def test_the_network_of_all_and_of_one_is_that_of_the_next_sandbox(daemon):
    daemon.deploy_code("out", {"app.py": CODE})
    for sections, network in (({"defaults": {"network": "egress"}}, "egress"),
                              ({"defaults": {"network": "egress"}, "functions": {"ou*": {"network": "none"}}}, "none")):
        set_to(daemon, **sections)
        assert daemon.invoke("out").status == 200
        wait_until(lambda: [s["network"] for s in daemon.sandboxes("out")] == [network], f"one with network {network}")


@changes("defaults.env")
def test_what_every_function_receives_is_there_at_the_next_call(daemon):
    daemon.deploy_code("told", {"app.py": CODE}, "python", "app.handle", "--env", "TOLD_OWN=mine")
    assert daemon.invoke("told").json["env"] == {"TOLD_OWN": "mine"}
    first = daemon.sandbox("told", "idle")["id"]
    set_to(daemon, defaults={"env": {"TOLD": "all", "TOLD_OWN": "nobody"}})
    assert daemon.invoke("told").json["env"] == {"TOLD": "all", "TOLD_OWN": "mine"}
    wait_until(lambda: [s["id"] != first for s in daemon.sandboxes("told")] == [True], "the old one to be gone")
    set_to(daemon)
    assert daemon.invoke("told").json["env"] == {"TOLD_OWN": "mine"}


@changes("defaults.retries", "defaults.backoff", "defaults.max_event_age")
def test_how_often_and_how_long_an_event_is_tried(daemon):
    assert ended(daemon, send(daemon, {"fail": 1}, "plain"), "failed")["attempts"] == 1
    set_to(daemon, defaults={"retries": 2, "backoff": "100ms"})
    assert ended(daemon, send(daemon, {"fail": 1}, "plain"), "failed")["attempts"] == 3
    set_to(daemon, defaults={"retries": 50, "backoff": "1s", "max_event_age": "2s"})
    assert ended(daemon, send(daemon, {"fail": 1}, "plain"), "failed")["reason"] == "EventAgeExceeded"


@changes("limits.payload", "limits.payload_async", "limits.queue", "limits.env")
def test_what_is_sent_is_bounded_by_what_holds_now(daemon):
    later = {"X-Amz-Invocation-Type": "Event"}
    text = {"x": "y" * 3000}
    assert daemon.invoke("plain", text).status == 200
    set_to(daemon, limits={"payload": "2KiB"})
    assert daemon.invoke("plain", text).status == 413
    set_to(daemon, limits={"payload_async": "2KiB"})
    assert (daemon.invoke("plain", text).status, daemon.invoke("plain", text, later).status) == (200, 413)
    set_to(daemon, limits={"queue": "1KiB"})
    refused = daemon.invoke("plain", text, later)
    assert refused.status == 429 and b"limits.queue" in refused.body
    set_to(daemon, limits={"env": "64B"})
    refused = daemon.fn("update", "plain", "--env", "LONG=" + "x" * 100)
    assert refused.returncode == 64 and b"64" in refused.stderr, refused.stderr


@changes("limits.response")
def test_an_answer_is_bounded_by_what_holds_when_it_comes(daemon, load):
    daemon.deploy_code("talks", {"app.py": "def handle(event, context):\n    return 'x' * event\n"})
    assert daemon.invoke("talks", 9000).status == 200
    set_to(daemon, limits={"response": "4KiB"})
    refused = daemon.invoke("talks", 9000)
    assert (refused.status, refused.json["errorType"]) == (502, "Function.ResponseSizeTooLarge"), refused.body
    assert daemon.invoke("talks", 3000).status == 200
    set_to(daemon)
    assert daemon.invoke("talks", 9000).status == 200


@changes("limits.code", "limits.unpacked_code")
def test_code_is_bounded_by_what_holds_now(daemon):
    files = {"app.py": CODE, "more.bin": "".join(os.urandom(50 << 10).hex())}
    daemon.deploy_code("sized", files)
    for key in ("code", "unpacked_code"):
        set_to(daemon, limits={key: "20KiB"})
        with pytest.raises(AssertionError, match=f"limits.{key} "):
            daemon.deploy_code("sized", {**files, "another.py": f"# {key}"})
    set_to(daemon)
    daemon.deploy_code("sized", {**files, "another.py": "# at last"})


@changes("limits.destination_file", "limits.destination_hosts", "limits.delivery_attempts")
def test_what_is_carried_where_and_how_often(daemon):
    hook, aws = Hook(), lambda_client(daemon)
    daemon.deploy_code("sends", {"app.py": CODE})

    def carried(destination):
        aws.put_function_event_invoke_config(
            FunctionName="sends", DestinationConfig={"OnSuccess": {"Destination": destination}})
        ended(daemon, send(daemon, {}, "sends"))
        found = wait_until(lambda: [e for e in daemon.request("GET", "/v1/queue?function=sends").json["events"]
                                    if e.get("destination", "").startswith(destination)], "the delivery")[0]
        return wait_until(lambda: (e := event(daemon, found["id"]))["state"] in ("succeeded", "failed") and e, "its end", 60)

    assert carried(f"{hook.url}/one")["state"] == "succeeded"
    set_to(daemon, limits={"destination_hosts": "example.org"})
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="destination_hosts"):
        carried(f"{hook.url}/two")
    hook.close()
    for attempts in (1, 2):
        set_to(daemon, limits={"delivery_attempts": attempts})
        assert carried(f"{hook.url}/closed-{attempts}")["attempts"] == attempts
    file = f"file://{daemon.directory}/state/destinations/all"
    set_to(daemon, limits={"destination_file": "4KiB", "delivery_attempts": 1})
    base = daemon.directory / "state" / "destinations"
    base.mkdir(exist_ok=True)
    (base / "all").write_bytes(b"x" * 4090 + b"\n")
    assert "limits.destination_file" in carried(file)["reason"]


@changes("limits.image", "limits.unpacked_image", "limits.image_entries", "limits.image_manifest")
def test_images_are_bounded_by_what_holds_now(daemon, tmp_path):
    image = Image(tar(*[entry(f"file-{n}", os.urandom(64 << 10)) for n in range(4)]), config={"Cmd": ["/file-0"]})
    image.archive(tmp_path / "i.tar")

    def deploy():
        return daemon.fn("deploy", "--image", tmp_path / "i.tar", "--name", "boxed").stderr.decode()

    for key, value in (("image", "100KiB"), ("unpacked_image", "100KiB"), ("image_entries", 2), ("image_manifest", "4KiB")):
        if key == "image_manifest":
            image.config["config"]["Labels"] = {"long": "x" * 5000}
            image.archive(tmp_path / "i.tar")
        set_to(daemon, limits={key: value})
        assert f"limits.{key}" in deploy(), key
    set_to(daemon)
    assert "limits." not in deploy()
    daemon.fn("rm", "--yes", "boxed")


@changes("reclaim.mode", "reclaim.idle_after", "functions.reclaim")
def test_idle_sandboxes_shrink_once_the_operator_lets_them(daemon):
    daemon.deploy_code("naps", {"app.py": CODE})
    daemon.deploy_code("wakes", {"app.py": CODE})
    for name in ("naps", "wakes"):
        assert daemon.invoke(name).status == 200
    set_to(daemon, reclaim={"mode": "auto", "idle_after": "200ms"}, functions={"wakes": {"reclaim": "off"}})
    daemon.sandbox("naps", "shrunk")
    assert daemon.sandbox("wakes")["state"] == "idle"
    set_to(daemon, reclaim={"mode": "auto", "idle_after": "200ms"})
    daemon.sandbox("wakes", "shrunk")
    set_to(daemon, reclaim={"mode": "auto", "idle_after": "10m"})
    assert daemon.invoke("naps").status == 200
    time.sleep(1)
    assert daemon.sandbox("naps")["state"] == "idle"


def told(daemon, function, kind):
    id = daemon.sandbox(function)["id"]
    return [d for d in daemon.request("GET", f"/v1/decisions?subject={id}").json["decisions"] if d["kind"] == kind]


def test_where_the_operator_looks_on_it_is_told_what_would_be_shrunk(daemon):
    daemon.deploy_code("watched", {"app.py": CODE})
    assert daemon.invoke("watched").status == 200
    set_to(daemon, reclaim={"mode": "observe", "idle_after": "200ms"})
    wait_until(lambda: told(daemon, "watched", "observe"), "it to be told")
    assert daemon.sandbox("watched")["state"] == "idle" and not told(daemon, "watched", "shrink")
    set_to(daemon, reclaim={"mode": "auto", "idle_after": "200ms"})
    daemon.sandbox("watched", "shrunk")


@changes("pools.freeze_after")
def test_what_is_not_shrunk_is_frozen_when_the_operator_says(daemon):
    daemon.deploy_code("still", {"app.py": CODE})
    assert daemon.invoke("still").status == 200
    sandbox = daemon.sandbox("still", "idle")
    assert cgroup_file(sandbox, "cgroup.freeze") == "0"
    set_to(daemon, pools={"freeze_after": "200ms"})
    wait_until(lambda: cgroup_file(sandbox, "cgroup.freeze") == "1", "it to be frozen")
    assert daemon.sandbox("still")["state"] == "frozen"
    answer = daemon.invoke("still")
    assert (answer.status, answer.headers["x-fn-start"]) == (200, "thawed")
    assert daemon.sandbox("still")["id"] == sandbox["id"]


@changes("reclaim.floor", "reclaim.swap_stop", "reclaim.refaults", "reclaim.backoff")
def test_what_a_shrink_leaves_and_how_deep_it_goes_follow(daemon, limits):
    daemon.deploy_code("deep", {"app.py": CODE.replace("def handle", "kept = bytearray(os.urandom(24 << 20))\ndef handle")
                                .replace("time.sleep(", "sum(kept[::4096]); time.sleep(")})

    def shrunk(**reclaim):
        set_to(daemon, reclaim={"mode": "off", **reclaim})
        assert daemon.invoke("deep").status == 200
        set_to(daemon, reclaim={"mode": "auto", "idle_after": "200ms", **reclaim})
        return daemon.sandbox("deep", "shrunk")

    assert int(cgroup_file(shrunk(floor="100MiB"), "memory.max")) == 100 * MIB
    assert shrunk(swap_stop="0%")["swap"] == 0
    assert shrunk()["swap"] > 8 * MIB
    # That wake brought thousands of pages back: what is taken next is the less the more the operator says.
    shrunk(refaults="1/s", backoff="70%")
    depths = [d["numbers"]["depth_percent"] for d in told(daemon, "deep", "shrink")]
    assert depths[-1] == 30, depths


@changes("reclaim.interval", "reclaim.host_pressure.some", "reclaim.host_pressure.full")
def test_how_often_the_host_is_looked_at_and_what_is_short_follow(daemon):
    def tier():
        return daemon.request("GET", "/v1/ledger").json["host"]["tier"]

    total = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) << 10
    everything = {"memory": "100%", "memory_reserve": "1MiB"}
    with Hog() as hog:
        while daemon.request("GET", "/v1/ledger").json["host"]["available"] > total * 0.36:
            hog.take(64 * MIB)
            time.sleep(0.2)
        set_to(daemon, host=everything)
        wait_until(lambda: tier() == "green", "a third to be enough", 60)
        set_to(daemon, host=everything, reclaim={"mode": "off", "interval": "10m", "host_pressure": {"some": "0%"}})
        time.sleep(1)
        assert tier() == "green", "nobody has looked"
        set_to(daemon, host=everything, reclaim={"mode": "off", "interval": "100ms", "host_pressure": {"some": "0%"}})
        wait_until(lambda: tier() == "orange", "no wait at all to be allowed")
        set_to(daemon, host=everything, reclaim={"mode": "off", "host_pressure": {"full": "0%"}})
        wait_until(lambda: tier() == "red", "no wait of all at once to be allowed")
    set_to(daemon)
    wait_until(lambda: tier() == "green", "it to be plenty again", 60)


@changes("reclaim.target", "reclaim.step", "reclaim.io_target", "reclaim.host_pressure.over")
def test_numbers_of_rules_are_those_in_force(daemon):
    set_to(daemon, reclaim={"target": "1%", "step": "10%", "io_target": "20%", "host_pressure": {"over": "2s"}})
    shown = {each["path"]: each["value"] for each in daemon.request("GET", "/v1/config").json["values"]}
    assert [shown[path] for path in RULES] == ["1%", "10%", "20%", "2s"]


# Speaks the Runtime API, says that it knows hints, and never answers one.
DEAF = """#!/usr/bin/python3 -ISu
import http.client, os, time
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    connection.request("GET", "/2018-06-01/runtime/invocation/next", headers={"Fn-Hints": "1"})
    event = connection.getresponse()
    body = event.read()
    if event.headers.get("Fn-Event") == "idle":
        open("/tmp/hinted", "w").close()
        time.sleep(3600)
    path = "/2018-06-01/runtime/invocation/" + event.headers["Lambda-Runtime-Aws-Request-Id"] + "/response"
    connection.request("POST", path, body=body)
    connection.getresponse().read()
"""


@changes("reclaim.hint_timeout")
def test_a_runtime_has_as_long_for_a_hint_as_is_said(daemon):
    for name in ("deaf", "deafer"):
        daemon.deploy_code(name, {"bootstrap": DEAF}, "provided", "bootstrap")
    reclaim = {"mode": "auto", "idle_after": "100ms", "hint_timeout": "10m"}
    set_to(daemon, reclaim=reclaim)
    assert daemon.invoke("deaf").status == 200
    wait_until(pathlib.Path(f"/proc/{daemon.sandbox('deaf')['pid']}/root/tmp/hinted").exists, "the hint")
    set_to(daemon, reclaim={**reclaim, "hint_timeout": "100ms"})
    assert daemon.invoke("deafer").status == 200
    daemon.sandbox("deafer", "shrunk")
    assert daemon.sandbox("deaf")["state"] != "shrunk", "it still has its ten minutes"
    daemon.fn("rm", "--yes", "deaf")


@changes("pools.events")
def test_how_many_events_run_at_once(daemon):
    daemon.deploy_code("queued", {"app.py": CODE})

    def most_at_once(seconds):
        ids, most = [send(daemon, {"sleep": seconds}, "queued") for _ in range(3)], 0
        while True:
            # All of them at one moment.
            found = daemon.request("GET", "/v1/queue?function=queued").json["events"]
            states = [each["state"] for each in found if each["id"] in ids]
            if {"succeeded", "failed"}.issuperset(states):
                return most
            most = max(most, states.count("running"))

    set_to(daemon, pools={"events": 1})
    assert most_at_once(0.5) == 1
    set_to(daemon, pools={"events": 3})
    assert most_at_once(3) > 1


@changes("pools.ready_namespaces")
def test_namespaces_in_stock_follow(daemon):
    def stock():
        return sum(path.startswith("uts:[") for path in daemon.descriptors().values())

    before = wait_until(stock, "some in stock")
    set_to(daemon, pools={"ready_namespaces": 20})
    wait_until(lambda: stock() >= before + 12, lambda: f"twelve more in stock than {before}, not {stock()}", 30)


@changes("storage.keep_results")
def test_answers_are_kept_as_long_as_is_said(daemon):
    id = send(daemon, {}, "plain")
    ended(daemon, id)
    set_to(daemon, storage={"keep_results": "100ms"})
    wait_until(lambda: daemon.request("GET", f"/v1/queue/{id}").status == 404, "the answer to be forgotten", 90)


def test_every_live_setting_is_changed_by_a_test(daemon):
    here = pathlib.Path(__file__).parent
    for path, place in ELSEWHERE.items():
        file, test = place.split("::")
        body = (here / file).read_text().split(f"def {test}(")[1].split("\ndef ")[0]
        assert any(edit in body for edit in ("config.write_text(", "reload(", "set_to(")), f"{place} does not change {path}"
    for place in RULES.values():
        file, test = place.split("::")
        assert f"func {test}()" in (here.parent / file).read_text(), place
    settings = json.loads(daemon.fn("config", "show", "--defaults", "-o", "json").stdout)["values"]
    schema = json.loads(daemon.fn("config", "schema").stdout)["properties"]["functions"]["additionalProperties"]
    live = {setting["path"] for setting in settings if setting["live"]} | {"defaults.env"}
    live |= {f"functions.{key}" for key in schema["properties"]}
    assert CHANGED | set(ELSEWHERE) == live
