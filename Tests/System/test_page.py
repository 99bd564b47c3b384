# SPDX-License-Identifier: Apache-2.0
"""The page at /, and who may use the daemon from a browser."""
import re

CONFIG = "defaults: {timeout: 60s}\n"


def test_the_page_is_whole_and_asks_nobody_else(daemon):
    page = daemon.request("GET", "/")
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    text = page.body.decode()
    for name in re.findall(r'(?:src|href)="([^"]+)"', text):
        if not name.startswith("data:"):
            part = daemon.request("GET", f"/{name}")
            assert part.status == 200 and part.headers["content-security-policy"] == policy
            assert not re.search(r"https?://(?!www\.w3\.org)", part.body.decode()), name
    assert "<script>" not in text and "style=" not in text and "onclick" not in text


def test_other_peoples_pages_are_kept_out(daemon):
    daemon.deploy("hello-python")
    own = f"http://127.0.0.1:{daemon.port}"
    assert daemon.invoke("hello-python", headers={"Origin": own}).status == 200
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        answer = daemon.invoke("hello-python", headers=headers)
        assert (answer.status, answer.json["error"]["code"]) == (403, "ForeignOrigin"), headers
    assert b"http.hosts" in daemon.request("GET", "/v1/functions", headers={"Host": "fn.example"}).body


def test_the_page_and_the_names_are_the_operators(own_daemon):
    daemon = own_daemon("web: {enabled: false}\nhttp: {hosts: fn.example}\n").start()
    assert daemon.request("GET", "/").status == 404
    assert daemon.request("GET", "/v1/functions", headers={"Host": "fn.example"}).status == 200
    daemon.config.write_text("web: {enabled: true}\n")
    assert daemon.request("POST", "/v1/config/reload").status == 200
    assert daemon.request("GET", "/").status == 200
    assert daemon.request("GET", "/v1/functions", headers={"Host": "fn.example"}).status == 403
