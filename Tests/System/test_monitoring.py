# SPDX-License-Identifier: Apache-2.0
"""Examples/monitoring: alerts and dashboard against Prometheus' own programs."""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
import yaml
from collector import Collector
from conftest import EXAMPLES, HAS_LIMITS, SCALE, wait_until

MONITORING = EXAMPLES / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())


def program(name):
    beside = pathlib.Path(os.environ.get("EBB_PROMETHEUS", "/nowhere")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not there: scripts/test-packages fetches it"
    return found


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries():
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def test_promtool_takes_the_rules_and_the_configuration(tmp_path):
    for file in ("alerts.yaml", "prometheus.yaml"):
        shutil.copy(MONITORING / file, tmp_path / file)
    for command in (["rules", "alerts.yaml"], ["config", "prometheus.yaml"]):
        result = subprocess.run([program("promtool"), "check", *command], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"], rule["alert"]


def test_each_alert_fires_when_it_should_and_not_when_it_should_not(tmp_path):
    cases = yaml.safe_load((pathlib.Path(__file__).parent / "alerts_test.yaml").read_text())
    tried = [case for test in cases["tests"] for case in test["alert_rule_test"]]
    for rule in RULES:
        outcomes = {bool(case.get("exp_alerts")) for case in tried if case["alertname"] == rule["alert"]}
        assert outcomes == {True, False}, f"{rule['alert']} is not tried both ways"
    # promtool compares every word of the annotations: the descriptions, which are long, are left out.
    short = {"groups": [{"name": group["name"], "rules": [
        {**rule, "annotations": {"summary": rule["annotations"]["summary"]}} for rule in group["rules"]]}
        for group in ALERTS["groups"]]}
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(short))
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(cases))
    result = subprocess.run([program("promtool"), "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True,
                            text=True, timeout=120 * SCALE)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_dashboard_is_one_that_grafana_imports():
    """What Grafana's documentation of the JSON model asks for (schema version 38 is of 10.x; 11 takes it too)."""
    assert DASHBOARD["schemaVersion"] == 38 and DASHBOARD["uid"] == "ebb" and DASHBOARD["title"] == "Ebb"
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] and place["x"] + place["w"] <= 24 and place["h"] > 0, panel["title"]
        columns, rows = (range(place[at], place[at] + place[size]) for at, size in ("xw", "yh"))
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
    for panel in panels():
        assert panel["type"] in ("timeseries", "stat") and panel["title"] and panel["targets"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"] and "options" in panel
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables.keys(), (panel["title"], used)


class Prometheus:
    def __init__(self, daemon, directory):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        shutil.copy(MONITORING / "alerts.yaml", directory / "alerts.yaml")
        config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        if SCALE > 1:
            config["global"] = {"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "5s"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{daemon.port}"]
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self.log = directory / "prometheus.log"
        self.process = subprocess.Popen(
            [program("prometheus"), f"--config.file={directory}/prometheus.yaml",
             f"--storage.tsdb.path={directory}/data", f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL, stderr=open(self.log, "wb"))

    def get(self, path, **query):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30 * SCALE) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        return self.get("/api/v1/query", query=expression)["result"]

    def has(self, expression):
        try:
            return self.query(expression)
        except OSError:
            assert self.process.poll() is None, self.log.read_text()
            return None

    def stop(self):
        self.process.terminate()
        self.process.wait(60 * SCALE)


HANDLER = """
def handle(event, context):
    if event.get("fails"):
        raise ValueError("no")
    return bytearray(event.get("mb", 1) << 20).count(0)
"""

# What only a kernel that accounts memory to groups can tell.
NEEDS_LIMITS = {"Highest use of a call", "Limits edited", "Taken from idle sandboxes"}


def test_every_query_of_the_dashboard_returns_a_series_and_the_rules_are_well(own_daemon, tmp_path):
    collector = Collector()
    daemon = own_daemon(
        f"tracing: {{otlp: '{collector.url}', sample: 100%}}\nreclaim: {{idle_after: 400ms}}\n"
        "defaults: {backoff: 200ms, retries: 1}\n").start()
    daemon.deploy_code("shown", {"app.py": HANDLER})
    prometheus = Prometheus(daemon, tmp_path)
    try:
        wait_until(lambda: prometheus.has('up{job="ebb"} == 1'), "the first scrape", 60)
        # Everything that is counted happens while it is looked at: a rate is of two samples.
        for _ in range(2):
            daemon.invoke("shown", {"mb": 8})
            daemon.invoke("shown", {"fails": True})
            daemon.request("POST", "/invoke/shown", b'{"fails": true}', {"X-Amz-Invocation-Type": "Event"})
            if HAS_LIMITS:
                wait_until(lambda: [s for s in daemon.sandboxes("shown") if s["state"] == "shrunk"], "a shrink", 30)
            daemon.invoke("shown")
            for memory in ("192MiB", "160MiB"):
                assert daemon.fn("update", "shown", "--memory", memory).returncode == 0
            daemon.invoke("shown", headers={"X-Fn-Cold": "1"})
            daemon.deploy_code("shown", {"app.py": HANDLER + f"# {time.time()}\n"})
        wait_until(lambda: prometheus.has('fn_dead_letters_total{function="shown"} >= 2'), "the given-up events", 60)
        daemon.invoke("shown")
        missing = {}

        def all_there():
            missing.clear()
            for title, expression in queries():
                if title in NEEDS_LIMITS and not HAS_LIMITS:
                    continue
                for name, value in (("$__rate_interval", "10m"), ("$instance", ".*"), ("$function", ".*")):
                    expression = expression.replace(name, value)
                if not prometheus.query(expression):
                    missing[title] = expression
            return not missing

        try:
            wait_until(all_there, "every query to return a series", 40)
        except AssertionError:
            pytest.fail(f"no series: {json.dumps(missing, indent=1)}")
        for variable in DASHBOARD["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
                found = prometheus.get("/api/v1/series", **{"match[]": metric.replace("$instance", ".*")})
                assert all(label in series for series in found) and found
        rules = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
        assert len(rules) == len(RULES)
        assert not [rule for rule in rules if rule["health"] != "ok" and rule["health"] != "unknown"], rules
    finally:
        prometheus.stop()
    daemon.stop()
    collector.close()
