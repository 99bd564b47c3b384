# SPDX-License-Identifier: Apache-2.0
"""Functions that are container images: started as they say, over HTTP or the Runtime API."""
import base64
import concurrent.futures
import gzip
import hashlib
import json
import os
import pathlib
import socket
import threading

import boto3
import botocore.config
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from conftest import BIN, wait_until
from images import ARCHITECTURE, INDEX, Image, edited, entry, folder, python_layer, symlink, tar

CONFIG = "defaults: {timeout: 120s, init_timeout: 120s, memory: 256MiB}\nreclaim: {idle_after: 500ms}\n"

SERVER = '''
import base64, http.server, json, os, socket, sys, threading
together = threading.Barrier(3)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        if path == "/exit": os._exit(3)
        if path == "/hang-up": return self.connection.shutdown(socket.SHUT_RDWR)
        if path == "/together": together.wait(60)
        if path == "/chunks":
            self.begin(200, [("Transfer-Encoding", "chunked"), ("Content-Type", "text/plain")])
            for part in (b"one ", b"two ", "dr\\u00fc\\"".encode()):
                self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(part), part))
            return self.wfile.write(b"0\\r\\n\\r\\n")
        if path == "/until-the-end":
            self.begin(200, [("Connection", "close")])
            self.wfile.write(b"to the end")
            self.close_connection = True
            return
        if path == "/bytes": return self.whole(200, bytes(range(256)), [("Content-Type", "application/octet-stream")])
        if path == "/cookies":
            return self.whole(201, b"", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/"), ("X-Two", "1"), ("X-Two", "2")])
        if path == "/none": return self.begin(204, [])
        if path == "/fail": return self.whole(500, b"on purpose")
        if path == "/large": return self.whole(200, b"x" * (7 << 20))
        seen = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": base64.b64encode(body).decode()}
        if self.command == "POST" and path == "/" and self.headers.get("Content-Type") == "application/json":
            event = json.loads(body)
            if event == "text": return self.whole(200, b"plain words", [("Content-Type", "text/plain")])
            if event == "fail": return self.whole(500, b"on purpose")
            if event == "nothing": return self.begin(204, [])
            if isinstance(event, dict) and "say" in event: return self.whole(200, event["say"].encode())
            if event == "environment":
                seen = {"env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "argv": sys.argv, "pid": os.getpid(),
                        "status": open("/proc/self/status").read(), "mounts": sorted(os.listdir("/proc"))}
        self.whole(200, json.dumps(seen).encode(), [("Content-Type", "application/json")])

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

    def begin(self, status, headers):
        self.send_response(status)
        for name, value in headers: self.send_header(name, value)
        self.end_headers()

    def whole(self, status, body, headers=()):
        self.begin(status, [*headers, ("Content-Length", str(len(body)))])
        if self.command != "HEAD": self.wfile.write(body)

    def log_message(self, *_): pass

print("the server starts")
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
'''

LOOP = '''#!/usr/bin/python3
import os, urllib.request
API = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"
while True:
    with urllib.request.urlopen(f"{API}/next", timeout=None) as event:
        name, body = event.headers["Lambda-Runtime-Aws-Request-Id"], event.read()
    urllib.request.urlopen(f"{API}/{name}/response", data=b'{"loop": %s}' % body).close()
'''

BASE = python_layer()
APP = tar(entry("srv/server.py", SERVER), entry("bin/loop", LOOP, mode=0o755), entry("srv/big/.keep"),
          # Where this runtime mounts, the image has other ideas.
          symlink("run", "/etc"), entry("etc/fn", "a file where a directory is wanted"))
RUN = {"Entrypoint": ["python3", "/srv/server.py"], "Cmd": ["8000"], "ExposedPorts": {"8000/tcp": {}, "53/udp": {}},
       "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "COLOUR=blue", "EMPTY="], "WorkingDir": "/srv/work/deep", "User": "www:www",
       "StopSignal": "SIGQUIT"}


def make(config=None, packing="+gzip", *more, **top):
    return Image(BASE, APP, *more, packing=packing, config=edited(RUN, **(config or {})), **top)


