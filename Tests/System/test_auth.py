# SPDX-License-Identifier: Apache-2.0
"""Who may use the daemon: tokens, AWS signatures, TLS, and what bounds those who may not."""
import datetime
import hashlib
import http.client
import socket
import ssl
import subprocess
import warnings

import boto3
import botocore.exceptions
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

import certificates
from conftest import SCALE, wait_until

TOKEN = "correct-horse"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
LIST = "/2015-03-31/functions/"


def keys_text(token=TOKEN, secret=SECRET):
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f"tokens: {{ci: {digest}}}\nkeys:\n  AKIDEXAMPLE: {{secret: {secret}, name: deploy}}\n"


def write_private(path, text, mode=0o600):
    """As an operator's tool would: whole, and never readable by others in between."""
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_text(text)
    new.chmod(mode)
    new.rename(path)


@pytest.fixture
def guarded(own_daemon, tmp_path):
    """Makes daemons whose port wants proof; they are ready when /readyz, which is open, says so."""
    def make(mode="any", config="", **options):
        write_private(tmp_path / "keys.yaml", keys_text())
        return own_daemon(f"auth: {{mode: {mode}, keys: {tmp_path}/keys.yaml}}\n{config}", **options)
    return make


def client(daemon, key="AKIDEXAMPLE", secret=SECRET, scheme="http", **options):
    return boto3.client(
        "lambda", endpoint_url=f"{scheme}://127.0.0.1:{daemon.port}", region_name="us-east-1", aws_access_key_id=key,
        aws_secret_access_key=secret, config=Config(retries={"max_attempts": 0}), **options)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def signed(daemon, method, path, body=b"", at=None, headers=None, key="AKIDEXAMPLE"):
    """The headers of a request that is signed by hand, at a time of one's choosing."""
    class Auth(SigV4Auth):
        def add_auth(self, request):
            time = at or datetime.datetime.now(datetime.timezone.utc)
            request.context["timestamp"] = time.strftime("%Y%m%dT%H%M%SZ")
            request.headers["X-Amz-Date"] = request.context["timestamp"]
            canonical = self.canonical_request(request)
            signature = self.signature(self.string_to_sign(request, canonical), request)
            self._inject_signature_to_request(request, signature)

    request = AWSRequest(method, f"http://127.0.0.1:{daemon.port}{path}", data=body, headers=headers or {})
    Auth(Credentials(key, SECRET), "lambda", "us-east-1").add_auth(request)
    return dict(request.headers)


def test_boto3_is_let_in_with_the_right_key_and_told_amazons_words_without(guarded):
    daemon = guarded("sigv4").start()
    daemon.deploy("hello-python")
    answer = client(daemon).invoke(FunctionName="hello-python", Payload=b'{"name": "key"}')
    assert answer["Payload"].read() == b'{"hello": "key"}'
    arn = "arn:aws:lambda:us-east-1:000000000000:function:hello-python"
    assert client(daemon).get_function(FunctionName=arn, Qualifier="$LATEST")["Configuration"]["State"] == "Active"
    for wrong, code in (({"secret": "wrong"}, "InvalidSignatureException"),
                        ({"key": "AKIDNOBODY"}, "UnrecognizedClientException")):
        with pytest.raises(botocore.exceptions.ClientError) as raised:
            client(daemon, **wrong).invoke(FunctionName="hello-python")
        assert raised.value.response["Error"]["Code"] == code
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    for headers, code in (({}, "MissingAuthenticationTokenException"), (bearer(TOKEN), "UnrecognizedClientException"),
                          ({"Authorization": "AWS4-HMAC-SHA256 Credential=x"}, "IncompleteSignatureException")):
        answer = daemon.request("GET", LIST, headers=headers)
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, code)


