# SPDX-License-Identifier: Apache-2.0
"""Runs Python functions: a Lambda Runtime API client over one raw socket.

Written for a small start: only what every function needs is imported, and HTTP is spoken by hand, since http.client
alone would more than double the time to the first event. The answer to one event and the request for the next leave in
one write.

A handler that returns an iterator, as a generator function does, streams: each item leaves as soon as it is there. Items
are bytes, or str, which is sent as UTF-8; the first may be a dict with statusCode, headers and cookies, which heads an
answer at /url.
"""
import os
import sys

sys.path[:0] = ["/var/task"]
if os.path.isdir("/opt/python"):  # of a layer: after the function's own, before the standard library, as Lambda has it
    sys.path[1:1] = ["/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2], "/opt/python"]
sys.path += ["/usr/lib/python3/dist-packages"]

import _json  # noqa: E402,F401  (the C accelerator: json itself follows with the first event)
import _socket  # noqa: E402
import json  # noqa: E402

HOST, _, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")


def encode_more(value):
    """What Lambda's own client writes, too, beside JSON's own types."""
    decimal = sys.modules.get("decimal")  # who has one has loaded it
    if decimal and isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


encode = json.JSONEncoder(ensure_ascii=False, default=encode_more).encode  # json.dumps would make one for each answer
# A line that is printed is out, whatever ends the process after it.
sys.stdout.reconfigure(line_buffering=True)
BASE = "/2018-06-01/runtime/"
# Requests at once: so many threads ask for work, each on a connection of its own.
PLACES = int(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY") or 1)


class Connection:
    """One keep-alive connection to the Runtime API."""

    def __init__(self):
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.connect((HOST, int(PORT)))
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data):
        try:
            sent = self.socket.send(data)
            while sent < len(data):  # a large answer
                data = memoryview(data)[sent:]
                sent = self.socket.send(data)
        except OSError:
            os._exit(0)  # the daemon has gone, and with it the sandbox

    def receive(self):
        """Reads one response: its headers, by lower-case name, and its body."""
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end >= 0:
                break
            self.buffer += self._read()
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        del lines[0]  # the status: the headers tell an event from the rest
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        start = end + 4
        end = start + int(headers.get("content-length", "0"))
        if end > len(self.buffer):
            return headers, self._long_body(start, end - start)
        body = self.buffer[start:end]
        self.buffer = self.buffer[end:]
        return headers, body

    def _long_body(self, start, length):
        """The rest of a body that has not arrived whole, read to where it is wanted."""
        body = bytearray(length)
        filled = len(self.buffer) - start
        body[:filled] = memoryview(self.buffer)[start:]
        self.buffer = b""
        with memoryview(body) as view:
            while filled < length:
                count = self.socket.recv_into(view[filled:])
                if not count:
                    os._exit(0)
                filled += count
        return body

    def _read(self):
        # From 128 KiB on the C library would map and unmap memory for each read, which costs more than the read does.
        data = self.socket.recv(16384)
        if not data:
            os._exit(0)  # the daemon has gone, and with it the sandbox
        return data


def await_function(connection):
    """Waits until this runtime, which was started ahead, is a function's; its files are there then."""
    # What every first event needs is there before anybody waits for it, and what its making left behind has gone.
    import importlib, linecache, time, traceback  # noqa: E401,F401
    json.loads(json.dumps({"a": [1, 2.5, None, "ü"]}, ensure_ascii=False))
    compile("0", "", "exec")  # the first one of a process makes all types of its syntax tree, which takes most of a ms
    give_back()
    connection.send(f"GET /fn/function HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    _, body = connection.receive()
    environment = json.loads(body)["environment"]
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment.items() - os.environ.items())
    time.tzset()
    os.chdir("/var/task")
    sys.path_importer_cache.clear()  # the directory was empty when it was looked at


NEXT = f"GET {BASE}invocation/next HTTP/1.1\r\nHost: {HOST}\r\nFn-Hints: 1\r\n\r\n".encode()


def give_back():
    """Answers an idle hint: garbage goes, and the C library returns what is free to the kernel."""
    import gc
    gc.collect()
    try:
        import ctypes
        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, AttributeError, OSError):
        pass  # not this C library: the garbage is gone all the same


def post(path, body, error_type=None):
    extra = f"Lambda-Runtime-Function-Error-Type: {error_type}\r\n" if error_type else ""
    head = f"POST {BASE}{path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Context:
    """What Lambda hands to a handler beside the event."""

    # What is the same for every event: asking the environment takes longer than parsing an event does.
    of_function = {"identity": None}
    trace = None  # as the environment has it

    @classmethod
    def learn(cls):
        for name in ("function_name", "function_version", "log_group_name", "log_stream_name"):
            cls.of_function[name] = os.environ.get("AWS_LAMBDA_" + name.upper(), "")
        cls.of_function["memory_limit_in_mb"] = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")

    def __init__(self, headers):
        self.__dict__.update(self.of_function)
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id", "")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn", "")
        context = headers.get("lambda-runtime-client-context")
        self.traceparent = headers.get("traceparent")  # W3C Trace Context, where there is one
        self.tracestate = headers.get("tracestate")
        self.client_context = _ClientContext(json.loads(context)) if context else None
        self._deadline_ms = int(headers.get("lambda-runtime-deadline-ms", "0"))

    def get_remaining_time_in_millis(self):
        import time
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message):
        sys.stdout.write(str(message))


