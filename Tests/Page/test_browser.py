# SPDX-License-Identifier: Apache-2.0
"""The page as a browser shows it: Chromium without a screen, the daemon's own files, and events that the test decides.

A door in front of the daemon passes on everything but /v1/events, /v1/decisions and /metrics.
"""
import http.server
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import queue
import threading
import time

import pytest

from conftest import Daemon, clean, wait_until

MIB = 1 << 20
ROOT = pathlib.Path(__file__).parents[2]


def load_script(name):
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def sandbox(id, function, state, current, high, most, swap=0, **more):
    return {"id": id, "function": function, "state": state, "pid": 7, "startTime": 1, "cgroup": "/", "held": most * MIB,
            "ageMs": 9000, "invocations": 3, "limitsEnforced": True, "network": "none", "pressureSome": 0.04,
            "current": current * MIB, "max": most * MIB, "swap": swap * MIB, "runtime": "python",
            **({"high": high * MIB} if high else {}), **more}


def host(tier="green", promised=256):
    function = {"name": "thumbs", "sandboxes": 2, "current": 90 * MIB, "held": 200 * MIB, "swap": 0, "reclaimed": 512 * MIB,
                "wakes": 4, "wakePenaltyMs": 1, "depth": 1}
    return {"budget": 1024 * MIB, "promised": promised * MIB, "free": (1024 - promised) * MIB, "holders": {}, "flows": [],
            "functions": [function],
            "host": {"tier": tier, "available": 900 * MIB, "swapFree": 512 * MIB, "swapTotal": 1024 * MIB,
                     "compression": 0.3, "pressureSome": 1.5, "pressureFull": 0.2}}


LARGE = [sandbox("thumbs-1", "thumbs", "busy", 90, None, 128),
         sandbox("python-2", "mailer", "idle", 40, None, 64, network="egress", address="10.200.0.3", version="3")]
SMALL = [sandbox("thumbs-1", "thumbs", "shrunk", 6, 8, 12, swap=40), LARGE[1]]
DECISION = {"time": "2026-11-24T12:00:00.123Z", "kind": "shrink", "function": "thumbs", "sandbox": "thumbs-1",
            "reason": "idle for longer than usual", "numbers": {"freed_bytes": 78 * MIB}}
METRICS = "\n".join(
    f'fn_invocation_duration_seconds_{line}' for line in [
        'bucket{function="thumbs",start="warm",le="0.005"} 90', 'bucket{function="thumbs",start="warm",le="+Inf"} 95',
        'count{function="thumbs",start="warm"} 95', 'bucket{function="thumbs",start="cold",le="0.005"} 0',
        'bucket{function="thumbs",start="cold",le="+Inf"} 5', 'count{function="thumbs",start="cold"} 5'])


