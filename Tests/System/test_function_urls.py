# SPDX-License-Identifier: Apache-2.0
"""Lambda's function URLs: what a function says of its own address, and what comes of it there."""
import http.client
import json
import threading
import urllib.parse

import boto3
import pytest
from botocore.config import Config

from conftest import SCALE, wait_until
from test_auth import TOKEN, bearer, client, guarded, keys_text, signed, write_private  # noqa: F401

CONFIG = "defaults: {timeout: 60s, init_timeout: 60s}\n"

CODE = """
def handle(event, context):
    headers = {"Access-Control-Allow-Origin": "https://function.example", "X-Own": "1"}
    return {"statusCode": 201, "headers": headers, "body": context.function_version + " " + event["rawPath"]}
"""


def call(daemon, method, url, headers=None, body=None):
    place = urllib.parse.urlsplit(url)
    assert place.netloc == f"127.0.0.1:{daemon.port}", url
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60 * SCALE)
    connection.request(method, place.path + (f"?{place.query}" if place.query else ""), body, headers or {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), text


@pytest.fixture(scope="module")
def aws(daemon):
    daemon.deploy_code("site", {"app.py": CODE}, "python", "app.handle")
    return boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{daemon.port}", region_name="us-east-1",
                        aws_access_key_id="x", aws_secret_access_key="x", config=Config(retries={"max_attempts": 0}))


def test_an_address_is_made_told_changed_listed_and_removed(daemon, aws):
    made = aws.create_function_url_config(FunctionName="site", AuthType="NONE")
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert made["FunctionUrl"] == f"http://127.0.0.1:{daemon.port}/url/site/"
    assert (made["AuthType"], made["InvokeMode"]) == ("NONE", "BUFFERED") and "LastModifiedTime" not in made
    assert made["FunctionArn"] == "arn:aws:lambda:us-east-1:000000000000:function:site"
    status, headers, text = call(daemon, "GET", made["FunctionUrl"] + "a/b")
    assert (status, headers["x-own"], text) == (201, "1", "$LATEST /a/b")
    with pytest.raises(aws.exceptions.ResourceConflictException):
        aws.create_function_url_config(FunctionName="site", AuthType="NONE")
    changed = aws.update_function_url_config(FunctionName="site", InvokeMode="RESPONSE_STREAM")
    assert (changed["AuthType"], changed["InvokeMode"]) == ("NONE", "RESPONSE_STREAM")
    shown = aws.get_function_url_config(FunctionName="site")
    assert shown["CreationTime"] == made["CreationTime"] and shown["LastModifiedTime"] >= made["CreationTime"]
    assert [c["FunctionUrl"] for c in aws.list_function_url_configs(FunctionName="site")["FunctionUrlConfigs"]] == [
        made["FunctionUrl"]]
    assert aws.delete_function_url_config(FunctionName="site")["ResponseMetadata"]["HTTPStatusCode"] == 204
    for missing in (aws.get_function_url_config, aws.delete_function_url_config):
        with pytest.raises(aws.exceptions.ResourceNotFoundException):
            missing(FunctionName="site")


def test_an_address_that_is_removed_while_it_is_changed_stays_removed(aws):
    for _ in range(20):
        aws.create_function_url_config(FunctionName="site", AuthType="NONE")

        def change():
            try:
                aws.update_function_url_config(FunctionName="site", InvokeMode="RESPONSE_STREAM")
            except (aws.exceptions.ResourceNotFoundException, aws.exceptions.ResourceConflictException):
                pass  # it came too late
        changing = threading.Thread(target=change)
        changing.start()
        aws.delete_function_url_config(FunctionName="site")
        changing.join()
        with pytest.raises(aws.exceptions.ResourceNotFoundException):
            aws.get_function_url_config(FunctionName="site")


