# SPDX-License-Identifier: Apache-2.0
"""Asynchronous events through kills of the daemon; the only daemon on its machine, as its events take all there is."""
import collections
import datetime
import http.client
import json
import os
import random
import signal
import threading
import time

from conftest import SCALE, Hook, wait_until
from leaks import nothing_left
from test_async import event

LONG = os.environ.get("EBB_LONG") == "1"
KILLED = """
defaults: {timeout: 60s, init_timeout: 120s, retries: 2, backoff: 200ms}
limits: {delivery_attempts: 100}
"""
# A run leaves a line in the function's log, whatever becomes of its answer.
TRACED = """
import time
def handle(event, context):
    print("RUN", context.aws_request_id, flush=True)
    time.sleep(event.get("sleep", 0))
    if event.get("fail"):
        raise ValueError("as asked")
    return {"id": context.aws_request_id}
"""


class Client(threading.Thread):
    """Sends events for as long as the daemon is there to take them; keeps the ids of those that were accepted."""

    def __init__(self, daemon, seed):
        super().__init__(daemon=True)
        self.target, self.chance, self.accepted, self.stopped = daemon, random.Random(seed), {}, threading.Event()

    def run(self):
        while not self.stopped.is_set():
            name, fails = self.chance.choice(("traced", "chained")), self.chance.random() < 0.3
            body = {"fail": fails, "sleep": self.chance.choice([0, 0, 0.05])}
            try:
                answer = self.target.invoke(name, body, {"X-Amz-Invocation-Type": "Event"})
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)  # it was killed: what became of this one nobody was told
                continue
            assert answer.status == 202, answer.body
            self.accepted[answer.json["requestId"]] = (name, fails)
            time.sleep(self.chance.uniform(0, 0.05) * SCALE)  # all that was accepted has to run afterwards


def runs_by_id(daemon, name):
    """Runs that began, by request id."""
    lines = daemon.request("GET", f"/v1/functions/{name}/logs").body.decode().splitlines()
    return collections.Counter(m.split()[1] for m in (json.loads(line)["message"] for line in lines)
                               if m.startswith("RUN "))


def test_nothing_accepted_is_lost_and_nothing_runs_too_often_however_often_the_daemon_is_killed(own_daemon):
    daemon = own_daemon(KILLED).start()
    file = daemon.directory / "state" / "destinations" / "good.jsonl"
    hook = Hook()
    daemon.deploy_code("told", {"app.py": TRACED}, "python", "app.handle", "--timeout", "50s")
    for name, good, bad in (("traced", f"file://{file}", hook.url), ("chained", "told", f"{hook.url}/chained")):
        yaml = f"events: {{on_success: '{good}', on_failure: '{bad}'}}\n"
        daemon.deploy_code(name, {"app.py": TRACED, "function.yaml": yaml}, "python", "app.handle",
                           "--timeout", "50s", "--concurrency", "3")
    seed = int(os.environ.get("EBB_SEED") or 1)
    chance, kills = random.Random(seed), []
    clients = [Client(daemon, seed * 10 + n) for n in range(3)]
    for client in clients:
        client.start()
    for _ in range(100 if LONG else 6):
        time.sleep(chance.uniform(0.05, 0.8) * SCALE)
        kills.append(time.time())
        daemon.stop(signal.SIGKILL)
        daemon.start()
    for client in clients:
        client.stopped.set()
    for client in clients:
        client.join(60 * SCALE)
    accepted = {id: what for client in clients for id, what in client.accepted.items()}
    assert len(accepted) == sum(len(client.accepted) for client in clients) and len(accepted) > 20

    def left():
        return [e for state in ("queued", "running")
                for e in daemon.request("GET", f"/v1/queue?state={state}&limit=100000").json["events"]]
    wait_until(lambda: not left(), lambda: f"everything to end; left at {time.time()}: {left()}", 600 if LONG else 120)

    def hits(found):
        begin, end = (datetime.datetime.fromisoformat(found[key][:-1] + "+00:00").timestamp()
                      for key in ("accepted", "finished"))
        return sum(begin - 1 <= kill <= end + 1 for kill in kills)
    listed = [e for e in daemon.request("GET", "/v1/queue?limit=100000").json["events"] if "destination" not in e]
    by_id = {e["id"]: e for e in listed}
    assert len(by_id) == len(listed)
    runs = {name: runs_by_id(daemon, name) for name in ("traced", "chained", "told")}
    most = collections.Counter()
    for id, (name, fails) in accepted.items():
        found = by_id[id]
        assert found["state"] == ("failed" if fails else "succeeded"), found
        assert found["attempts"] == (3 if fails else 1), found
        if not fails:
            assert json.loads(event(daemon, id)["result"]) == {"id": id}
        extra = runs[name][id] - found["attempts"]
        assert extra <= hits(found), (found, runs[name][id], hits(found))
        most[max(0, extra)] += 1
    # Each outcome reached its destination, and no more often than kills explain.
    records = [json.loads(line) for line in file.read_text().splitlines()]
    written = collections.Counter(r["requestContext"]["requestId"] for r in records)
    posted = collections.Counter(sent["requestContext"]["requestId"] for _, _, sent in hook.received)
    chained = collections.Counter()
    for found in (e for e in listed if e["function"] == "told"):
        assert found["state"] == "succeeded", found
        chained[json.loads(event(daemon, found["id"])["payload"])["requestContext"]["requestId"]] += 1
    for id, (name, fails) in accepted.items():
        told = posted[id] if fails else written[id] if name == "traced" else chained[id]
        assert 1 <= told <= 1 + len(kills), (id, name, fails, told)
        if not fails and name == "chained":
            assert told == 1  # its record was accepted in the transaction that ended it
    again = sum(n - 1 for n in (written + posted).values() if n > 1)
    print(f"\n{len(kills)} kills, {len(accepted)} accepted, {sum(f for _, f in accepted.values())} of them failing; "
          f"runs beyond what was due: {dict(most)}; records delivered again: {again}")
    hook.close()
    daemon.stop()
    nothing_left(daemon)
