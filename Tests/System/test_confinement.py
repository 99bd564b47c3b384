# SPDX-License-Identifier: Apache-2.0
"""A program inside a sandbox tries everything that has led out of one; each attempt is a row of confinement.py."""
import ctypes
import json
import os
import shutil

import pytest

from confinement import ATTACKS, CLASSES, FACTS, ROWS, build, outcome, run_outside

CONFIG = "reclaim: {mode: off}\ndefaults: {timeout: 120s, init_timeout: 120s}\n"

SYS_LANDLOCK_CREATE_RULESET = 444
LANDLOCK = ctypes.CDLL(None, use_errno=True).syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, 1)
X86 = os.uname().machine == "x86_64"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build(tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="module")
def inside(daemon, program):
    """What came of each probe, by the sandbox's view of /proc."""
    found = {}
    for proc in ("minimal", "masked"):
        source = daemon.directory / f"probe-{proc}"
        source.mkdir()
        shutil.copy(program, source / "bootstrap")
        (source / "function.yaml").write_text(f"proc: {proc}\n")
        result = daemon.fn("deploy", source, "--name", f"probe-{proc}", "--runtime", "provided", "--timeout", "110s")
        assert result.returncode == 0, result.stderr
        answer = daemon.invoke(f"probe-{proc}")
        assert answer.status == 200, answer.body
        found[proc] = answer.json
    return found


@pytest.fixture(scope="module")
def outside(program):
    return json.loads(run_outside(program))


def applies(row):
    return X86 or row.flag != "x86"


@pytest.mark.parametrize("row", [row for row in ROWS if applies(row)], ids=lambda row: f"{row.probe}: {row.sentence}")
def test_a_sandbox_answers(row, inside, outside):
    expected = {"minimal": row.minimal, "masked": row.masked}
    if row.flag == "landlock" and LANDLOCK < 2:
        expected = {"minimal": row.without_landlock, "masked": row.without_landlock}
    control = outcome(outside[row.probe])
    if row.flag == "lacks" and control == "ENOENT":
        expected["masked"] = "ENOENT"  # what a kernel does not have is not covered
    answers = {proc: outcome(inside[proc][row.probe]) for proc in expected}
    assert answers == expected, row.sentence
    # Outside root gets another answer: so what refuses is the sandbox, not the probe's mistake or the kernel's lack.
    refusals = set(expected.values()) - {"ok"}
    if row.flag == "lacks" and control in ("ENOENT", "ENODATA") or row.flag == "new" and control == "ENOSYS":
        return  # this kernel was built without it
    if row.probe == "x32_getpid":
        return  # most kernels have no x32: that the program is not killed is the filter's part
    assert control == "ok" if not refusals else control not in refusals, "it is the same without a sandbox"


@pytest.mark.parametrize("name", FACTS)
def test_a_function_finds_itself(name, inside):
    for proc in ("minimal", "masked"):
        assert inside[proc][f"fact {name}"] == FACTS[name]


def test_every_probe_has_a_row_and_every_row_a_probe(inside):
    probes = {name for name in inside["minimal"] if not name.startswith("fact ")}
    assert probes == {row.probe for row in ROWS if applies(row)}
    assert len(ROWS) == len({row.probe for row in ROWS})


def test_doctor_says_whether_there_is_landlock(daemon):
    line = next(line for line in daemon.fn("doctor").stdout.decode().splitlines() if "landlock" in line)
    assert f"version {LANDLOCK}:" in line if LANDLOCK >= 2 else "without" in line


def test_every_known_attack_has_a_row():
    named = {name for row in ROWS for name in row.against}
    known = {name for names in ATTACKS.values() for name in names}
    assert named == known | CLASSES
