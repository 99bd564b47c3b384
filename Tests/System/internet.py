# SPDX-License-Identifier: Apache-2.0
"""An internet for the tests: a network namespace with public and private addresses, routed from this machine.

Whatever one connects to in it tells where the connection came from; a small DNS server answers for names.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

PUBLIC = "203.0.113.10"
OTHER = "203.0.113.11"
DNS = "198.51.100.53"
PRIVATE = ["10.77.0.10", "172.16.77.10", "192.168.77.10", "100.64.77.10", "169.254.169.254", "198.18.77.10"]
NAMES = {"world.test": PUBLIC, "inside.test": PRIVATE[0], "metadata.test": "169.254.169.254"}

# Runs inside the namespace: TCP and UDP that say who asks, on port 80, DNS on port 53, and silence on port 81.
SERVER = r"""
import json, os, selectors, socket, struct, sys
addresses, names = json.loads(sys.argv[1]), json.loads(sys.argv[2])
selector = selectors.DefaultSelector()

def listen(kind, port, serve, address="0.0.0.0"):
    opened = socket.socket(socket.AF_INET, kind)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind((address, port))
    if kind == socket.SOCK_STREAM:
        opened.listen(64)
    selector.register(opened, selectors.EVENT_READ, serve)

def who(listener):
    connection, peer = listener.accept()
    with connection:
        connection.settimeout(5)
        try:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + f"{peer[0]} asked {connection.getsockname()[0]}".encode())
        except OSError:
            pass

def echo(server):
    data, peer = server.recvfrom(2048)
    server.sendto(peer[0].encode(), peer)

def answer(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += query[at] + 1
    question = query[12:at + 5]
    kind = struct.unpack(">H", query[at + 1:at + 3])[0]
    address = names.get(".".join(labels))
    found = kind == 1 and address is not None
    header = query[:2] + struct.pack(">HHHHH", 0x8180 if address else 0x8183, 1, int(found), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton(address) if found else b""
    return header + question + record

def resolve(server):
    query, peer = server.recvfrom(2048)
    server.sendto(answer(query), peer)

def resolve_stream(listener):
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(5)
        size = struct.unpack(">H", connection.recv(2))[0]
        said = answer(connection.recv(size))
        connection.sendall(struct.pack(">H", len(said)) + said)

listen(socket.SOCK_STREAM, 80, who)
silent = socket.create_server(("0.0.0.0", 81))  # the kernel takes connections, and nobody looks at them
for address in addresses:  # one by one: an answer has to come from where the question went
    listen(socket.SOCK_DGRAM, 80, echo, address)
    listen(socket.SOCK_DGRAM, 53, resolve, address)
listen(socket.SOCK_STREAM, 53, resolve_stream)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        key.data(key.fileobj)
"""


def run(*command, check=True):
    return subprocess.run([str(word) for word in command], check=check, capture_output=True, text=True)


def network(namespace, *command, check=True):
    return run("ip", "netns", "exec", namespace, *command, check=check)


class Internet:
    """The world behind a veth pair: on this machine only the routes to it, and they go with it."""

    def __init__(self):
        number = os.getpid() % 10_000
        self.namespace, self.link = f"world-{number}", f"w{number}"
        # A pair of this process's own: other tests may run on this machine at the same time.
        base = 2 * (number % 120)
        self.gateway, host = f"192.0.3.{base + 1}", f"192.0.3.{base}"
        addresses = [PUBLIC, OTHER, DNS, *PRIVATE]
        run("ip", "netns", "add", self.namespace)
        try:
            run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
            run("ip", "addr", "add", f"{host}/31", "dev", self.link)
            run("ip", "link", "set", self.link, "up")
            network(self.namespace, "ip", "link", "set", "lo", "up")
            network(self.namespace, "ip", "addr", "add", f"{self.gateway}/31", "dev", "eth0")
            network(self.namespace, "ip", "link", "set", "eth0", "up")
            network(self.namespace, "ip", "route", "add", "default", "via", host)
            for address in addresses:
                network(self.namespace, "ip", "addr", "add", f"{address}/32", "dev", "lo")
                run("ip", "route", "add", f"{address}/32", "via", self.gateway)
            self.server = self.serve(addresses)
        except BaseException:
            self.close()
            raise

    def serve(self, addresses):
        self.script = pathlib.Path(tempfile.mkstemp(suffix=".py")[1])
        self.script.write_text(SERVER)
        server = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, sys.executable, str(self.script), json.dumps(addresses),
             json.dumps(NAMES)], stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "ready\n"
        return server

    def close(self):
        server = getattr(self, "server", None)
        if server:
            server.kill()
            server.wait()
            server.stdout.close()
            self.script.unlink()
        run("ip", "netns", "del", self.namespace, check=False)
        run("ip", "link", "del", self.link, check=False)