def deploy(daemon, path, name, *arguments, **options):
    result = daemon.fn("deploy", "--image", path, "--name", name, *arguments, **options)
    assert result.returncode == 0, result.stderr.decode()
    return result.stderr.decode()


def stored(daemon):
    """What there is, without what is on its way out and has another name by then."""
    return {path.name for path in (daemon.directory / "state" / "code").iterdir() if not path.name.startswith(".gone-")}


@pytest.fixture(scope="module")
def web(daemon):
    deploy(daemon, make().directory(daemon.directory / "web"), "web")
    return "/url/web"


def test_a_request_reaches_the_server_as_it_was_sent(daemon, web):
    answer = daemon.request("PUT", f"{web}/a%20b/c?x=1&y=%2F&x=2", b"\x00\xffbytes",
                            {"X-Word": "a, b", "Cookie": "k=v; l=w", "Content-Type": "application/octet-stream"})
    assert answer.status == 200, answer.body
    seen = answer.json
    assert (seen["method"], seen["path"], seen["body"]) == ("PUT", "/a%20b/c?x=1&y=%2F&x=2", "AP9ieXRlcw==")
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert (headers["x-word"], headers["cookie"], headers["content-length"]) == ("a, b", "k=v; l=w", "7")
    assert headers["host"] == f"127.0.0.1:{daemon.port}"
    assert headers["x-fn-request-id"] == answer.headers["x-fn-request-id"]
    assert int(headers["x-fn-deadline-ms"]) > 1_700_000_000_000


@pytest.mark.parametrize("path, status, body", [
    ("/chunks", 200, "one two drü\"".encode()), ("/until-the-end", 200, b"to the end"), ("/bytes", 200, bytes(range(256))),
    ("/none", 204, b""), ("/fail", 500, b"on purpose")])
def test_an_answer_reaches_the_caller_as_the_server_gave_it(daemon, web, path, status, body):
    for _ in range(2):  # over the connection that is kept, too
        answer = daemon.request("GET", web + path)
        assert (answer.status, answer.body) == (status, body)


def test_cookies_and_fields_that_come_twice_stay_what_they_are(daemon, web):
    connection = daemon.connect()
    connection.request("GET", f"{web}/cookies")
    response = connection.getresponse()
    fields = response.getheaders()
    response.read()
    assert response.status == 201
    assert [value for name, value in fields if name.lower() == "set-cookie"] == ["a=1", "b=2; Path=/"]
    assert [value for name, value in fields if name.lower() == "x-two"] == ["1, 2"]
    head = daemon.request("HEAD", f"{web}/anything")
    assert (head.status, head.body) == (200, b"")


def test_any_other_event_is_posted_and_the_body_is_the_answer(daemon, web):
    answer = daemon.invoke("web", {"any": ["event", "ü"]})
    assert answer.status == 200, answer.body
    assert json.loads(base64.b64decode(answer.json["body"])) == {"any": ["event", "ü"]}
    assert (answer.json["method"], answer.json["path"]) == ("POST", "/")
    assert daemon.invoke("web", "text").json == "plain words"
    assert daemon.invoke("web", "nothing").json is None
    failed = daemon.fn("invoke", "web", "-d", '"fail"')
    assert failed.returncode == 100
    assert json.loads(failed.stdout) == {"errorType": "Http.Status", "errorMessage": "the server answered 500: on purpose"}


def test_an_answer_that_is_no_json_is_a_text_however_it_begins(daemon, web):
    for text in ("test", "nurse", "2026-11-24", "1.", "01", "-", '"\\q"', '"\\u12"', "[1 2]", "[1,]", '{"a": tru}'):
        assert daemon.invoke("web", {"say": text}).json == text
    for document in ("-1.50e+3", "0", "true", '"\\u00fc\\n"', '[[], {"a": null}, false]', " 1 "):
        assert daemon.invoke("web", {"say": document}).body == document.encode()


