# SPDX-License-Identifier: Apache-2.0
"""Traces: what a collector that knows nothing of us makes of what it is sent."""
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from collector import Collector
from conftest import SCALE, wait_until
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TOLD = """
import os
def handle(event, context):
    told = {"traceparent": context.traceparent, "tracestate": context.tracestate,
            "amazon": os.environ.get("_X_AMZN_TRACE_ID")}
    if event.get("fails"):
        raise ValueError("no")
    if event.get("sleeps"):
        import time
        time.sleep(event["sleeps"])
    return told
"""
EATS = """
import time
def handle(event, context):
    held = []
    for n in range(160):
        held.append(bytearray(b"x" * (1 << 20)))
        time.sleep(0.02)
    return len(held)
"""
NODE = """
export const handle = async (event, context) => ({
    traceparent: context.traceparent, tracestate: context.tracestate,
});
"""
SLOW = "import time\ndef handle(event, context):\n    time.sleep(1)\n    return context.traceparent"
SHELL = '#!/bin/sh\nprintf \'{"traceparent": "%s", "amazon": "%s"}\' "$TRACEPARENT" "$_X_AMZN_TRACE_ID"\n'


def settings(collector, sample="100%", more=""):
    return f"tracing: {{otlp: '{collector.url}', sample: {sample}{more}}}\n"


def parent(sampled=True):
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, {"traceparent": f"00-{trace}-{span}-0{int(sampled)}"}


def place(told):
    """What OpenTelemetry's own propagator reads."""
    headers = {name: told[name] for name in ("traceparent", "tracestate") if told.get(name)}
    return get_current_span(TraceContextTextMapPropagator().extract(headers)).get_span_context()


def find(collector, name, **attributes):
    return wait_until(lambda: collector.of(name, **attributes), f"the span {name} with {attributes}", 20)[0]


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def traced(own_daemon, collector):
    daemon = own_daemon(settings(collector)).start()
    daemon.deploy_code("told", {"app.py": TOLD})
    return daemon


def assert_nested(collector, span):
    below = collector.below(span)
    for each in below:
        assert span.began <= each.began <= each.ended <= span.ended, (span, each)
        assert_nested(collector, each)
    return {each.name: each for each in below}


def test_a_cold_and_a_warm_call_are_told_step_by_step(traced, collector):
    before = time.time_ns()
    cold, warm = traced.invoke("told"), traced.invoke("told")
    ids = [answer.headers["x-fn-request-id"] for answer in (cold, warm)]
    roots = [find(collector, "invoke told", **{"faas.invocation_id": id}) for id in ids]
    steps = [assert_nested(collector, root) for root in roots]
    assert list(steps[0]) == ["queue", "cold_start", "run"]
    # On a slow machine it may have been shrunk meanwhile.
    assert {"queue", "run"} <= set(steps[1]) <= {"queue", "grow", "thaw", "run"}
    assert [each.name for each in collector.below(steps[0]["cold_start"])] == ["launch", "init"]
    sandbox = traced.sandboxes("told")[0]["id"]
    for root, answer, is_cold in zip(roots, (cold, warm), (True, False)):
        told = root.attributes
        assert root.kind == 2 and not root.parent and before <= root.began and root.ended <= time.time_ns()
        assert told["faas.name"] == "told" and told["faas.trigger"] == "http" and told["faas.version"] == "$LATEST"
        assert told["faas.coldstart"] is is_cold and told["faas.instance"] == sandbox
        assert told["faas.max_memory"] == told["ebb.memory.limit"] == 128 << 20
        assert told["ebb.start"] == answer.headers["x-fn-start"] and told["ebb.outcome"] == "ok"
        assert (told["http.request.method"], told["http.route"]) == ("POST", "/invoke/{function}")
        assert told["url.path"] == "/invoke/told" and told["http.response.status_code"] == 200
        assert root.status.code == 0
    # The function is told to put its own spans below `run`.
    for root, step, answer in zip(roots, steps, (cold, warm)):
        there = place(answer.json)
        assert (f"{there.trace_id:032x}", f"{there.span_id:016x}") == (root.trace, step["run"].id)
        assert there.trace_flags.sampled
        amazon = f"Root=1-{root.trace[:8]}-{root.trace[8:]};Parent={step['run'].id};Sampled=1"
        assert answer.json["amazon"] == amazon
    assert roots[0].trace != roots[1].trace


