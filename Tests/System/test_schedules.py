# SPDX-License-Identifier: Apache-2.0
"""Functions that run by themselves: one run a tick, whatever happens to the daemon."""
import datetime
import json
import signal
import sqlite3
import time

import pytest

from conftest import wait_until

CONFIG = "defaults: {timeout: 60s, init_timeout: 120s, backoff: 300ms}\n"
CODE = "def handle(event, context):\n    return {'event': event, 'id': context.aws_request_id}\n"


def deploy(daemon, name, schedules):
    yaml = f"schedules: {schedules}\n"
    daemon.deploy_code(name, {"app.py": CODE, "function.yaml": yaml}, "python", "app.handle", "--timeout", "50s")


def runs(daemon, name):
    found = daemon.request("GET", f"/v1/queue?function={name}").json["events"]
    return [e for e in found if e["state"] == "succeeded"]


def answer(daemon, id):
    return json.loads(daemon.request("GET", f"/v1/queue/{id}").json["result"])["event"]


def age(daemon, name, minutes):
    """As if it had been deployed that long ago; the daemon has to be stopped."""
    with sqlite3.connect(daemon.directory / "state" / "registry.sqlite") as db:
        record = json.loads(db.execute("SELECT record FROM functions WHERE name = ?", [name]).fetchone()[0])
        for schedule in record["spec"]["schedules"]:
            schedule["sinceMs"] -= minutes * 60_000
        db.execute("UPDATE functions SET record = ? WHERE name = ?", [json.dumps(record).encode(), name])


def ago(minutes):
    """The minute of the hour, some minutes ago."""
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=minutes)).minute


def test_a_tick_is_one_run_and_tells_what_it_is(daemon):
    deploy(daemon, "ticks", "[{cron: '* * * * *'}]")
    assert runs(daemon, "ticks") == []
    run = wait_until(lambda: runs(daemon, "ticks"), "a tick", 90)[0]
    event = answer(daemon, run["id"])
    assert (event["source"], event["function"], event["schedule"]) == ("ebb.schedule", "ticks", "schedule-1")
    assert event["time"].endswith(":00.000Z")
    listed = daemon.request("GET", "/v1/schedules").json["schedules"][0]
    assert listed["last"] >= event["time"] and len(listed["next"]) == 3
    metrics = daemon.request("GET", "/metrics").body.decode()
    assert 'fn_invocations_total{function="ticks",outcome="ok",trigger="schedule"}' in metrics
    daemon.fn("rm", "ticks", "-y")


def test_of_missed_ticks_the_latest_of_the_last_hour_runs_once_at_the_start(own_daemon):
    daemon = own_daemon(CONFIG).start()
    deploy(daemon, "missed", f"[{{cron: '{ago(40)},{ago(20)} * * * *', name: m, input: {{n: 1}}}}]")
    deploy(daemon, "longago", f"[{{cron: '{ago(20)} {(datetime.datetime.now(datetime.timezone.utc).hour + 12) % 24} * * *'}}]")
    deploy(daemon, "fresh", f"[{{cron: '{ago(20)} * * * *'}}]")
    daemon.stop()
    age(daemon, "missed", 300)
    age(daemon, "longago", 3000)
    for _ in range(3):
        daemon.start()
        run = wait_until(lambda: runs(daemon, "missed"), "the missed tick to run", 60)
        assert [answer(daemon, each["id"]) for each in run] == [{"n": 1}]
        time.sleep(1.5)  # in which the others would have run
        assert not runs(daemon, "longago") and not runs(daemon, "fresh")
        daemon.stop(signal.SIGKILL)
    # Nor does it run again when its event has been forgotten.
    daemon.start()
    daemon.fn("queue", "purge", "-y")
    daemon.stop(signal.SIGKILL)
    daemon.start()
    time.sleep(1.5)
    assert not daemon.request("GET", "/v1/queue?function=missed").json["events"]


def test_schedules_are_listed_with_their_next_times(daemon):
    deploy(daemon, "listed", "[{cron: '0 3 * * *', name: nightly}, {cron: rate(2 hours), name: often, input: [1]}]")
    table = daemon.fn("schedule", "ls", "--function", "listed").stdout.decode()
    assert "nightly" in table and "T03:00:00.000Z" in table and "rate(2 hours)" in table
    found = json.loads(daemon.fn("schedule", "ls", "-o", "json", "--function", "listed").stdout)["schedules"]
    assert [s["name"] for s in found] == ["nightly", "often"]
    assert found[1]["input"] == "[1]" and all(len(s["next"]) == 3 for s in found)
    assert daemon.fn("schedule", "ls", "-q", "--function", "listed").stdout == b"listed/nightly\nlisted/often\n"
    assert "schedule:     nightly, 0 3 * * *, next " in daemon.fn("describe", "listed").stdout.decode()
    daemon.fn("rm", "listed", "-y")
    assert not [s for s in daemon.request("GET", "/v1/schedules").json["schedules"] if s["function"] == "listed"]


@pytest.mark.parametrize("schedules, why", [
    ("[{cron: '61 * * * *'}]", "function.yaml:1:20: error: cron: minute: '61' is not from 0 to 59; an example: '*/5 * * * *'"),
    ("[{cron: '0 0 30 2 *'}]", "never comes"), ("[{cron: '@reboot'}]", "@hourly"), ("[{}]", "a schedule needs when"),
])
def test_a_wrong_schedule_is_refused_with_its_place_and_an_example(daemon, schedules, why):
    source = daemon.directory / "code" / "wrong"
    source.mkdir(parents=True, exist_ok=True)
    (source / "app.py").write_text(CODE)
    (source / "function.yaml").write_text(f"schedules: {schedules}\n")
    result = daemon.fn("deploy", source, "--name", "wrong", "--runtime", "python", "--handler", "app.handle")
    assert result.returncode == 64 and why in result.stderr.decode(), result.stderr