def test_what_the_daemon_says_of_a_request_cannot_be_said_by_its_sender(daemon, web):
    answer = daemon.request("GET", f"{web}/x", headers={"X-Fn-Request-Id": "forged", "x-fn-deadline-ms": "1"})
    seen = {name.lower(): value for name, value in answer.json["headers"].items()}
    assert seen["x-fn-request-id"] == answer.headers["x-fn-request-id"]
    assert int(seen["x-fn-deadline-ms"]) > 1_700_000_000_000


def test_an_event_cannot_write_a_second_request_into_its_first(daemon, web):
    good = {"rawPath": "/x", "requestContext": {"http": {"method": "GET"}}}
    assert daemon.invoke("web", good).json["statusCode"] == 200
    for wrong in ({"rawPath": "/x HTTP/1.1\r\nA: b"}, {"rawPath": "x"}, {"rawQueryString": "a b"}, {"rawPath": "/\t"},
                  {"headers": {"a": "b\r\nc: d"}}, {"headers": {"a\n": "b"}}, {"cookies": ["a\r\n\r\nGET / HTTP/1.1"]},
                  {"requestContext": {"http": {"method": "GET /"}}}, {"body": "!", "isBase64Encoded": True}):
        answer = daemon.invoke("web", {**good, **wrong})
        assert (answer.status, answer.json["errorType"]) == (502, "Http.InvalidEvent"), wrong


def test_a_server_that_ends_or_hangs_up_is_a_502_and_the_next_request_works(daemon, web):
    answer = daemon.request("GET", f"{web}/hang-up")
    assert (answer.status, answer.json["errorType"]) == (502, "Http.NoAnswer")
    answer = daemon.request("GET", f"{web}/exit")
    assert (answer.status, answer.json["errorType"]) == (502, "Runtime.ExitError"), answer.body
    assert "exit status 3" in answer.json["errorMessage"]
    assert daemon.request("GET", f"{web}/x").status == 200
    answer = daemon.request("GET", f"{web}/large")
    assert (answer.status, answer.json["errorType"]) == (502, "Function.ResponseSizeTooLarge")
    assert daemon.request("GET", f"{web}/x").status == 200


def test_what_the_image_says_is_heeded_and_its_user_is_not(daemon, web):
    seen = daemon.invoke("web", "environment").json
    assert (seen["cwd"], seen["uid"], seen["argv"]) == ("/srv/work/deep", 1000, ["/srv/server.py", "8000"])
    env = seen["env"]
    assert (env["COLOUR"], env["EMPTY"], env["PATH"]) == ("blue", "", "/usr/local/bin:/usr/bin:/bin")
    assert (env["PORT"], env["AWS_LAMBDA_FUNCTION_NAME"]) == ("8000", "web")
    status = dict(line.split(":\t", 1) for line in seen["status"].splitlines())
    assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert "sys" not in seen["mounts"], "procfs is that of any sandbox"
    text = daemon.fn("describe", "web").stdout.decode()
    assert "http port:    8000" in text and "python3 /srv/server.py 8000  in /srv/work/deep" in text
    assert "image's user: www:www (a sandbox has its own)" in text
    image = daemon.describe("web")["image"]
    assert (image["exposedPorts"], image["stopSignal"], image["platform"]) == ([8000], "SIGQUIT", f"linux/{ARCHITECTURE}")
    row = daemon.fn("ls").stdout.decode().splitlines()[1].split()
    assert row[:2] == ["web", "http"]


