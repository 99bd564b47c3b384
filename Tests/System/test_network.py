# SPDX-License-Identifier: Apache-2.0
"""What functions reach: nothing, or with `network: egress` the internet and no more than that."""
import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess

import pytest

from conftest import SCALE, wait_until
from internet import DNS, OTHER, PRIVATE, PUBLIC, Internet, run

CONFIG = f"""
defaults: {{timeout: 120s, init_timeout: 120s}}
reclaim: {{mode: off}}
network: {{dns: {DNS}, subnet: 10.211.0.0/16}}
"""

CODE = r"""
import errno, os, socket, time, urllib.request

def connect(event):
    with socket.create_connection((event["host"], event["port"]), event["patience"]) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.makefile("rb").read().decode().rsplit("\r\n")[-1]

def fetch(event):
    return urllib.request.urlopen(event["url"], timeout=event["patience"]).read().decode()

def datagram(event):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(event["patience"])
        opened.connect((event["host"], event["port"]))
        opened.send(b"who am I")
        return opened.recv(100).decode()

def serve(event):
    with socket.create_server(("0.0.0.0", event["port"])) as listener:
        own = socket.create_connection((event["own"], event["port"]), 5)
        listener.accept()[0].close()
        own.close()
        open("/tmp/serving", "w").close()
        listener.settimeout(event["patience"])
        return "visited by " + listener.accept()[1][0]

def look(event):
    return {"interfaces": [name for _, name in socket.if_nameindex()], "resolvers": open("/etc/resolv.conf").read()}

def spoof(event):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.IPPROTO_IP, 19, 1)  # IP_TRANSPARENT
    return "allowed"

def hold(event):
    with socket.create_connection((event["host"], event["port"]), event["patience"]) as connection:
        open("/tmp/connected", "w").close()
        for _ in range(int(event["patience"] * 20)):
            connection.sendall(b"x")
            time.sleep(0.05)
    return "held"

def wait(event):
    time.sleep(event["seconds"])
    return "waited"

def handle(event, context):
    try:
        return globals()[event["do"]](event)
    except urllib.error.URLError as error:
        return errno.errorcode.get(getattr(error.reason, "errno", None), str(error.reason))
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
"""

# What the filter answers to TCP, where somebody listens, and to UDP.
REFUSED = "ECONNREFUSED"
UNREACHABLE = "EHOSTUNREACH"


@pytest.fixture(scope="module")
def internet():
    world = Internet()
    yield world
    world.close()


def host_state():
    """What Ebb changes on a host: links, tables, forwarding."""
    links = {line.split()[0].split("@")[0] for line in run("ip", "-br", "link").stdout.splitlines()}
    forwarding = {path.parent.name for path in pathlib.Path("/proc/sys/net/ipv4/conf").glob("*/forwarding")
                  if path.read_text() != "0\n"}
    tables = {line for line in run("nft", "list", "tables").stdout.splitlines() if "ebb" in line}
    return {name for name in links if name.startswith("ebb-")}, tables, forwarding - {"all", "default"}


@pytest.fixture(scope="module", autouse=True)
def untouched(internet):
    """When the last daemon has stopped, the host is as it was."""
    before = host_state()
    yield
    wait_until(lambda: host_state() == before, f"the host to be as it was: {before}, it is {host_state()}")


def ask(daemon, what, name="out", **event):
    answer = daemon.invoke(name, {"do": what, "patience": 20 * SCALE, **event})
    assert answer.status == 200, answer.body
    return answer.json


def deploy(daemon, name="out", network="egress", *arguments):
    daemon.deploy_code(name, {"app.py": CODE}, "python", "app.handle", "--network", network, *arguments)


@pytest.fixture
def out(daemon, internet):
    """A function with egress, in the daemon of this file."""
    deploy(daemon)
    return daemon


def network_namespaces(daemon):
    """The daemon's descriptors of network namespaces."""
    return [f"/proc/{daemon.process.pid}/fd/{fd}" for fd, at in daemon.descriptors().items() if at.startswith("net:")]


def router(daemon):
    """Runs a command in the namespace where the daemon's sandboxes are connected."""
    for fd in network_namespaces(daemon):
        if "uplink" in run("nsenter", f"--net={fd}", "ip", "-br", "link", check=False).stdout:
            return lambda *command: run("nsenter", f"--net={fd}", *command).stdout
    return None


