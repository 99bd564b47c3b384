# SPDX-License-Identifier: Apache-2.0
"""A collector of traces: an HTTP server whose judge of what arrives is OpenTelemetry's own protobuf.

`json_format.Parse` refuses a field that there is not, a wrong type and a number out of range. What OTLP's JSON has
different from protobuf's is undone before: ids are hexadecimal there, and base64 here.
"""
import base64
import http.server
import json
import threading

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

IDS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}


def as_protobuf(value):
    if isinstance(value, list):
        return [as_protobuf(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for name, each in value.items():
        if name in IDS:
            assert len(each) == IDS[name] and each == each.lower() and int(each, 16), f"{name}: {each}"
            made[name] = base64.b64encode(bytes.fromhex(each)).decode()
        else:
            made[name] = as_protobuf(each)
    return made


def parse(body):
    return json_format.Parse(json.dumps(as_protobuf(json.loads(body))),
                             trace_service_pb2.ExportTraceServiceRequest(), ignore_unknown_fields=False)


class Span:
    """One span, its ids as text and its times in nanoseconds."""

    def __init__(self, message):
        self.name, self.kind = message.name, message.kind
        self.trace, self.id, self.parent = message.trace_id.hex(), message.span_id.hex(), message.parent_span_id.hex()
        self.state = message.trace_state
        self.began, self.ended = message.start_time_unix_nano, message.end_time_unix_nano
        self.status = message.status
        self.attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in message.attributes}

    def __repr__(self):
        return f"{self.name} {self.id} below {self.parent or 'nobody'} {self.attributes}"


class Collector:
    """Answers `answers` one after the other, the last for ever: a status, or None for no answer at all."""

    def __init__(self, *answers, port=0):
        collector = self
        self.answers, self.requests, self.spans, self.problems = list(answers) or [200], [], [], []
        self.released = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answers = collector.answers
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                collector.requests.append((self.path, dict(self.headers), answer))
                if answer is None:
                    collector.released.wait()
                    return
                if answer == 200:
                    collector.take(self.headers, body)
                self.send_response(answer)
                if answer in (429, 503):
                    self.send_header("Retry-After", "0")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "0" if answer == 204 else "2")
                self.end_headers()
                if answer != 204:
                    self.wfile.write(b"{}")

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, headers, body):
        try:
            assert headers["Content-Type"] == "application/json"
            for resource in parse(body).resource_spans:
                told = {a.key: a.value.string_value for a in resource.resource.attributes}
                assert told["service.name"] == "ebb" and told["service.version"] and told["host.name"], told
                for scope in resource.scope_spans:
                    self.spans += [Span(message) for message in scope.spans]
        except Exception as problem:  # told by the test, not by a thread of the server
            self.problems.append(f"{problem!r} in {body[:2000]}")

    def of(self, name, **attributes):
        assert not self.problems, self.problems
        return [span for span in list(self.spans)
                if span.name == name and all(span.attributes.get(k) == v for k, v in attributes.items())]

    def below(self, span):
        return sorted((each for each in list(self.spans) if each.parent == span.id), key=lambda each: each.began)

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        assert not self.problems, self.problems