def test_the_command_line_wins_over_the_image(daemon):
    path = make().archive(daemon.directory / "image.tar")
    deploy(daemon, path, "other", "--port", "8123", "--command", "8123", "--env", "COLOUR=red", "--memory", "192MiB")
    seen = daemon.invoke("other", "environment").json
    assert (seen["argv"], seen["env"]["COLOUR"], seen["env"]["PORT"]) == (["/srv/server.py", "8123"], "red", "8123")
    assert seen["env"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "192"
    deploy(daemon, path, "looped", "--port", "0", "--entrypoint", "loop")
    assert daemon.invoke("looped", [1]).json == {"loop": [1]}, "found in PATH, through a link to its directory"
    assert daemon.describe("looped")["image"]["command"] == []


@pytest.mark.parametrize("form", ["docker", "links", "zstd", "gzip outside", "stdin", "index"])
def test_every_form_of_an_image_is_taken(daemon, form, tmp_path):
    config = {"Entrypoint": ["/bin/loop"], "Cmd": None, "ExposedPorts": {}}
    path, name, options = tmp_path / "image.tar", "form", {}
    if form in ("docker", "links"):
        make(config, "", *([APP] if form == "links" else [])).docker(path, links=form == "links")
    elif form == "zstd":
        make(config, "+zstd").archive(path)
    elif form == "index":
        image = make(config)
        image.edit_index = lambda index: {**index, "manifests": [
            edited(index["manifests"][0], digest="sha256:" + "0" * 64, platform={"os": "linux", "architecture": "s390x"}),
            image.blob(edited(index, manifests=[edited(index["manifests"][0], platform={"os": "linux", "architecture": ARCHITECTURE}),
                                                edited(index["manifests"][0], digest="sha256:" + "1" * 64,
                                                       platform={"os": "unknown", "architecture": "unknown"})]), INDEX)]}
        image.archive(path)
    else:
        make(config).archive(path)
    if form == "gzip outside":
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    if form == "stdin":
        path, options = "-", {"stdin": path.read_bytes()}
    deploy(daemon, path, name, **options)
    assert daemon.invoke(name, {"form": form}).json == {"loop": {"form": form}}
    daemon.fn("rm", "--yes", name)


def test_a_program_without_any_library_starts_from_an_image_of_nothing_else(daemon, tmp_path):
    layer = tar(entry("only", pathlib.Path(BIN, "fn-bridge").read_bytes(), mode=0o755))
    deploy(daemon, Image(layer, config={"Entrypoint": ["/only"]}).archive(tmp_path / "i.tar"), "only")
    answer = daemon.invoke("only")
    assert "exit status 64" in answer.json["errorMessage"], answer.body
    wait_until(lambda: b"usage: bridge PROGRAM" in daemon.fn("logs", "only").stdout, "what it printed")


def test_an_entrypoint_that_is_not_there_says_so(daemon, tmp_path):
    layer = tar(entry("only", "x"))
    for program, words in (("nobody", "cannot execute nobody: there is no such file, or the interpreter that it names is not in the image"),
                           ("/only", "cannot execute /only: it is not marked as executable")):
        for server in ([], ["--port", "8000"]):
            deploy(daemon, Image(layer, config={"Entrypoint": [program]}).archive(tmp_path / "i.tar"), "missing", *server)
            answer = daemon.invoke("missing")
            assert (answer.status, answer.json["errorType"]) == (502, "Runtime.InvalidEntrypoint")
            assert answer.json["errorMessage"] == words
            wait_until(lambda: words.encode() in daemon.fn("logs", "missing").stdout, "why")
    daemon.fn("rm", "--yes", "missing")


def test_an_image_is_kept_once_and_swept_when_nobody_is_it(daemon, tmp_path):
    before = stored(daemon)
    layer = tar(entry("one", "1"))
    image = Image(layer, config={"Entrypoint": ["/one"]})
    path = image.archive(tmp_path / "i.tar")
    assert "Deployed first (rev 1" in deploy(daemon, path, "first")
    place = daemon.directory / "state" / "code" / image.id / "tree" / "one"
    inode = place.stat().st_ino
    deploy(daemon, path, "second", "--port", "8000")
    assert "Deployed unchanged code of first" in deploy(daemon, path, "first")
    assert stored(daemon) == before | {image.id} and place.stat().st_ino == inode
    daemon.fn("rm", "--yes", "first")
    assert image.id in stored(daemon)
    other = Image(layer, config={"Entrypoint": ["/other"]})
    deploy(daemon, other.archive(path), "second")
    assert stored(daemon) == before | {other.id}, "what a deployment replaces goes at once"
    daemon.fn("rm", "--yes", "second")
    assert stored(daemon) == before


def test_a_new_image_takes_over_while_requests_go_on_and_the_old_one_goes(daemon, tmp_path):
    def path(word):
        return make({"Env": [f"WORD={word}"]}).archive(tmp_path / f"{word}.tar")

    def word():
        answer = daemon.invoke("rolling", "environment")
        assert answer.status == 200, answer.body
        return answer.json["env"]["WORD"]

    old, new = path("old"), path("new")
    deploy(daemon, old, "rolling")
    first = daemon.describe("rolling")["image"]["id"]
    seen, stop = [], threading.Event()

    def call():
        while not stop.is_set():
            seen.append(word())

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(call) for _ in range(2)]
        wait_until(lambda: len(seen) > 4, "some answers of the old one", 60)
        deploy(daemon, new, "rolling")
        wait_until(lambda: seen[-3:] == ["new"] * 3, "answers of the new one", 60)
        stop.set()
        for each in callers:
            each.result()
    wait_until(lambda: first not in stored(daemon), "the old one to go with the last sandbox of it")
    # Nor does the daemon hold its files: the disk has its room again.
    held = f"{daemon.directory}/state/code/{first}"
    wait_until(lambda: not [path for path in daemon.descriptors().values() if held in path], "its files to be let go")
    daemon.fn("rm", "--yes", "rolling")


