# SPDX-License-Identifier: Apache-2.0
"""Runs an executable once for each event: the event on its standard input, its standard output is the answer.

What it writes to standard error goes to the log. An exit status other than 0 is an error of the function, with the end
of what it wrote there.
"""
import json
import os
import sys
import socket as _socket
from _thread import start_new_thread

HOST, _, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
BASE = "/2018-06-01/runtime/"
# More than the daemon takes: it then says itself that the answer was too large.
ANSWER_LIMIT = 8 << 20


def exchange(connection, method, path, body=b""):
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(connection)
    head, _, rest = data.partition(b"\r\n\r\n")
    fields = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    headers = {name.lower(): value.strip() for name, _, value in fields}
    while len(rest) < int(headers.get("content-length", "0")):
        rest += receive(connection)
    return headers, rest


def receive(connection):
    data = connection.recv(262144)
    if not data:
        os._exit(0)  # the daemon has gone, and with it the sandbox
    return data


# What the program is told of its request, by the header that says it; TRACEPARENT as OpenTelemetry has it.
TOLD = {
    "lambda-runtime-aws-request-id": "AWS_REQUEST_ID", "lambda-runtime-deadline-ms": "FN_DEADLINE_MS",
    "lambda-runtime-trace-id": "_X_AMZN_TRACE_ID", "traceparent": "TRACEPARENT", "tracestate": "TRACESTATE",
}


def run(program, event, headers):
    """Runs the program; returns its exit status, its output and the end of its standard error."""
    import selectors
    import subprocess
    environment = dict(os.environ, **{name: headers[header] for header, name in TOLD.items() if header in headers})
    process = subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd="/var/task")
    output, errors = bytearray(), b""
    with selectors.DefaultSelector() as selector:
        event = memoryview(event)
        for stream, wanted in ((process.stdin, selectors.EVENT_WRITE), (process.stdout, selectors.EVENT_READ), (process.stderr, selectors.EVENT_READ)):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, wanted)
        while selector.get_map():
            for key, _ in selector.select():
                stream = key.fileobj
                if stream is process.stdin:
                    try:
                        event = event[os.write(stream.fileno(), event[:65536]):] if event else event
                    except BrokenPipeError:
                        event = event[:0]
                    if not event:
                        selector.unregister(stream)
                        stream.close()
                    continue
                data = os.read(stream.fileno(), 65536)
                if not data:
                    selector.unregister(stream)
                elif stream is process.stdout:
                    if len(output) <= ANSWER_LIMIT:
                        output += data
                else:
                    os.write(2, data)
                    errors = (errors + data)[-2048:]
    return process.wait(), bytes(output), errors


def await_function(connection):
    """Waits until this runtime, which was started ahead, is a function's; its files are there then."""
    import selectors, subprocess  # noqa: E401,F401  before anybody waits for them
    _, body = exchange(connection, "GET", "/fn/function")
    environment = json.loads(body)["environment"]
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    os.chdir("/var/task")


def main():
    connection = connect()
    if "FN_PREWARMED" in os.environ:
        await_function(connection)
    program = os.path.join("/var/task", os.environ.get("_HANDLER", ""))
    if not (os.path.isfile(program) and os.access(program, os.X_OK)):
        message = f"'{os.environ.get('_HANDLER', '')}' is not an executable file of the function"
        document = {"errorType": "Runtime.InvalidEntrypoint", "errorMessage": message}
        exchange(connection, "POST", f"{BASE}init/error", json.dumps(document).encode())
        os._exit(1)
    # Requests at once: so many threads ask for work, each on a connection of its own.
    for _ in range(int(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY") or 1) - 1):
        start_new_thread(serve_in_thread, (program,))
    serve(connection, program)


def connect():
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    connection.connect((HOST, int(PORT)))
    connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    return connection


def serve_in_thread(program):
    """What would end the process on its main thread ends it from any."""
    try:
        serve(connect(), program)
    finally:
        os._exit(1)


def serve(connection, program):
    while True:
        headers, event = exchange(connection, "GET", f"{BASE}invocation/next")
        request_id = headers["lambda-runtime-aws-request-id"]
        status, output, errors = run(program, event, headers)
        if status == 0:
            exchange(connection, "POST", f"{BASE}invocation/{request_id}/response", output)
            continue
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        message = f"the command ended with {how}: {errors.decode('utf-8', 'replace').strip()}"
        document = {"errorType": "Command.ExitError", "errorMessage": message, "exitStatus": status, "requestId": request_id}
        exchange(connection, "POST", f"{BASE}invocation/{request_id}/error", json.dumps(document).encode())


main()
