# SPDX-License-Identifier: Apache-2.0
"""Manual pages, judged by mandoc and groff."""
import json
import re
import subprocess

import pytest

from conftest import BIN, ROOT, run

OURS = ["fn.1", "fnd.8", "fn.yaml.5", "function.yaml.5"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("man")
    run(ROOT / "scripts/manuals", BIN, directory)
    return directory


def read(pages, name):
    text = run("mandoc", "-Tutf8", pages / name).stdout
    return re.sub(".\b", "", text)  # bold is a letter over itself


@pytest.mark.parametrize("name", OURS)
def test_a_page_is_clean(pages, name):
    found = subprocess.run(["mandoc", "-Tlint", "-Wall", pages / name], capture_output=True, text=True).stdout
    # mandoc knows only the manuals of this machine.
    problems = [line for line in found.splitlines() if "referenced manual not found" not in line]
    assert not problems
    # And by groff, which is what most people have.
    result = run("man", "--warnings", "--local-file", pages / name, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    assert result.stderr == "" and "NAME" in result.stdout


def commands(tool, words=()):
    for each in tool.get("subcommands", []):
        if each["shouldDisplay"] and each["commandName"] != "help":
            yield (*words, each["commandName"]), each
            yield from commands(each, (*words, each["commandName"]))


@pytest.mark.parametrize("program,name", [("fn", "fn.1"), ("fnd", "fnd.8")])
def test_every_command_and_every_option_has_its_place(pages, program, name):
    tool = json.loads(run(BIN / program, "--experimental-dump-help").stdout)["command"]
    text = read(pages, name)
    found = dict(commands(tool))
    assert len(found) >= 5
    for words, command in found.items():
        assert re.search(rf"^   {program} {' '.join(words)}$", text, re.M), words
        for argument in command["arguments"]:
            for option in argument.get("names", []):
                if option["kind"] == "long" and argument["shouldDisplay"] and option["name"] not in ("help", "version"):
                    assert f"--{option['name']}" in text, (words, option)


def test_every_setting_and_every_exit_status_has_its_place(pages):
    settings = json.loads(run(BIN / "fn", "config", "show", "--defaults", "-o", "json").stdout)["values"]
    text = read(pages, "fn.yaml.5")
    for setting in settings:
        assert re.search(rf"^ +{re.escape(setting['path'])}(\s|$)", text, re.M), setting["path"]
    codes = re.findall(r"case \w+ = (\d+)", (ROOT / "Sources/fn/Failure.swift").read_text())
    status = read(pages, "fn.1").split("EXIT STATUS")[1].split("EXAMPLES")[0]
    assert set(re.findall(r"^ {5}(\d+)\b", status, re.M)) == {"0", *codes}


def test_the_pages_lead_to_each_other(pages):
    for name in OURS:
        see = read(pages, name).split("SEE ALSO")[1]
        for other in OURS:
            if other != name:
                stem, number = other.rsplit(".", 1)
                assert f"{stem}({number})" in see, (name, other)