def test_the_callers_trace_is_gone_on_with_at_every_door(traced, collector):
    doors = [
        ("/invoke/told", "/invoke/{function}"), ("/url/told/a/b", "/url/{function}/{path}"),
        ("/2015-03-31/functions/told/invocations", "/2015-03-31/functions/{FunctionName}/invocations"),
    ]
    for path, route in doors:
        trace, span, headers = parent()
        told = traced.request("POST", path, b"{}", {**headers, "tracestate": "rojo=1,congo=2"}).json
        root = find(collector, "invoke told", **{"http.route": route})
        assert (root.trace, root.parent, root.state) == (trace, span, "rojo=1,congo=2")
        assert f"{place(told).trace_id:032x}" == trace and place(told).trace_state.to_header() == "rojo=1,congo=2"
    # Amazon's header, where it is alone, names the parent too, and is passed on as it came.
    amazon = f"Root=1-{'12' * 4}-{'ab' * 12};Parent={'cd' * 8};Sampled=1"
    assert traced.invoke("told", headers={"X-Amzn-Trace-Id": amazon}).json["amazon"] == amazon
    below = wait_until(lambda: [s for s in collector.of("invoke told") if s.parent == "cd" * 8], "the span")
    assert below[0].trace == "12" * 4 + "ab" * 12
    # What is no traceparent begins a trace.
    told = traced.invoke("told", headers={"traceparent": "00-zz", "tracestate": "a=b"}).json
    assert place(told).is_valid and told["tracestate"] is None


def test_every_runtime_tells_its_functions(traced, collector):
    traced.deploy_code("node", {"app.mjs": NODE}, "node", "app.handle")
    traced.deploy_code("shell", {"run.sh": SHELL}, "command", "run.sh")
    for name in ("node", "shell"):
        trace, _, headers = parent()
        told = traced.invoke(name, headers=headers).json
        run = collector.below(find(collector, f"invoke {name}"))[-1]
        assert place(told).is_valid and told["traceparent"] == f"00-{trace}-{run.id}-01"
    assert told["amazon"].startswith(f"Root=1-{trace[:8]}-")


def test_who_says_not_sampled_is_not_recorded_and_the_function_is_told_so(traced, collector):
    trace, span, headers = parent(sampled=False)
    told = traced.invoke("told", headers=headers).json
    assert f"{place(told).trace_id:032x}" == trace and not place(told).trace_flags.sampled
    traced.invoke("told")
    find(collector, "invoke told")
    assert not [s for s in collector.spans if s.trace == trace]


def test_the_share_of_traces_and_the_collector_change_while_the_daemon_runs(own_daemon, collector, tmp_path):
    daemon = own_daemon(settings(collector, "0%")).start()
    daemon.deploy_code("told", {"app.py": TOLD})
    assert not place(daemon.invoke("told").json).trace_flags.sampled
    daemon.config.write_text(settings(collector, "100%"))
    assert daemon.request("POST", "/v1/config/reload").status == 200
    traced = daemon.invoke("told").headers["x-fn-request-id"]
    find(collector, "invoke told", **{"faas.invocation_id": traced})
    assert len(collector.of("invoke told")) == 1
    key = tmp_path / "headers"
    key.touch(0o600)
    key.write_text("X-Api-Key: added\n")
    daemon.config.write_text(settings(collector, more=f", headers: {key}"))  # tracing.headers
    assert daemon.request("POST", "/v1/config/reload").status == 200
    daemon.invoke("told")
    wait_until(lambda: len(collector.of("invoke told")) == 2, "the next span", 20)
    assert collector.requests[-1][1]["X-Api-Key"] == "added"
    daemon.config.write_text("")
    daemon.request("POST", "/v1/config/reload")
    # Off: what the caller said is passed on as it came, and where nobody said anything, an id that is nobody's.
    told = daemon.invoke("told").json
    assert (told["traceparent"], told["tracestate"]) == (None, None) and told["amazon"].endswith(";Sampled=0")
    _, _, headers = parent()
    told = daemon.invoke("told", headers=headers).json
    assert told["traceparent"] == headers["traceparent"]
    # One trace, in either form.
    _, trace, span, flags = headers["traceparent"].split("-")
    assert told["amazon"] == f"Root=1-{trace[:8]}-{trace[8:]};Parent={span};Sampled={int(flags, 16) & 1}"
    daemon.stop()
    assert len(collector.of("invoke told")) == 2