def test_an_image_serves_several_requests_at_once_where_it_is_told_so(daemon):
    deploy(daemon, make().archive(daemon.directory / "image.tar"), "many", "--per-sandbox", "3", "--concurrency", "1")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for answer in pool.map(lambda _: daemon.request("GET", "/url/many/together"), range(3)):
            assert answer.status == 200, answer.body
    daemon.fn("rm", "--yes", "many")


def test_an_idle_image_is_shrunk_and_wakes(daemon, limits):
    deploy(daemon, make().archive(daemon.directory / "image.tar"), "idle", "--concurrency", "1")
    assert daemon.request("GET", "/url/idle/x").status == 200
    daemon.sandbox("idle", "shrunk")
    answer = daemon.request("GET", "/url/idle/x")
    assert (answer.status, answer.headers["x-fn-start"]) == (200, "thawed")


def test_mount_points_that_are_links_lead_nowhere(daemon, tmp_path):
    """What the image has in place of /dev, /proc, /tmp and /run is covered, never followed."""
    victim = tmp_path / "victim"
    victim.mkdir()
    links = tar(*[symlink(name, str(victim)) for name in ("dev", "proc", "tmp", "run", ".init", ".bridge")])
    look = "import os, json\n" \
        "print(json.dumps([os.path.islink('/' + n) for n in ('dev', 'proc', 'tmp', 'run', '.init', '.bridge')]), " \
        "os.stat('/dev/null').st_rdev, os.access('/tmp', os.W_OK), os.path.isdir('/proc/self'), flush=True)\n"
    base = Image(BASE, links, tar(entry("look.py", look)), config={"Entrypoint": ["/usr/bin/python3", "/look.py"]})
    deploy(daemon, base.archive(tmp_path / "i.tar"), "links")
    daemon.invoke("links")
    wait_until(lambda: b"[false, false, false, false, false, false] 259 True True" in daemon.fn("logs", "links").stdout,
               "what it sees")
    assert not list(victim.iterdir())
    daemon.fn("rm", "--yes", "links")


def test_an_images_mounts_are_few_and_none_may_carry_privileges(daemon, web):
    assert daemon.request("GET", f"{web}/x").status == 200
    found = daemon.sandboxes("web")
    first = next((each["pid"] for each in found if each["state"] in ("idle", "busy", "shrinking", "shrunk")), None)
    assert first, found
    points = {}
    for line in pathlib.Path(f"/proc/{first}/mountinfo").read_text().splitlines():
        fields = line.split()
        points[fields[4]] = (fields[5].split(","), fields[fields.index("-") + 1])
    assert set(points) == {"/", "/dev", "/proc", "/tmp", "/.init", "/.bridge", "/etc/hosts", "/run/fn"}
    assert points["/"][1] == "overlay" and {"ro", "nosuid", "nodev"} <= set(points["/"][0])
    for point, (options, _) in points.items():
        assert "nosuid" in options and ("ro" in options or point in ("/proc", "/tmp", "/run/fn")), point
    assert {os.readlink(f"/proc/{first}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{first}/fd")} == {"/dev/null", "pipe"}