class Door:
    """Whoever connects to its events gets all that were sent so far, and then what follows."""

    def __init__(self, daemon):
        door = self
        self.sent, self.listeners, self.paths, self.lives = [], [], [], True

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                door.paths.append(self.path)
                if self.path == "/v1/events":
                    return self.stream()
                if self.path.startswith("/v1/decisions"):
                    return self.answer(200, [("Content-Type", "application/json")], b'{"decisions": []}')
                if self.path == "/metrics":
                    return self.answer(200, [("Content-Type", "text/plain")], METRICS.encode())
                real = daemon.request("GET", self.path)
                kept = ("content-type", "content-security-policy", "x-content-type-options", "referrer-policy")
                self.answer(real.status, [(k, v) for k, v in real.headers.items() if k in kept], real.body)

            def answer(self, status, headers, body):
                self.send_response(status)
                for name, value in [*headers, ("Content-Length", str(len(body)))]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def stream(self):
                self.close_connection = True
                self.send_response(200 if door.lives else 503)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                mine = queue.Queue()
                for each in door.sent:
                    mine.put(each)
                door.listeners.append(mine)
                while door.lives and (event := mine.get()):
                    self.wfile.write(f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n".encode())
                    self.wfile.flush()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def send(self, kind, data):
        self.sent.append((kind, data))
        for listener in self.listeners:
            listener.put((kind, data))

    def hang_up(self):
        listeners, self.listeners = self.listeners, []
        for listener in listeners:
            listener.put(None)

    def close(self):
        self.hang_up()
        self.server.shutdown()
        self.server.server_close()


class Page:
    """The page in a tab of its own."""

    def __init__(self, browser, url, dark=False):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"}])
        self.call("Page.navigate", url=url)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def tell(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition):
        wait_until(lambda: self.tell(condition) is True, lambda: f"{condition}; the page: {self.tell('document.body.innerText')}")

    def key(self, text):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=text, text=text if kind == "keyDown" else "")

    def rows(self, table):
        return self.tell(f"[...document.querySelectorAll('#{table} tbody tr')].map(r => [...r.cells].map(c => c.innerText))")

    def bar(self, row):
        """Where the parts of a bar end, as shares of its width."""
        return self.tell(f"""(() => {{
            const bar = document.querySelectorAll('#sandboxes .bar')[{row}], all = bar.getBoundingClientRect();
            return Object.fromEntries([...bar.children].map((part) =>
                [part.className, (part.getBoundingClientRect().right - all.left) / all.width]));
        }})()""")

    def picture(self, name):
        """Kept where somebody wants to look at it."""
        import base64
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        assert data.startswith(b"\x89PNG")
        if "EBB_PICTURES" in os.environ:
            pathlib.Path(os.environ["EBB_PICTURES"], f"{name}.png").write_bytes(data)


@pytest.fixture(scope="module")
def daemon():
    running = Daemon("web: {enabled: true}\n").start()
    yield running
    clean(running)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    running = load_script("screenshot").Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.end()


@pytest.fixture
def door(daemon):
    made = Door(daemon)
    made.send("host", host())
    made.send("sandboxes", {"sandboxes": LARGE, "limitsEnforced": True})
    made.send("decision", DECISION)
    yield made
    made.close()


@pytest.fixture
def page(browser, door):
    shown = Page(browser, door.url)
    shown.until("document.querySelectorAll('#sandboxes tbody tr').length === 2")
    shown.until("document.querySelector('#functions tbody tr td:nth-child(5)')?.innerText === '100'")
    return shown


def test_everything_that_the_daemon_tells_is_there(page):
    assert page.rows("sandboxes") == [
        ["python-2", "mailer:3", "python", "egress 10.200.0.3", "idle", "", "40.0 MiB", "64.0 MiB", "0 B", "0.04%", "3"],
        ["thumbs-1", "thumbs", "python", "none", "busy", "", "90.0 MiB", "128 MiB", "0 B", "0.04%", "3"]]
    assert page.rows("functions") == [["thumbs", "2", "200 MiB", "512 MiB", "100", "", "≤ 5 ms", "> 0.005 s"]]
    assert page.tell("document.querySelector('.share').title") == "5 cold, 0 thawed, 95 warm"
    told = page.tell("document.getElementById('host').innerText")
    for words in ("256 MiB of 1.0 GiB", "768 MiB", "900 MiB", "512 MiB of 1.0 GiB", "1.5% / 0.2%"):
        assert words in told
    assert page.tell("document.getElementById('tier').innerText") == "host is green"
    decision = page.tell("document.querySelector('#decisions li').innerText")
    for words in ("12:00:00.123", "shrink", "thumbs-1", "idle for longer than usual", "freed 78.0 MiB"):
        assert words in decision


def test_bars_move_as_a_sandbox_is_shrunk_and_grown(page, door):
    before = page.bar(1)
    assert (round(before["current"], 2), round(before["max"], 1)) == (0.7, 1.0) and "high" not in before
    door.send("sandboxes", {"sandboxes": SMALL, "limitsEnforced": True})
    page.until("document.querySelectorAll('#sandboxes .state')[1].innerText === 'shrunk'")
    after = page.bar(1)
    assert after["current"] < 0.06 and after["swap"] > 0.3, "what went out stands behind what is left"
    assert after["current"] < after["high"] < after["max"] < 0.11, "on the scale of what it had"
    assert page.tell("document.querySelectorAll('#sandboxes .bar')[1].title") == \
        "6.0 MiB in use, 40.0 MiB swapped out, high 8.0 MiB, max 12.0 MiB"
    door.send("sandboxes", {"sandboxes": LARGE, "limitsEnforced": True})
    page.until("document.querySelectorAll('#sandboxes .state')[1].innerText === 'busy'")
    assert page.bar(1) == before