def test_a_signature_is_of_its_time_its_request_and_one_use(guarded):
    daemon = guarded("sigv4").start()
    daemon.deploy("hello-python")
    path = "/2015-03-31/functions/hello-python/invocations"
    now = datetime.datetime.now(datetime.timezone.utc)
    for minutes, words in ((-20, "Signature expired: "), (20, "Signature not yet current: ")):
        at = now + datetime.timedelta(minutes=minutes)
        answer = daemon.request("POST", path, b"{}", signed(daemon, "POST", path, b"{}", at=at))
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")
        assert answer.json["message"].startswith(words)
    late = now - datetime.timedelta(minutes=2)
    assert daemon.request("POST", path, b"{}", signed(daemon, "POST", path, b"{}", at=late)).status == 200

    headers = signed(daemon, "POST", path, b'{"name": "a"}')
    tampered = daemon.request("POST", path, b'{"name": "b"}', headers)
    assert (tampered.status, b"does not match" in tampered.body) == (403, True)
    assert daemon.request("POST", path, b'{"name": "a"}', headers).json == {"hello": "a"}
    replayed = daemon.request("POST", path, b'{"name": "a"}', headers)
    assert (replayed.status, b"already used" in replayed.body) == (403, True)
    # Equal calls of one second have the same signature, and boto3 does not sign what tells them apart.
    calls = client(daemon)
    for _ in range(5):
        assert calls.invoke(FunctionName="hello-python", Payload=b"{}")["StatusCode"] == 200
    # What only reads may come again.
    headers = signed(daemon, "GET", LIST)
    assert [daemon.request("GET", LIST, headers=headers).status for _ in range(2)] == [200, 200]


def test_a_large_body_is_verified_too(guarded):
    daemon = guarded("sigv4").start()
    daemon.deploy("hello-python")
    path, body = "/2015-03-31/functions/hello-python/invocations", b'{"name": "%s"}' % (b"x" * (1 << 20))
    headers = signed(daemon, "POST", path, body)
    assert daemon.request("POST", path, body.replace(b"xx", b"yy"), headers).status == 403
    assert len(daemon.request("POST", path, body, headers).body) > 1 << 20


def test_a_token_is_let_in_and_health_is_open(guarded):
    daemon = guarded("token").start()
    daemon.deploy("hello-python")
    assert daemon.invoke("hello-python", {"name": "t"}, bearer(TOKEN)).json == {"hello": "t"}
    assert daemon.request("GET", "/healthz").status == daemon.request("GET", "/readyz").status == 200
    for path in ("/", "/metrics", "/v1/functions", "/openapi.yaml", "/nowhere"):
        for headers in ({}, bearer("wrong"), {"Authorization": "Basic eDp5"}):
            answer = daemon.request("GET", path, headers=headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path
            assert answer.json["error"]["code"] == "Unauthorized"
    assert daemon.request("GET", "/metrics", headers=bearer(TOKEN)).status == 200
    assert daemon.request("GET", LIST, headers=bearer("wrong")).headers["x-amzn-errortype"] \
        == "UnrecognizedClientException"
    assert daemon.request("GET", LIST, headers=bearer(TOKEN)).status == 200
    refused = signed(daemon, "GET", LIST)
    assert b"takes bearer tokens" in daemon.request("GET", LIST, headers=refused).body


def test_no_body_is_taken_from_a_stranger(guarded):
    daemon = guarded("token").start()
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30 * SCALE) as stranger:
        stranger.sendall(b"PUT /v1/functions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 40000000\r\n"
                         b"Expect: 100-continue\r\n\r\n")
        assert stranger.recv(100).startswith(b"HTTP/1.1 401 ")