class _ClientContext:
    def __init__(self, values):
        self.client = values.get("client")
        self.custom = values.get("custom")
        self.env = values.get("env")


def error_document(error, request_id, kind=None, skip=0):
    """The document that Lambda's own client sends: type, message, and the frames of the function's code."""
    import traceback
    frames = traceback.extract_tb(error.__traceback__)[skip:] if error is not None else []
    return {
        "errorMessage": str(error),
        "errorType": kind or type(error).__name__,
        "requestId": request_id,
        "stackTrace": traceback.format_list(frames),
    }


def log_error(document):
    trace = "".join(document["stackTrace"])
    sys.stdout.write(f"[ERROR] {document['errorType']}: {document['errorMessage']}\n{trace}")
    sys.stdout.flush()


class HandlerError(Exception):
    """The handler cannot be loaded; carries the Runtime API's name for the reason."""

    def __init__(self, kind, message, cause=None):
        super().__init__(message)
        self.kind = kind
        self.__traceback__ = cause.__traceback__ if cause is not None else None


def load_handler(name):
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        raise HandlerError("Runtime.MalformedHandlerName", f"Bad handler '{name}': expected module.function")
    try:
        import importlib
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        raise HandlerError("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}", error)
    except SyntaxError as error:
        where = f"{error.filename} Line {error.lineno}"
        raise HandlerError("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {error.msg} ({where})")
    handler = getattr(module, function_name, None)
    if not callable(handler):
        raise HandlerError("Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'")
    return handler


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_item(item):
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    raise TypeError(f"a streamed answer is made of bytes and str, not {type(item).__name__}")


def stream(connection, items, request_id):
    """Sends what an iterator yields as it comes; returns the end of the request that answers.

    An error before the first item is the caller's to tell. Later ones are told behind what has been sent.
    """
    first = next(items, b"")
    kind = "application/octet-stream"
    if isinstance(first, dict):
        kind = "application/vnd.awslambda.http-integration-response"
        first = json.dumps(first).encode() + bytes(8)
    first = stream_item(first)
    trailers = "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"
    head = f"POST {BASE}invocation/{request_id}/response HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\nTrailer: {trailers}\r\n\r\n"
    connection.send(head.encode() + (chunk(first) if first else b""))
    try:
        for item in items:
            data = stream_item(item)
            if data:
                connection.send(chunk(data))
    except Exception as error:
        document = error_document(error, request_id, skip=1)
        log_error(document)
        import base64
        text = base64.b64encode(json.dumps(document).encode()).decode()
        end = f"0\r\nLambda-Runtime-Function-Error-Type: {document['errorType']}\r\nLambda-Runtime-Function-Error-Body: {text}\r\n\r\n"
        return end.encode()
    return b"0\r\n\r\n"


def run(connection, handler, headers, body):
    """Runs one event; returns the request that answers it, or the end of it."""
    request_id = headers["lambda-runtime-aws-request-id"]
    trace = headers.get("lambda-runtime-trace-id")
    if PLACES == 1 and trace != Context.trace:
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace
        else:
            os.environ.pop("_X_AMZN_TRACE_ID", None)  # the last request's
        Context.trace = trace
    try:
        result = handler(json.loads(body), Context(headers))
        if hasattr(result, "__next__"):
            return stream(connection, result, request_id)
        try:
            answer = encode(result).encode()
        except (TypeError, ValueError, UnicodeError) as error:
            document = error_document(None, request_id, "Runtime.MarshalError")
            document["errorMessage"] = f"Unable to marshal response: {error}"
            log_error(document)
            return post(f"invocation/{request_id}/error", json.dumps(document).encode())
        return post(f"invocation/{request_id}/response", answer)
    except Exception as error:  # whatever the function raises is its answer
        document = error_document(error, request_id, skip=1)
        log_error(document)
        return post(f"invocation/{request_id}/error", json.dumps(document).encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def main():
    connection = Connection()
    if os.environ.get("FN_PREWARMED"):
        await_function(connection)
    Context.learn()
    try:
        handler = load_handler(os.environ.get("_HANDLER", ""))
    except BaseException as error:
        kind = getattr(error, "kind", None) or f"Runtime.{type(error).__name__}"
        document = error_document(error, "", kind)
        log_error(document)
        connection.send(post("init/error", json.dumps(document).encode(), kind))
        connection.receive()
        os._exit(1)
    if PLACES > 1:
        from _thread import start_new_thread
        for _ in range(PLACES - 1):
            start_new_thread(serve_in_thread, (handler,))
    serve(connection, handler)


def serve_in_thread(handler):
    """What would end the process on its main thread ends it from any."""
    try:
        serve(Connection(), handler)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else end.code is not None)
    except BaseException as error:
        log_error(error_document(error, ""))
        os._exit(1)


def serve(connection, handler):
    connection.send(NEXT)
    while True:
        headers, body = connection.receive()
        if headers.get("fn-event") == "idle":
            give_back()
            connection.send(NEXT)
            continue
        if "lambda-runtime-aws-request-id" not in headers:
            continue  # the answer to a response or an error: the event is behind it
        connection.send(run(connection, handler, headers, body) + NEXT)


main()