def test_errors_have_a_status_and_do_not_carry_what_the_function_said(traced, collector):
    traced.invoke("told", {"fails": True})
    root = find(collector, "invoke told", **{"ebb.outcome": "function_error"})
    run = collector.below(root)[-1]
    assert root.status.code == run.status.code == 2 and root.attributes["error.type"] == "function_error"
    assert root.attributes["http.response.status_code"] == 502
    traced.invoke("told", {"sleeps": 60}, {"X-Fn-Timeout-Ms": "300"})
    root = find(collector, "invoke told", **{"ebb.outcome": "timeout"})
    assert root.status.message == "the function timed out" and root.attributes["http.response.status_code"] == 504
    # Lambda's API answers 200 to what its function did wrong.
    traced.request("POST", "/2015-03-31/functions/told/invocations", b'{"fails": true}')
    root = find(collector, "invoke told", **{"http.route": "/2015-03-31/functions/{FunctionName}/invocations"})
    assert root.attributes["http.response.status_code"] == 200 and root.status.code == 2
    traced.deploy_code("broken", {"app.py": "import nothing_of_that_name"})
    traced.invoke("broken")
    root = find(collector, "invoke broken")
    steps = assert_nested(collector, root)
    assert root.status.code == 2 and steps["cold_start"].status.code == 2 and "run" not in steps
    assert not [s for s in collector.spans if "nothing_of_that_name" in f"{s!r} {s.status.message}"]


def test_waiting_for_a_busy_sandbox_is_told_as_such(traced, collector):
    traced.deploy_code("alone", {"app.py": TOLD, "function.yaml": "concurrency: 1\ntimeout: 60s\n"})
    traced.invoke("alone")
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: traced.invoke("alone", {"sleeps": 0.5 * SCALE}), range(2)))
    queues = []
    for answer in answers:
        root = find(collector, "invoke alone", **{"faas.invocation_id": answer.headers["x-fn-request-id"]})
        queue = assert_nested(collector, root)["queue"]
        queues.append((queue.ended - queue.began) / (root.ended - root.began))
    # One ran at once; the other waited for about half of its time.
    assert min(queues) < 0.3 < max(queues), queues


def test_an_accepted_event_goes_on_with_its_trace_through_its_attempts(own_daemon, collector):
    daemon = own_daemon(settings(collector) + "defaults: {backoff: 100ms, retries: 1}\n").start()
    daemon.deploy_code("told", {"app.py": TOLD})
    trace, span, headers = parent()
    accepted = daemon.request("POST", "/invoke/told", b'{"fails": true}', {**headers, "X-Amz-Invocation-Type": "Event"})
    assert accepted.status == 202
    runs = wait_until(lambda: len(collector.of("invoke told")) == 2 and collector.of("invoke told"), "two attempts", 30)
    accept = find(collector, "accept told")
    assert (accept.trace, accept.parent, accept.kind) == (trace, span, 4)
    assert [run.attributes["ebb.attempt"] for run in sorted(runs, key=lambda run: run.began)] == [1, 2]
    for run in runs:
        assert (run.trace, run.parent, run.kind) == (trace, accept.id, 5)
        assert run.attributes["faas.trigger"] == "pubsub" and run.began >= accept.began
        assert run.attributes["faas.invocation_id"] == accept.attributes["messaging.message.id"]


def test_a_trace_survives_a_restart_and_reaches_a_destination(own_daemon, collector):
    daemon = own_daemon(settings(collector)).start()
    hook = Collector(204)
    daemon.deploy_code("told", {"app.py": TOLD, "function.yaml": f"events: {{on_success: '{hook.url}/done'}}\n"})
    trace, _, headers = parent()
    # No more than accepted before the daemon is killed.
    daemon.deploy_code("slow", {"app.py": SLOW})
    accepted = daemon.request("POST", "/invoke/slow", b"{}", {**headers, "X-Amz-Invocation-Type": "Event"})
    daemon.stop(9)
    daemon.start()
    root = find(collector, "invoke slow", **{"faas.invocation_id": accepted.headers["x-fn-request-id"]})
    assert root.trace == trace
    daemon.request("POST", "/invoke/told", b"{}", {**headers, "X-Amz-Invocation-Type": "Event"})
    path, sent, _ = wait_until(lambda: hook.requests, "the record", 30)[0]
    assert path == "/done" and sent["traceparent"].startswith(f"00-{trace}-")
    hook.close()


def metric(daemon, name, **labels):
    wanted = name + ("{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}" if labels else "")
    for line in daemon.request("GET", "/metrics").body.decode().splitlines():
        if line.startswith(f"{wanted} "):
            return float(line.split()[-1])
    return None


@pytest.mark.parametrize("status", [429, 503])
def test_a_collector_that_has_no_time_now_gets_the_spans_later(own_daemon, status):
    collector = Collector(status, status, 200)
    daemon = own_daemon(settings(collector)).start()
    daemon.deploy_code("told", {"app.py": TOLD})
    daemon.invoke("told")
    find(collector, "invoke told")
    wait_until(lambda: metric(daemon, "fn_trace_spans_exported_total") >= 4, "the count")
    assert metric(daemon, "fn_trace_export_failures_total") == 2
    assert metric(daemon, "fn_trace_spans_dropped_total", reason="unreachable") == 0
    assert len(collector.of("invoke told")) == 1
    collector.close()