def test_a_host_that_hurts_is_said_in_words_and_in_colour(page, door):
    green = page.tell("getComputedStyle(document.getElementById('tier')).color")
    door.send("host", host("red", 1000))
    page.until("document.getElementById('tier').innerText === 'host is red'")
    assert page.tell("getComputedStyle(document.getElementById('tier')).color") != green


def test_keys_filter_and_pause(page, door):
    page.key("/")
    page.until("document.activeElement.id === 'filter'")
    for letter in "thu":
        page.key(letter)
    page.until("document.querySelectorAll('#sandboxes tbody tr').length === 1")
    page.tell("document.activeElement.blur()")
    page.key("p")
    page.until("document.getElementById('pause').getAttribute('aria-pressed') === 'true'")
    door.send("sandboxes", {"sandboxes": SMALL, "limitsEnforced": True})
    door.send("decision", {**DECISION, "reason": "the last of these events"})
    time.sleep(0.5)
    assert page.rows("sandboxes")[0][4] == "busy", "nothing moves"
    page.key("p")
    page.until("document.querySelector('#sandboxes .state').innerText === 'shrunk'")


def test_every_control_and_every_picture_has_a_name_for_who_cannot_see_it(page):
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    def of(*roles):
        return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes
                if not n["ignored"] and n["role"]["value"] in roles]
    named = of("img", "image", "button", "searchbox", "textbox", "table", "columnheader", "list")
    assert len(named) > 20 and all(name for role, name in named if role != "table"), named
    assert ("button", "Pause") in named and any(role == "searchbox" and name == "Function" for role, name in named)
    assert len(of("heading")) == 5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read_in_the_light_and_in_the_dark(browser, door, dark):
    page = Page(browser, door.url, dark)
    page.until("document.querySelectorAll('#sandboxes tbody tr').length === 2")
    page.picture("dark" if dark else "light")

    def light(colour):
        parts = [int(p) / 255 for p in colour.strip("rgba()").split(",")[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    back = light(page.tell("getComputedStyle(document.querySelector('section')).backgroundColor"))
    assert (back < 0.1) == dark
    for place in ("h1", "dt", "dd", "th", "td", "#tier", "#decisions time", "#decisions small", ".state", ".legend"):
        ink = light(page.tell(f"getComputedStyle(document.querySelector('{place}')).color"))
        assert (max(ink, back) + 0.05) / (min(ink, back) + 0.05) >= 4.5, place  # WCAG 2.2, 1.4.3


def test_it_asks_nobody_else_and_breaks_none_of_its_own_rules(page, door, browser):
    page.until("document.getElementById('connection').innerText === 'live'")
    asked = [e["params"]["request"]["url"] for e in browser.events
             if e["method"] == "Network.requestWillBeSent" and e.get("sessionId") == page.session]
    assert asked and all(url.startswith((door.url, "data:")) for url in asked), asked
    wrong = [e for e in browser.events if e.get("sessionId") == page.session and
             (e["method"] == "Log.entryAdded" and e["params"]["entry"]["level"] == "error"
              or e["method"] == "Runtime.exceptionThrown")]
    assert not wrong, wrong
    blocked = page.tell("(() => { const s = document.createElement('script'); s.textContent = 'window.broken = 1';"
                        " document.body.append(s); return window.broken === undefined; })()")
    assert blocked, "a script of anybody else's does not run"


def test_a_daemon_that_goes_away_is_said_and_found_again(page, door):
    door.lives = False
    door.hang_up()
    page.until("document.getElementById('connection').innerText.startsWith('the daemon does not answer')")
    assert len(page.rows("sandboxes")) == 2, "what was known stays"
    door.lives = True
    page.until("document.getElementById('connection').innerText === 'live'")
