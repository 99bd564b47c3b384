# SPDX-License-Identifier: Apache-2.0
"""Every command that README.md and docs/ show is run, against a real daemon, and shows what they say.

A block marked `console` is run: lines after `$ ` are commands (`> ` goes on with one), what follows is what they show,
where `...` stands for anything and a line of it for any lines. `# exit N` at a command's end is its exit status. A
comment in the line before a block says what is special about it:

    <!-- file: NAME -->           the block is written to that file
    <!-- until Ctrl-C -->         its last command runs until it has shown what stands there, and gets SIGINT then
    <!-- needs limits -->         it is run everywhere, but does this only where limits are enforced
    <!-- not run: REASON -->      commands that cannot be run here
"""
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from conftest import BIN, HAS_LIMITS, ROOT, RUNTIMES, SCALE

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What a reader would take for something to type.
COMMAND = re.compile(
    r"^\s*(?:\$ |#? ?(?:sudo )?(?:fn|fnd|make|apt|apt-get|dpkg|docker|podman|buildah|kubectl|systemctl|journalctl"
    r"|curl|aws|git|scripts/\S+|source|export|swift|mkdir|modprobe|zramctl|mkswap|swapon|man)\s)")


class Block:
    def __init__(self, page, line, language, note, text):
        self.page, self.line, self.language, self.text = page, line, language, text
        self.kind, _, self.value = note.partition(":")
        self.value = self.value.strip()

    @property
    def place(self):
        return f"{self.page.name}:{self.line}"

    def commands(self):
        """Each command with the lines that it shows."""
        found = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif line.startswith("> ") and found and not found[-1][1]:
                found[-1][0] += "\n" + line[2:]
            elif found and not found[-1][1] and found[-1][0].endswith("\\"):
                found[-1][0] += "\n" + line
            else:
                assert found, f"{self.place}: a console block begins with a command"
                found[-1][1].append(line)
        return found


def blocks(page):
    found, lines, at = [], page.read_text().splitlines(), 0
    while at < len(lines):
        opening = re.match(r"^( *)```(\S*)\s*$", lines[at])
        if not opening:
            at += 1
            continue
        before = lines[at - 1] if at else ""
        note = re.match(r"^\s*<!-- (.*) -->$", before)
        start = at = at + 1
        while not re.match(r"^ *```\s*$", lines[at]):
            at += 1
        text = "\n".join(line.removeprefix(opening[1]) for line in lines[start:at])
        found.append(Block(page, start, opening[2], note[1] if note else "", text))
        at += 1
    return found


def pattern(lines):
    """What an output has to match; columns may be as wide as they like."""
    parts = []
    for line in lines:
        words = [".*".join(re.escape(part) for part in word.split("...")) for word in line.split()]
        parts.append(r"(?:.*\n)*?" if line.strip() == "..." else r"\s*".join(
            [r"[ \t]*", r"[ \t]+".join(words), r"[ \t]*\n"]))
    return re.compile("".join(parts))