def veths(inside):
    return [line for line in inside("ip", "-br", "link").splitlines() if line.startswith("ebb-")]


def test_a_function_reaches_the_world_by_name_and_by_address(out, internet):
    seen = ask(out, "connect", host=PUBLIC, port=80)
    source, target = seen.split(" asked ")
    assert target == PUBLIC
    assert source in run("ip", "-4", "addr", "show", internet.link).stdout, "the world sees the host's address alone"
    assert ask(out, "fetch", url="http://world.test/") == seen
    assert ask(out, "datagram", host=PUBLIC, port=80) == source
    assert ask(out, "fetch", url="http://nobody.test/") not in (seen, "timeout")
    inside = ask(out, "look")
    assert sorted(inside["interfaces"]) == ["eth0", "lo"]
    assert f"nameserver {DNS}\n" in inside["resolvers"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_at_once(out, address):
    socket.create_connection((address, 80), 5 * SCALE).close()  # somebody is there, and answers the host
    for port in (80, 53):
        assert ask(out, "connect", host=address, port=port) == REFUSED
    assert ask(out, "datagram", host=address, port=80) == UNREACHABLE


def test_a_name_with_a_private_address_leads_nowhere(out):
    for name in ("inside.test", "metadata.test"):
        assert ask(out, "fetch", url=f"http://{name}/") == REFUSED


def test_the_host_itself_is_not_reached(out):
    addresses = [line.split()[3].split("/")[0] for line in run("ip", "-4", "-o", "addr").stdout.splitlines()]
    gateway = run("ip", "-4", "-o", "addr", "show", "to", "10.211.0.0/16").stdout.split()[3].split("/")[0]
    assert gateway in addresses and len(addresses) >= 3
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(0.2)
        for address in addresses:
            socket.create_connection((address, port), 5 * SCALE).close()
            listener.accept()[0].close()
            assert ask(out, "connect", host=address, port=port) == REFUSED, address
        with pytest.raises(TimeoutError):
            listener.accept()


def test_sandboxes_do_not_reach_each_other(out):
    deploy(out, "server")
    ask(out, "look", "server")
    address = out.sandbox("server", "idle")["address"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        visited = pool.submit(ask, out, "serve", "server", port=7000, own=address, patience=20 * SCALE)
        pid = out.sandbox("server", "busy")["pid"]
        wait_until(pathlib.Path(f"/proc/{pid}/root/tmp/serving").exists, "the server to listen", 20)
        assert ask(out, "connect", host=address, port=7000) == REFUSED
        assert ask(out, "datagram", host=address, port=7000) == UNREACHABLE
        # It is there, and from within its own namespace it is reached.
        visit = f"import socket; socket.create_connection(('{address}', 7000), {10 * SCALE}).close()"
        run("nsenter", "-t", pid, "-n", "python3", "-c", visit)
        assert visited.result() == f"visited by {address}"
    out.fn("rm", "-y", "server")


def test_what_the_host_translates_to_a_private_address_is_refused_too(out, internet):
    rules = f"""table ip ebb_test_translation {{
        chain prerouting {{
            type nat hook prerouting priority dstnat; policy accept;
            ip daddr {OTHER} counter dnat to {PRIVATE[0]}
        }}
    }}
    """
    assert ask(out, "connect", host=OTHER, port=80).endswith(OTHER)
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        assert ask(out, "connect", host=OTHER, port=80) == REFUSED
        assert "packets 0 " not in run("nft", "list", "table", "ip", "ebb_test_translation").stdout
    finally:
        run("nft", "delete", "table", "ip", "ebb_test_translation")


def test_there_is_no_way_out_over_ipv6(out):
    ask(out, "look")
    pid = out.sandbox("out", "idle")["pid"]
    for family, expected in (("-4", "eth0"), ("-6", "")):
        said = run("nsenter", "-t", pid, "-n", "ip", family, "-o", "addr").stdout
        assert expected in said and (expected or not said), said
    assert run("nsenter", "-t", pid, "-n", "ip", "-6", "route").stdout == ""


def test_a_source_address_that_is_not_its_own_goes_nowhere(out, internet):
    """A sandbox cannot even try; the root of the host can, from within its namespace."""
    assert ask(out, "spoof") in ("EPERM", "EACCES")
    pid = out.sandbox("out", "idle")["pid"]
    inside = router(out)
    send = ("import socket,sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 0)); "
            f"s.sendto(b'x', ('{PUBLIC}', 80))")

    def forwarded():
        """Connections of the router: a dropped packet makes none."""
        return int(inside("cat", "/proc/sys/net/netfilter/nf_conntrack_count"))

    own = out.sandbox("out", "idle")["address"]
    before = forwarded()
    run("nsenter", "-t", pid, "-n", "ip", "addr", "add", "10.211.99.99/32", "dev", "lo")
    run("nsenter", "-t", pid, "-n", "python3", "-c", send, "10.211.99.99")
    assert forwarded() <= before
    run("nsenter", "-t", pid, "-n", "python3", "-c", send, own)
    assert forwarded() > 0


def test_without_egress_there_is_nothing_but_loopback(daemon, internet):
    deploy(daemon, "quiet", "none")
    for address in (PUBLIC, DNS, PRIVATE[0]):
        assert ask(daemon, "connect", "quiet", host=address, port=80) == "ENETUNREACH"
    assert ask(daemon, "look", "quiet")["interfaces"] == ["lo"]
    sandbox = daemon.sandbox("quiet", "idle")
    assert (sandbox["network"], "address" in sandbox) == ("none", False)


def test_describe_sandboxes_and_doctor_tell_the_network(out):
    ask(out, "look")
    assert "network:      egress  [function]" in out.fn("describe", "out").stdout.decode()
    shown = json.loads(out.fn("sandboxes", "-o", "json").stdout)["sandboxes"]
    mine = [each for each in shown if each["function"] == "out"][0]
    assert mine["network"] == "egress" and mine["address"].startswith("10.211.")
    assert f"names from {DNS}" in out.fn("doctor").stdout.decode()


def test_a_manifest_asks_for_egress_and_a_wrong_word_is_an_error(out):
    manifest = "name: asks\nruntime: python\nhandler: app.handle\nnetwork: {}\n"
    source = out.directory / "asks"
    source.mkdir()
    (source / "app.py").write_text(CODE)
    (source / "function.yaml").write_text(manifest.format("everything"))
    refused = out.fn("deploy", source)
    assert refused.returncode == 64
    assert b"function.yaml:4:10: error: network: expected none or egress, got 'everything'" in refused.stderr
    assert out.fn("deploy", EXAMPLE, "--network", "all").returncode == 64
    (source / "function.yaml").write_text(manifest.format("egress"))
    assert out.fn("deploy", source).returncode == 0
    assert ask(out, "connect", "asks", host=PUBLIC, port=80).endswith(PUBLIC)
    # And may give it up: the next sandbox is another one.
    assert out.fn("update", "asks", "--network", "none").returncode == 0
    assert ask(out, "connect", "asks", host=PUBLIC, port=80) == "ENETUNREACH"
    out.fn("rm", "-y", "asks")


EXAMPLE = pathlib.Path(os.environ["EBB_RUNTIMES"]).parent / "Examples" / "hello-python"


def reload(daemon, network):
    daemon.config.write_text(CONFIG.replace("network: {", "network: {" + network))
    result = daemon.fn("config", "reload")
    assert result.returncode == 0, result.stderr


def test_the_lists_change_while_a_sandbox_runs(own_daemon, internet):
    daemon = own_daemon(CONFIG).start()
    deploy(daemon)
    assert ask(daemon, "connect", host=PUBLIC, port=80).endswith(PUBLIC)
    first = daemon.sandbox("out", "idle")["id"]
    reload(daemon, f"deny: [{PUBLIC}], ")
    assert ask(daemon, "connect", host=PUBLIC, port=80) == REFUSED
    assert ask(daemon, "connect", host=OTHER, port=80).endswith(OTHER)
    reload(daemon, f"allow: [{PRIVATE[0]}, 192.168.0.0/16], ")
    assert ask(daemon, "connect", host=PRIVATE[0], port=80).endswith(PRIVATE[0])
    assert ask(daemon, "connect", host=PRIVATE[2], port=80).endswith(PRIVATE[2])
    assert ask(daemon, "connect", host=PRIVATE[1], port=80) == REFUSED
    reload(daemon, "")
    assert ask(daemon, "connect", host=PRIVATE[0], port=80) == REFUSED
    assert daemon.sandbox("out", "idle")["id"] == first, "all in one sandbox"


def test_a_connection_ends_when_its_address_is_denied(own_daemon, internet):
    daemon = own_daemon(CONFIG).start()
    deploy(daemon)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        held = pool.submit(ask, daemon, "hold", host=PUBLIC, port=81)
        pid = daemon.sandbox("out", "busy")["pid"]
        wait_until(pathlib.Path(f"/proc/{pid}/root/tmp/connected").exists, "the connection", 20)
        reload(daemon, f"deny: [{PUBLIC}], ")
        assert held.result() in ("ECONNRESET", "EPIPE")


def test_without_nft_a_deployment_says_what_to_install(own_daemon, internet):
    hide = 'mount --bind /dev/null "$(readlink -f "$(command -v nft)")" && exec "$@"'
    daemon = own_daemon(CONFIG, wrapper=("unshare", "--mount", "sh", "-c", hide, "sh")).start()
    refused = daemon.fn("deploy", EXAMPLE, "--network", "egress")
    assert refused.returncode == 64
    assert b"network: egress needs the program nft: apt-get install nftables" in refused.stderr
    checks = daemon.request("GET", "/v1/doctor").json["checks"]
    check = [each for each in checks if each["name"] == "egress network"][0]
    assert check["status"] != "pass" and check["fix"] == "apt-get install nftables"
    daemon.deploy("hello-python")
    assert daemon.invoke("hello-python", {"name": "x"}).status == 200, "what needs no network runs"


def test_a_resolver_in_a_private_range_answers_names_and_nothing_else(own_daemon, internet):
    daemon = own_daemon(CONFIG.replace(f"dns: {DNS}", f"dns: [{PRIVATE[1]}]")).start()
    deploy(daemon)
    assert ask(daemon, "fetch", url="http://world.test/").endswith(PUBLIC)
    assert ask(daemon, "connect", host=PRIVATE[1], port=80) == REFUSED
    assert ask(daemon, "datagram", host=PRIVATE[1], port=80) == UNREACHABLE
    first = daemon.sandbox("out", "idle")["id"]
    daemon.config.write_text(CONFIG)
    assert daemon.fn("config", "reload").returncode == 0
    assert f"nameserver {DNS}\n" in ask(daemon, "look")["resolvers"]
    assert ask(daemon, "fetch", url="http://world.test/").endswith(PUBLIC)
    assert daemon.sandbox("out", "idle")["id"] == first, "the new resolver, in the same sandbox"


def test_the_operator_refuses_egress(own_daemon, internet):
    daemon = own_daemon(CONFIG).start()
    deploy(daemon)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # Busy meanwhile, with the network that it was started with.
        waiting = pool.submit(ask, daemon, "wait", seconds=5 * SCALE)
        inside = wait_until(lambda: router(daemon), "the network to be set up", 20)
        pid = daemon.sandbox("out", "busy")["pid"]
        connect = f"import socket; socket.create_connection(('{PUBLIC}', 80), {10 * SCALE}).close()"
        run("nsenter", "-t", pid, "-n", "python3", "-c", connect)
        reload(daemon, "egress: refuse, ")
        said = run("nsenter", "-t", pid, "-n", "python3", "-c", connect, check=False).stderr
        assert "Connection refused" in said, said
        assert waiting.result() == "waited"
    assert "network:      none  [limit]" in daemon.fn("describe", "out").stdout.decode()
    assert ask(daemon, "connect", host=PUBLIC, port=80) == "ENETUNREACH"
    again = daemon.fn("deploy", EXAMPLE, "--network", "egress")
    assert again.returncode == 64
    assert again.stderr.decode().strip().splitlines()[-1].endswith(
        "network: the operator refuses egress (network.egress in fn.yaml): deploy it with network none")
    assert inside("ip", "-br", "link")
    reload(daemon, "")
    assert ask(daemon, "connect", host=PUBLIC, port=80).endswith(PUBLIC)


def test_the_operators_word_on_one_function_replaces_its_sandboxes(own_daemon, internet):
    daemon = own_daemon(CONFIG).start()
    deploy(daemon)
    assert ask(daemon, "connect", host=PUBLIC, port=80).endswith(PUBLIC)
    daemon.config.write_text(CONFIG + "functions: {out: {network: none}}\n")
    assert daemon.fn("config", "reload").returncode == 0
    assert ask(daemon, "connect", host=PUBLIC, port=80) == "ENETUNREACH"


def test_twenty_sandboxes_leave_nothing(own_daemon, internet):
    daemon = own_daemon(CONFIG).start()
    before = host_state()
    deploy(daemon, "out", "egress", "--memory", "48MiB", "--min-warm", "20")

    def connected():
        found = [each for each in daemon.sandboxes("out") if each["state"] == "idle" and each.get("address")]
        return found if len(found) == 20 else None

    sandboxes = wait_until(connected, "twenty sandboxes with addresses", 120)
    inside = router(daemon)
    assert len({each["address"] for each in sandboxes}) == 20
    assert len(veths(inside)) == 20
    assert len(host_state()[0] - before[0]) == 1, "on the host there is one interface, whatever number of sandboxes"
    for _ in range(3):
        ask(daemon, "connect", host=PUBLIC, port=80)
    assert daemon.fn("rm", "-y", "out").returncode == 0
    wait_until(lambda: not daemon.sandboxes("out"), "the sandboxes to end", 60)
    wait_until(lambda: not veths(inside), "the interfaces to go with their namespaces", 60)
    wait_until(lambda: inside("cat", "/proc/sys/net/netfilter/nf_conntrack_count") == "0\n",
               "the connections to be forgotten", 60)
    # Eight in stock, and the router.
    wait_until(lambda: len(network_namespaces(daemon)) == 8 + 1, "no namespace of a sandbox to be held", 60)


def test_nothing_is_left_of_a_killed_daemon(own_daemon, internet):
    before = host_state()
    daemon = own_daemon(CONFIG).start()
    deploy(daemon)
    assert ask(daemon, "connect", host=PUBLIC, port=80).endswith(PUBLIC)
    links, tables, forwarding = host_state()
    assert len(links - before[0]) == 1 and len(tables - before[1]) == 1 and internet.link in forwarding
    daemon.stop(signal.SIGKILL)
    # The namespace goes with the daemon, and with it the host's interface.
    wait_until(lambda: host_state()[0] == before[0], "the interface to go", 20)
    assert host_state()[1] == tables, "the rules stay until somebody looks"
    daemon.start()
    assert host_state() == before
    assert not (daemon.directory / "state" / "egress").exists()
    assert ask(daemon, "connect", host=PUBLIC, port=80).endswith(PUBLIC), "and the function goes out again"


def test_forwarding_goes_to_sandboxes_and_nowhere_else(own_daemon, internet):
    """That answers can come in must not make a router of the host."""
    daemon = own_daemon(CONFIG).start()
    deploy(daemon)
    ask(daemon, "connect", host=PUBLIC, port=80)
    if pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text() != "0\n":
        # It is a router by its operator's decision: then Ebb keeps out of it.
        assert f'"{internet.link}"' not in run("nft", "list", "ruleset").stdout
        return
    neighbour = f"n{os.getpid() % 10_000}"
    run("ip", "netns", "add", neighbour)
    try:
        run("ip", "link", "add", neighbour, "type", "veth", "peer", "name", "eth0", "netns", neighbour)
        run("ip", "addr", "add", "192.0.4.0/31", "dev", neighbour)
        run("ip", "link", "set", neighbour, "up")
        for command in ("addr add 192.0.4.1/31 dev eth0", "link set eth0 up", "route add default via 192.0.4.0"):
            run("ip", "-n", neighbour, *command.split())
        pathlib.Path(f"/proc/sys/net/ipv4/conf/{neighbour}/forwarding").write_text("1")
        sent = f"import socket; socket.create_connection(('192.0.4.1', 9), {5 * SCALE})"
        answer = run("ip", "netns", "exec", internet.namespace, "python3", "-c", sent, check=False).stderr
        assert "timed out" in answer, answer
    finally:
        run("ip", "netns", "del", neighbour)