def test_without_a_collector_there_calls_go_on_and_spans_arrive_when_it_comes(own_daemon):
    gone = Collector()
    gone.close()
    daemon = own_daemon(settings(gone)).start()
    daemon.deploy_code("told", {"app.py": TOLD})
    assert all(daemon.invoke("told").status == 200 for _ in range(20))
    wait_until(lambda: metric(daemon, "fn_trace_export_failures_total") >= 1, "a failure to be counted", 20)
    assert "cannot be reached" in daemon.log
    back = Collector(port=gone.port)
    wait_until(lambda: len(back.of("invoke told")) == 20, "all that waited", 30)
    back.close()


def test_a_collector_that_hangs_costs_calls_nothing_and_the_end_is_not_held_up(own_daemon):
    collector = Collector(None)
    daemon = own_daemon(settings(collector)).start()
    daemon.deploy_code("told", {"app.py": TOLD})
    daemon.invoke("told")
    wait_until(lambda: collector.requests, "the first batch", 20)
    began = time.monotonic()
    for _ in range(50):
        assert daemon.invoke("told").status == 200
    assert time.monotonic() - began < 120
    began = time.monotonic()
    daemon.stop()
    assert daemon.process.returncode == 0 and "spans could not be sent before the end" in daemon.log
    collector.close()


def test_spans_of_the_last_moment_are_sent_before_the_daemon_ends(traced, collector):
    ids = [traced.invoke("told").headers["x-fn-request-id"] for _ in range(10)]
    traced.stop()
    assert {span.attributes["faas.invocation_id"] for span in collector.of("invoke told")} == set(ids)


def test_the_collectors_key_is_sent_and_stands_in_no_log(own_daemon, collector, tmp_path):
    key = tmp_path / "headers"
    key.write_text("X-Api-Key: s3cret-of-the-collector\n")
    key.chmod(0o600)
    daemon = own_daemon(settings(collector, more=f", headers: {key}")).start()
    daemon.deploy_code("told", {"app.py": TOLD})
    daemon.invoke("told")
    find(collector, "invoke told")
    path, sent, _ = collector.requests[0]
    assert path == "/v1/traces" and sent["X-Api-Key"] == "s3cret-of-the-collector"
    key.chmod(0o644)
    daemon.invoke("told")
    wait_until(lambda: "has mode 0644" in daemon.log, "the refusal of a file that others can read", 20)
    key.chmod(0o600)
    wait_until(lambda: len(collector.of("invoke told")) == 2, "the span that waited", 20)
    shown = daemon.log + json.dumps(daemon.request("GET", "/v1/config").json)
    assert "s3cret" not in shown


def test_growing_thawing_and_resizing_are_steps_of_the_call_that_they_are_for(own_daemon, collector, limits):
    daemon = own_daemon(settings(collector) + "reclaim: {idle_after: 300ms}\n").start()
    daemon.deploy_code("told", {"app.py": TOLD})
    daemon.deploy_code("eats", {"app.py": EATS}, "python", "app.handle", "--memory", "64MiB",
                       "--memory-burst", "320MiB", "--timeout", "100s")
    daemon.invoke("told")
    daemon.sandbox("told", "shrunk")
    answer = daemon.invoke("told")
    root = find(collector, "invoke told", **{"faas.invocation_id": answer.headers["x-fn-request-id"]})
    steps = assert_nested(collector, root)
    assert root.attributes["ebb.start"] == "thawed" and {"queue", "grow", "thaw", "run"} <= set(steps)
    order = [steps[name] for name in ("queue", "grow", "thaw", "run")]
    assert all(one.ended <= next.began for one, next in zip(order, order[1:])), order
    assert steps["grow"].attributes["ebb.memory.limit"] == 128 << 20
    assert steps["grow"].attributes["ebb.memory.limit.before"] < 128 << 20
    answer = daemon.invoke("eats")
    assert answer.status == 200, answer.body
    root = find(collector, "invoke eats")
    run = assert_nested(collector, root)["run"]
    resizes = [span for span in collector.below(run) if span.name == "resize"]
    most = max(span.attributes["ebb.memory.limit"] for span in resizes)
    assert most == root.attributes["ebb.memory.limit"] > 160 << 20
    assert root.attributes["ebb.memory.peak"] > 160 << 20 and root.attributes["faas.max_memory"] == 64 << 20