def test_fn_shows_its_token_and_says_what_is_missing(guarded):
    daemon = guarded("token").start()
    url = {"FN_URL": f"http://127.0.0.1:{daemon.port}"}
    doctor = daemon.fn("doctor", env=url)
    assert doctor.returncode == 77 and b"FN_TOKEN" in doctor.stderr, doctor
    assert daemon.fn("ls").returncode == 0, "the Unix socket needs no token"
    assert daemon.fn("ls", env={**url, "FN_TOKEN": TOKEN}).returncode == 0
    for env in (url, {**url, "FN_TOKEN": "wrong"}):
        for arguments in (("ls",), ("invoke", "f", "-d", "{}")):
            assert daemon.fn(*arguments, env=env).returncode == 77
    assert b"FN_TOKEN" in daemon.fn("ls", env=url).stderr
    assert daemon.fn("ls", env={**url, "FN_TOKEN": "a\r\nX: y"}).returncode == 64
    secure = daemon.fn("ls", "--url", f"https://127.0.0.1:{daemon.port}")
    assert (secure.returncode, b"asks for TLS" in secure.stderr) == (64, True)


def test_the_keys_change_while_the_daemon_runs(guarded, tmp_path):
    daemon = guarded("any").start()
    status = lambda token: daemon.request("GET", "/v1/functions", headers=bearer(token)).status
    assert (status(TOKEN), status("new")) == (200, 401)
    write_private(tmp_path / "keys.yaml", keys_text("new"))
    wait_until(lambda: status("new") == 200, "the new token")
    assert status(TOKEN) == 401
    write_private(tmp_path / "keys.yaml", "tokens: {ci: plain-text}\n")
    wait_until(lambda: f"{tmp_path}/keys.yaml:1:14: error: tokens: expected" in daemon.log, "the refusal in the log")
    assert status("new") == 200 and "plain-text" not in daemon.log
    write_private(tmp_path / "keys.yaml", keys_text("third"), mode=0o644)
    wait_until(lambda: "has mode 0644" in daemon.log, "the refusal of a file that others can read")
    assert (status("new"), status("third")) == (200, 401)
    assert b"has mode 0644" in daemon.fn("doctor").stdout
    (tmp_path / "keys.yaml").chmod(0o600)
    wait_until(lambda: status("third") == 200, "the file that was put right")


@pytest.mark.parametrize("text, mode, words", [
    (keys_text(), 0o644, b"chmod 0600"),
    ("tokens: {ci: x}\n", 0o600, b"keys.yaml:1:14: error: tokens"),
    (None, None, b"No such file"),
])
def test_a_daemon_whose_keys_are_wrong_does_not_start(own_daemon, tmp_path, text, mode, words):
    if text:
        write_private(tmp_path / "keys.yaml", text, mode)
    daemon = own_daemon(f"auth: {{mode: token, keys: {tmp_path}/keys.yaml}}\n")
    result = subprocess.run(daemon.command(), capture_output=True, timeout=60 * SCALE)
    assert (result.returncode, words in result.stderr) == (78, True), result.stderr


def test_a_public_address_without_proof_is_refused_with_its_place(own_daemon, guarded):
    daemon = own_daemon("http:\n  listen: 0.0.0.0:9000\n")
    command = daemon.command()
    del command[1:3]
    result = subprocess.run(command, capture_output=True, timeout=60 * SCALE)
    assert (result.returncode, b"fn.yaml:2:11: error: http.listen: 0.0.0.0:9000" in result.stderr) == (78, True)
    assert b"auth.mode" in result.stderr
    if "--allow-unenforced-limits" in command:
        return
    daemon = guarded("token", public=True).start()
    assert daemon.request("GET", "/v1/functions", headers=bearer(TOKEN)).status == 200
    assert daemon.request("GET", "/v1/functions").status == 401
    assert "in the clear" in daemon.log