@pytest.mark.parametrize("work", ["/proc/self/fd/{}", "/work"])
def test_a_working_directory_cannot_be_one_of_the_daemons(daemon, tmp_path, work):
    """CVE-2024-21626: descriptors of the daemon are open until just before the program starts."""
    layer = tar(*[symlink(f"work{fd}", f"/proc/self/fd/{fd}") for fd in range(3, 100)],
                *[folder(f"proc/self/fd/{fd}") for fd in range(3, 100)],
                entry("only", pathlib.Path(BIN, "fn-bridge").read_bytes(), mode=0o755))
    open_now = [fd for fd in sorted(daemon.descriptors())
                if os.path.isdir(f"/proc/{daemon.process.pid}/fd/{fd}") and 3 <= fd < 100]
    assert open_now, "the daemon holds directories"
    for fd in open_now[:3]:
        directory = work.format(fd) if "{}" in work else f"{work}{fd}"
        image = Image(layer, config={"Entrypoint": ["/only"], "WorkingDir": directory})
        deploy(daemon, image.archive(tmp_path / "i.tar"), "escape")
        answer = daemon.invoke("escape")
        assert (answer.status, answer.json["errorType"]) == (502, "Runtime.InvalidWorkingDir"), answer.body
        assert "working directory cannot be entered" in answer.json["errorMessage"]
    daemon.fn("rm", "--yes", "escape")


def test_boto3_sees_an_image_and_cannot_give_it_an_archive(daemon, web):
    client = boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{daemon.port}", region_name="us-east-1",
                          aws_access_key_id="x", aws_secret_access_key="y",
                          config=botocore.config.Config(retries={"max_attempts": 0}))
    function = client.get_function(FunctionName="web")
    assert function["Configuration"]["PackageType"] == "Image" and "Runtime" not in function["Configuration"]
    assert function["Code"]["RepositoryType"] == "ECR"
    assert json.load(client.invoke(FunctionName="web", Payload=b'"text"')["Payload"]) == "plain words"
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="is a container image"):
        client.update_function_code(FunctionName="web", ZipFile=b"x")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="has no runtime python"):
        client.update_function_configuration(FunctionName="web", Runtime="python3.12")
    answer = daemon.request("GET", "/v1/functions/web/code")
    assert answer.status == 400 and b"of which no archive is kept" in answer.body


def test_a_published_version_keeps_its_image(daemon, tmp_path):
    image = Image(tar(entry("a", "1")), config={"Entrypoint": ["/a"]})
    deploy(daemon, image.archive(tmp_path / "i.tar"), "kept")
    assert daemon.request("POST", "/2015-03-31/functions/kept/versions", b"{}").status == 201
    daemon.deploy_code("kept", {"app.py": "def handle(e, c): return 'code'\n"})
    assert daemon.invoke("kept").json == "code"
    assert "image" not in daemon.describe("kept") and image.id in stored(daemon)
    daemon.fn("rm", "--yes", "kept")
    assert image.id not in stored(daemon)


def test_images_are_there_after_a_restart(own_daemon, tmp_path):
    daemon = own_daemon(CONFIG).start()
    deploy(daemon, make().archive(tmp_path / "i.tar"), "again")
    (daemon.directory / "state" / "code" / ".image-half").mkdir()
    daemon.stop()
    daemon.start()
    assert ".image-half" not in stored(daemon)
    assert daemon.request("GET", "/url/again/x").status == 200