def test_a_function_is_told_who_asked_and_by_which_address(daemon):
    daemon.deploy_code("asked", {"app.py": "def handle(event, context):\n    return event['headers']\n"})
    _, _, text = call(daemon, "GET", f"http://127.0.0.1:{daemon.port}/url/asked/")
    found = {name: value for name, value in json.loads(text).items() if name.startswith("x-forwarded-")}
    assert found == {"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", "x-forwarded-port": str(daemon.port)}
    behind = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}
    found = json.loads(call(daemon, "GET", f"http://127.0.0.1:{daemon.port}/url/asked/", behind)[2])
    assert found["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
    assert (found["x-forwarded-proto"], found["x-forwarded-port"]) == ("https", "443")


def test_an_alias_has_an_address_of_its_own(daemon, aws):
    version = aws.publish_version(FunctionName="site")["Version"]
    aws.create_alias(FunctionName="site", Name="prod", FunctionVersion=version)
    made = aws.create_function_url_config(FunctionName="site", Qualifier="prod", AuthType="NONE")
    assert made["FunctionUrl"] == f"http://127.0.0.1:{daemon.port}/url/site:prod/"
    assert call(daemon, "GET", made["FunctionUrl"])[2] == f"{version} /"
    with pytest.raises(aws.exceptions.ClientError) as refused:
        aws._make_api_call("CreateFunctionUrlConfig", {"FunctionName": "site", "Qualifier": version, "AuthType": "NONE"})
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    aws.delete_alias(FunctionName="site", Name="prod")
    assert aws.list_function_url_configs(FunctionName="site")["FunctionUrlConfigs"] == []


def test_keys_are_needed_to_ask_for_them(aws):
    with pytest.raises(aws.exceptions.InvalidParameterValueException) as refused:
        aws.create_function_url_config(FunctionName="site", AuthType="AWS_IAM")
    assert "auth.mode" in str(refused.value)


def test_a_page_of_an_origin_that_is_allowed_may_use_it(daemon, aws):
    cors = {"AllowOrigins": ["https://page.example"], "AllowMethods": ["GET", "PUT"], "AllowHeaders": ["X-One", "x-two"],
            "ExposeHeaders": ["x-own"], "AllowCredentials": True, "MaxAge": 60}
    url = aws.create_function_url_config(FunctionName="site", AuthType="NONE", Cors=cors)["FunctionUrl"]
    try:
        page = {"Origin": "https://page.example"}
        status, headers, _ = call(daemon, "OPTIONS", url + "x", {
            **page, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-one, x-three"})
        assert status == 200
        assert headers["access-control-allow-origin"] == "https://page.example"
        assert (headers["access-control-allow-methods"], headers["access-control-allow-headers"]) == ("PUT", "x-one")
        assert (headers["access-control-max-age"], headers["access-control-allow-credentials"]) == ("60", "true")
        _, headers, _ = call(daemon, "OPTIONS", url, {**page, "Access-Control-Request-Method": "DELETE"})
        assert "access-control-allow-methods" not in headers
        status, headers, text = call(daemon, "GET", url, page)
        assert (status, text) == (201, "$LATEST /")
        # The configuration's word counts, and not the function's.
        assert (headers["access-control-allow-origin"], headers["vary"]) == ("https://page.example", "Origin")
        assert headers["access-control-expose-headers"] == "x-own"
        # What was not allowed is kept out as before, and other addresses of the daemon stay closed to pages.
        assert call(daemon, "GET", url, {"Origin": "https://other.example"})[0] == 403
        assert call(daemon, "GET", f"http://127.0.0.1:{daemon.port}/v1/functions", page)[0] == 403
        assert aws.get_function_url_config(FunctionName="site")["Cors"] == cors
        with pytest.raises(aws.exceptions.InvalidParameterValueException):
            aws.update_function_url_config(FunctionName="site", Cors={"AllowOrigins": ["page.example"]})
    finally:
        aws.delete_function_url_config(FunctionName="site")


STREAMING = """#!/usr/bin/python3 -S
import http.client, os, time
API = os.environ["AWS_LAMBDA_RUNTIME_API"]
while True:
    c = http.client.HTTPConnection(API)
    c.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = c.getresponse()
    answer.read()
    id = answer.getheader("Lambda-Runtime-Aws-Request-Id")
    def pieces():
        yield b'{"statusCode": 202, "headers": {"X-Own": "s"}}' + bytes(8)
        yield b"one "
        yield b"two"
    c = http.client.HTTPConnection(API)
    c.request("POST", f"/2018-06-01/runtime/invocation/{id}/response", pieces(), {
        "Lambda-Runtime-Function-Response-Mode": "streaming",
        "Content-Type": "application/vnd.awslambda.http-integration-response"}, encode_chunked=True)
    c.getresponse().read()
"""


def test_an_answer_in_pieces_is_passed_on_so_or_whole_as_the_mode_says(daemon, aws):
    daemon.deploy_code("pieces", {"bootstrap": STREAMING}, "provided", "-")
    url = aws.create_function_url_config(FunctionName="pieces", AuthType="NONE")["FunctionUrl"]
    status, headers, text = call(daemon, "GET", url)
    assert (status, headers["x-own"], text) == (202, "s", "one two")
    assert headers["content-length"] == "7" and "transfer-encoding" not in headers
    aws.update_function_url_config(FunctionName="pieces", InvokeMode="RESPONSE_STREAM")
    status, headers, text = call(daemon, "GET", url)
    assert (status, headers["x-own"], text) == (202, "s", "one two")
    assert headers["transfer-encoding"] == "chunked"


def test_an_address_wants_a_signature_where_it_says_so_and_nothing_where_it_may(guarded, tmp_path):  # noqa: F811
    daemon = guarded("any").start()
    daemon.deploy_code("site", {"app.py": CODE}, "python", "app.handle", "--timeout", "60s")
    aws = client(daemon)
    path = "/url/site/x"
    url = f"http://127.0.0.1:{daemon.port}{path}"
    # Nothing was said: the daemon's own word holds.
    assert call(daemon, "GET", url)[0] == 401
    assert call(daemon, "GET", url, bearer(TOKEN))[0] == 201
    aws.create_function_url_config(FunctionName="site", AuthType="AWS_IAM")
    status, _, text = call(daemon, "GET", url)
    assert status == 403 and json.loads(text)["Message"].startswith("Forbidden")
    assert call(daemon, "GET", url, bearer(TOKEN))[0] == 403
    assert call(daemon, "POST", url, signed(daemon, "POST", path, b"body"), b"body")[0] == 201
    assert call(daemon, "POST", url, signed(daemon, "POST", path, b"body"), b"other")[0] == 403
    with pytest.raises(aws.exceptions.InvalidParameterValueException) as refused:
        aws.update_function_url_config(FunctionName="site", AuthType="NONE")
    assert "auth.open_urls" in str(refused.value)
    daemon.fn("rm", "site")


def test_an_address_is_open_to_all_where_the_operator_lets_it(own_daemon, tmp_path):
    write_private(tmp_path / "keys.yaml", keys_text())
    config = f"auth: {{mode: any, keys: {tmp_path}/keys.yaml, open_urls: true}}\n"
    daemon = own_daemon(config).start()
    daemon.deploy_code("site", {"app.py": CODE}, "python", "app.handle", "--timeout", "60s")
    url = client(daemon).create_function_url_config(FunctionName="site", AuthType="NONE")["FunctionUrl"]
    assert call(daemon, "GET", url)[0] == 201
    assert call(daemon, "GET", f"http://127.0.0.1:{daemon.port}/invoke/site")[0] in (401, 403, 405)
    assert daemon.request("GET", "/v1/functions").status == 401
    # The operator's word is live, both ways: auth.open_urls.
    for word, status in (("false", 403), ("true", 201)):
        daemon.config.write_text(config.replace("open_urls: true", f"open_urls: {word}"))
        wait_until(lambda: call(daemon, "GET", url)[0] == status, f"{status} once open_urls is {word}")


def test_a_presigned_request_is_good_until_it_expires(guarded):  # noqa: F811
    daemon = guarded("sigv4").start()
    daemon.deploy_code("site", {"app.py": CODE}, "python", "app.handle", "--timeout", "60s")
    aws = client(daemon)
    url = aws.generate_presigned_url("get_function", {"FunctionName": "site"}, ExpiresIn=300)
    for _ in range(2):
        status, _, text = call(daemon, "GET", url)
        assert status == 200 and json.loads(text)["Configuration"]["FunctionName"] == "site"
    invoke = aws.generate_presigned_url("invoke", {"FunctionName": "site", "InvocationType": "DryRun"}, ExpiresIn=300)
    for _ in range(2):
        assert call(daemon, "POST", invoke, {"X-Amz-Invocation-Type": "DryRun"}, b"")[0] == 204
    assert call(daemon, "POST", invoke, {"X-Amz-Invocation-Type": "Event"}, b"")[0] == 403
    assert call(daemon, "GET", url.replace("/site?", "/other?"))[0] == 403
    for wrong, code in ((url.replace("Expires=300", "Expires=301"), "InvalidSignatureException"),
                        (url.replace("Expires=300", "Expires=604801"), "IncompleteSignatureException")):
        status, headers, _ = call(daemon, "GET", wrong)
        assert (status, headers["x-amzn-errortype"]) == (403, code)
    soon = aws.generate_presigned_url("get_function", {"FunctionName": "site"}, ExpiresIn=1)
    status, headers, text = wait_until(lambda: (a := call(daemon, "GET", soon))[0] == 403 and a, "it to expire")
    assert json.loads(text)["message"].startswith("Signature expired")