class Session:
    """One shell for a page, in a directory of its own, and the daemon that its commands mean."""

    def __init__(self, daemon, directory):
        self.daemon, self.directory = daemon, directory
        tools = pathlib.Path(tempfile.mkdtemp(prefix="tools-", dir=daemon.directory))
        # The AWS CLI of the tests, by the Python that runs them.
        (tools / "aws").write_text(
            f"#!{sys.executable}\nimport sys, awscli.clidriver\nsys.exit(awscli.clidriver.main())\n")
        (tools / "aws").chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FN_"))},
            "PATH": f"{tools}:{BIN}:{os.environ['PATH']}",
            "HOME": str(directory), "FN_SOCKET": str(daemon.socket), "FN_CONFIG": str(daemon.config),
            "FN_RUNTIMES": RUNTIMES, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self.shell = subprocess.Popen(["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, cwd=directory, env=self.environment)
        self.seen = b""

    def places(self):
        return {
            "127.0.0.1:9000": f"127.0.0.1:{self.daemon.port}", "/etc/fn/fn.yaml": str(self.daemon.config),
            "/etc/fn/keys.yaml": str(self.daemon.directory / "keys.yaml"), "/run/fn/fn.sock": str(self.daemon.socket),
            "/var/lib/fn": str(self.daemon.directory / "state"), " Examples/": f" {ROOT}/Examples/",
        }

    def here(self, text):
        for shown, real in self.places().items():
            text = text.replace(shown, real)
        return text

    def shown(self, text):
        for shown, real in self.places().items():
            text = text.replace(real, shown)
        if not HAS_LIMITS:
            text = text.replace(" (not enforced)", "").replace("Limits are not enforced on this host.\n", "")
        return text if text.endswith("\n") or not text else text + "\n"

    def write(self, block):
        path = pathlib.Path(self.here(block.value))
        path = path if path.is_absolute() else self.directory / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        # As a key has to be; code is read as it is deployed.
        path.write_text(self.here(block.text) + "\n")
        path.chmod(0o600 if path.name == "keys.yaml" else 0o755 if block.text.startswith("#!") else 0o644)

    def run(self, command):
        """What a command shows and its exit status."""
        service = re.fullmatch(r"systemctl (restart|reload) fnd", command.strip())
        if service:
            if service[1] == "reload":
                self.daemon.process.send_signal(signal.SIGHUP)
                return "", 0
            self.daemon.stop()
            self.daemon.start()
            return "", 0
        mark = f"EBB-DOCS-{time.monotonic_ns()}"
        text = f"{{ {self.here(command)}\n}} </dev/null 2>&1; printf '\\n%s %d\\n' {mark} $?\n"
        self.shell.stdin.write(text.encode())
        self.shell.stdin.flush()
        end = re.compile(rf"\n{mark} (\d+)\n".encode())
        deadline = time.monotonic() + 60 * SCALE
        while not end.search(self.seen):
            assert select.select([self.shell.stdout], [], [], max(0, deadline - time.monotonic()))[0], \
                f"`{command}` shows this and does not end:\n{self.seen.decode()}"
            self.seen += os.read(self.shell.stdout.fileno(), 65536)
        found = end.search(self.seen)
        text, self.seen = self.seen[:found.start()].decode(), self.seen[found.end():]
        return self.shown(text), int(found[1])

    def run_until(self, command, wanted):
        process = subprocess.Popen(["bash", "-c", f"exec {self.here(command)}"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.directory,
                                   env=self.environment, start_new_session=True)
        text, deadline = b"", time.monotonic() + 60 * SCALE
        try:
            while not wanted.search(self.shown(text.decode(errors="replace"))):
                ready = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))[0]
                more = os.read(process.stdout.fileno(), 65536) if ready else b""
                assert more, f"`{command}` has not shown what is said, but:\n{text.decode()}"
                text += more
            assert process.poll() is None, f"`{command}` ended by itself:\n{text.decode()}"
            process.send_signal(signal.SIGINT)
            process.wait(30 * SCALE)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def close(self):
        self.shell.stdin.close()
        self.shell.wait(30)
        self.shell.stdout.close()


# What only looks: it may take a while until it shows what is said.
LOOKS = re.compile(
    r"^(?:cat |fn (?:sandboxes|ls|mem|top|queue (show|ls)|logs|why|describe|size|schedule ls|config show)\b)")


def check(session, block):
    commands = block.commands()
    for number, (command, lines) in enumerate(commands):
        expected = re.search(r"#.*\bexit (\d+)\s*$", command)
        status = int(expected[1]) if expected else 0
        wanted = pattern(lines)
        if block.kind == "until Ctrl-C" and number == len(commands) - 1:
            session.run_until(command.split("  #")[0], wanted)
            continue
        is_other_here = block.kind == "needs limits" and not HAS_LIMITS
        compares = any(line.strip() for line in lines) and not is_other_here
        deadline = time.monotonic() + 30 * SCALE
        while True:
            text, code = session.run(command)
            matches = not compares or wanted.fullmatch(text)
            if (code == status or is_other_here) and matches or not LOOKS.match(command) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        said = f"{block.place}: `{command}`"
        assert code == status or is_other_here, f"{said} exits with {code}, not {status}, and shows:\n{text}"
        assert matches, f"{said} shows\n{text}\nand not\n" + "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_is_true(page, own_daemon, tmp_path):
    wanted = [block for block in blocks(page) if block.kind == "file" or block.language == "console"]
    if not wanted:
        return
    daemon = own_daemon("defaults: {timeout: 60s}\n" if SCALE > 1 else "").start()
    session = Session(daemon, tmp_path)
    try:
        for block in wanted:
            if block.kind == "file":
                session.write(block)
            elif block.kind != "not run":
                check(session, block)
    finally:
        session.close()


def test_no_command_is_shown_that_is_not_run_without_a_word_of_why():
    for page in PAGES:
        for block in blocks(page):
            if block.kind == "not run":
                assert len(block.value) > 10, f"{block.place}: why?"
            elif block.kind:
                assert block.kind in ("file", "until Ctrl-C", "needs limits"), f"{block.place}: {block.kind}"
            if block.kind in ("not run", "file") or block.language == "console":
                continue
            typed = [line for line in block.text.splitlines() if COMMAND.match(line)]
            assert not typed, f"{block.place}: mark the block `console`, or say why it is not run: {typed[0]}"


def test_pages_are_found_and_links_lead_somewhere():
    index = (ROOT / "docs/README.md").read_text()
    for page in PAGES[1:]:
        assert page.name == "README.md" or f"({page.name})" in index, f"{page.name} is not in docs/README.md"
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_checker_sees_what_is_wrong():
    assert pattern(["a ... c", "...", "z"]).fullmatch("a b   c\nq\nz\n")
    assert pattern(["SANDBOX  STATE"]).fullmatch("SANDBOX        STATE\n")
    for text in ("a b\nz\n", "a c d\nz\n", "a b c\n"):
        assert not pattern(["a ... c", "z"]).fullmatch(text)
    assert not pattern(["one"]).fullmatch("one\ntwo\n")