def test_an_upload_that_stops_halfway_leaves_nothing(daemon):
    before = stored(daemon)
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        connection.sendall(b"PUT /v1/functions/half/image HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 5000)
        wait_until(lambda: stored(daemon) - before, "the upload to begin")
    wait_until(lambda: stored(daemon) == before, "it to be given up")
    assert daemon.request("GET", "/v1/functions/half").status == 404


def test_an_upload_that_stalls_is_given_up(own_daemon):
    daemon = own_daemon("http: {read_timeout: 200ms}\n").start()
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        connection.settimeout(60)
        connection.sendall(b"PUT /v1/functions/half/image HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx")
        assert b"the upload has stopped halfway" in connection.recv(4096)
    wait_until(lambda: not stored(daemon), "it to be gone")


def test_uploads_are_few_at_once_and_hold_no_memory(daemon):
    before, open_now = stored(daemon), []

    def resident():
        return int(pathlib.Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    start = resident()
    try:
        for _ in range(4):
            open_now.append(socket.create_connection(("127.0.0.1", daemon.port)))
            open_now[-1].sendall(b"PUT /v1/functions/big/image HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        wait_until(lambda: len(stored(daemon) - before) == 4, "all of them to begin")
        answer = daemon.request("PUT", "/v1/functions/big/image")
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        chunk = b"100000\r\n" + b"\0" * (1 << 20) + b"\r\n"
        for _ in range(64):
            for each in open_now:
                each.sendall(chunk)
        assert resident() - start < 96 << 20, "of 256 MiB"
    finally:
        for each in open_now:
            each.close()
    wait_until(lambda: stored(daemon) == before, "them to be given up")


def test_nobody_without_a_token_uploads_anything(own_daemon, tmp_path):
    (tmp_path / "keys.yaml").write_text(
        f"tokens: {{ci: {hashlib.sha256(b'let-me-in').hexdigest()}}}\nkeys:\n  AKIDEXAMPLE: {{secret: {'s' * 40}, name: deploy}}\n")
    (tmp_path / "keys.yaml").chmod(0o600)
    daemon = own_daemon(f"auth: {{mode: any, keys: {tmp_path}/keys.yaml}}\n").start()
    path, place = Image(tar(entry("a", "1")), config={"Entrypoint": ["/a"]}).archive(tmp_path / "i.tar"), "/v1/functions/f/image"
    for proof in ({}, {"Authorization": "Bearer wrong"}):
        assert daemon.request("PUT", place, path.read_bytes(), proof).status == 401
    request = AWSRequest("PUT", f"http://127.0.0.1:{daemon.port}{place}", data=path.read_bytes())
    SigV4Auth(Credentials("AKIDEXAMPLE", "s" * 40), "lambda", "us-east-1").add_auth(request)
    answer = daemon.request("PUT", place, path.read_bytes(), dict(request.headers))
    assert answer.status in (401, 403) and b"bearer token only" in answer.body, answer.body
    evil = daemon.request("PUT", place, path.read_bytes(), {"Authorization": "Bearer let-me-in", "Origin": "http://evil.example"})
    assert evil.status == 403
    assert not stored(daemon)
    url = f"http://127.0.0.1:{daemon.port}"
    result = daemon.fn("deploy", "--image", path, "--name", "f", "--url", url, env={"FN_TOKEN": "let-me-in"})
    assert result.returncode == 0, result.stderr
    refused = daemon.fn("deploy", "--image", path, "--name", "f", "--url", url, env={"FN_TOKEN": "wrong"})
    assert refused.returncode == 77, refused.stderr


def test_an_image_asks_for_the_network_as_any_function_does(own_daemon):
    daemon = own_daemon(CONFIG + "network: {egress: refuse}\n").start()
    image = make().directory(daemon.directory / "web")
    refused = daemon.fn("deploy", "--image", image, "--name", "web", "--network", "egress")
    assert refused.returncode == 64 and b"the operator refuses egress" in refused.stderr, refused.stderr
    deploy(daemon, image, "web", "--network", "none")
    assert "network:      none  [function]" in daemon.fn("describe", "web").stdout.decode()
    wrong = daemon.request("PUT", "/v1/functions/web/image?network=all", b"")
    assert wrong.status == 400 and b"expected none or egress, got 'all'" in wrong.body, wrong.body