def test_tls_is_spoken_and_the_certificate_changes_live(guarded, tmp_path):
    certificates.make(tmp_path, "127.0.0.1")
    daemon = guarded("sigv4", f"http: {{tls: {{cert: {tmp_path}/cert.pem, key: {tmp_path}/key.pem}}}}\n",
                     ca=tmp_path / "ca.pem").start()
    daemon.deploy("hello-python")
    lambda_ = client(daemon, scheme="https", verify=str(tmp_path / "ca.pem"))
    assert lambda_.invoke(FunctionName="hello-python", Payload=b'{"name": "tls"}')["Payload"].read() == b'{"hello": "tls"}'
    location = lambda_.get_function(FunctionName="hello-python")["Code"]["Location"]
    assert location.startswith(f"https://127.0.0.1:{daemon.port}/")
    with pytest.raises(botocore.exceptions.SSLError):
        client(daemon, scheme="https").list_functions()
    with pytest.raises((http.client.HTTPException, OSError)):
        plain = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30 * SCALE)
        plain.request("GET", "/healthz")
        plain.getresponse()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(tmp_path / "ca.pem")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(socket.create_connection(("127.0.0.1", daemon.port)), server_hostname="127.0.0.1")

    def serial():
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        with socket.create_connection(("127.0.0.1", daemon.port)) as raw:
            with context.wrap_socket(raw, server_hostname="127.0.0.1") as secure:
                return secure.getpeercert()["serialNumber"]

    first = serial()
    certificates.renew(tmp_path, "127.0.0.1")
    wait_until(lambda: serial() != first, "the new certificate")
    second = serial()
    (tmp_path / "cert.pem").write_text("nothing")
    wait_until(lambda: "certificate refused" in daemon.log, "the refusal in the log")
    assert serial() == second
    assert daemon.request("GET", "/healthz").status == 200


def test_tls_files_that_cannot_be_used_keep_the_daemon_from_starting(own_daemon, tmp_path):
    certificates.make(tmp_path, "127.0.0.1")
    (tmp_path / "other").mkdir()
    certificates.make(tmp_path / "other", "127.0.0.1")

    def start(certificate, key):
        daemon = own_daemon(f"http: {{tls: {{cert: {certificate}, key: {key}}}}}\n")
        result = subprocess.run(daemon.command(), capture_output=True, timeout=60 * SCALE)
        assert result.returncode == 78, result.stderr
        return result.stderr

    assert b"cannot be used" in start(tmp_path / "cert.pem", tmp_path / "other" / "key.pem")
    assert b"cannot be used" in start(tmp_path / "none.pem", tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o644)
    assert b"chmod 0600" in start(tmp_path / "cert.pem", tmp_path / "key.pem")


def test_what_is_slow_large_or_too_many_is_cut(own_daemon):
    seconds = int(2 * SCALE)
    daemon = own_daemon(f"http: {{idle_timeout: {seconds}s, read_timeout: {seconds}s, max_header: 8KiB, "
                        "max_connections: 4}\n").start()
    address = ("127.0.0.1", daemon.port)

    def cut(*parts):
        """Sends these and waits for the end of the connection; what was answered before."""
        with socket.create_connection(address, timeout=60 * SCALE) as connection:
            answer = b""
            try:
                for part in parts:
                    connection.sendall(part)
                while chunk := connection.recv(65536):
                    answer += chunk
            except ConnectionError:
                pass  # closed before all of it was read
            return answer

    head = b"POST /invoke/f HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    assert cut(head) == b"", "a head that does not end"
    assert cut(head + b"Content-Length: 10\r\n\r\n", b"{") == b"", "a body that does not end"
    for fields in (b"X-Large: " + b"x" * 9000 + b"\r\n", b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(9)),
                   b"".join(b"X-%d: x\r\n" % n for n in range(300))):
        answer = cut(head + fields + b"\r\n")
        # The answer may be lost where more was sent than was read before the end.
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), fields[:20]

    whole = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    held = []

    def is_full():
        if cut(whole) == b"":
            return True
        held.append(socket.create_connection(address, timeout=60 * SCALE))
        held[-1].sendall(head)
        return False

    try:
        wait_until(is_full, "one more to be closed")
        assert len(held) >= 4
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: cut(whole).startswith(b"HTTP/1.1 200"), "room for others")
