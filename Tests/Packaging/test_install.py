# SPDX-License-Identifier: Apache-2.0
"""`make install` and `make uninstall`."""
import os
import subprocess

import pytest

from conftest import BIN, ROOT, run, tree


@pytest.fixture
def install(tmp_path):
    """Calls scripts/install; the destination is a directory that has things in it already."""
    destination = tmp_path / "root"
    (destination / "usr/local/share/man").mkdir(parents=True)
    (destination / "usr/local/bin").mkdir()
    (destination / "usr/local/bin/other").write_text("somebody else's\n")

    def call(*arguments, check=True, **environment):
        return run(ROOT / "scripts/install", *arguments, check=check, env={
            **os.environ, "DESTDIR": str(destination), "EBB_BIN": str(BIN), **environment})

    call.destination = destination
    return call


def test_what_is_installed_works_from_where_it_is(install):
    install(PREFIX="/opt/ebb")
    prefix = install.destination / "opt/ebb"
    run(prefix / "bin/fn", "version")
    run(prefix / "bin/fnd", "--help")
    # Templates are found beside the program, without a word of where.
    environment = {"PATH": "/usr/bin:/bin"}
    run(prefix / "bin/fn", "init", "hello", "--runtime", "python", cwd=install.destination, env=environment)
    assert (install.destination / "hello/function.yaml").read_text().startswith("name: hello\n")
    doctor = run(prefix / "bin/fnd", "doctor", check=False, env={"FN_STORAGE_STATE": "/no/such", **environment})
    assert f"{prefix}/lib/fn/build-image python /no/such/images" in doctor.stdout.replace("\\/", "/")
    assert "ExecStart=/opt/ebb/bin/fnd\n" in (prefix / "lib/systemd/system/fnd.service").read_text()
    for page in ("man1/fn.1", "man8/fnd.8", "man5/fn.yaml.5", "man5/function.yaml.5"):
        assert (prefix / "share/man" / page).is_file()
    run("bash", "-n", prefix / "share/bash-completion/completions/fn")


def test_the_script_for_images_finds_its_lists_where_it_was_installed(install, tmp_path):
    install()
    script = install.destination / "usr/local/lib/fn/build-image"
    unknown = run(script, "nosuch", tmp_path / "images", check=False)
    assert unknown.returncode == 66 and "share/fn/runtimes/images/nosuch.packages" in unknown.stderr
    # What it needs and the machine lacks is named, with the way to get it.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dirname").symlink_to("/usr/bin/dirname")
    lacking = run("/bin/bash", script, "python", tmp_path / "images", check=False, env={"PATH": str(tmp_path / "bin")})
    assert lacking.returncode == 69 and "apt-get install mmdebstrap" in lacking.stderr
    assert not (tmp_path / "images").exists()


def test_uninstalling_leaves_what_was_there_before_and_nothing_else(install):
    before = tree(install.destination)
    install()
    assert len(tree(install.destination)) > len(before) + 30
    install()  # over itself
    install("--remove")
    assert tree(install.destination) == before
    again = install("--remove", check=False)
    assert again.returncode == 66 and "nothing is installed" in again.stderr


def test_installing_over_itself_works_where_every_directory_was_there_before(install):
    install()
    for path in install.destination.rglob("*"):
        if not path.is_dir() and path.name != "other":
            path.unlink()
    (install.destination / "etc/fn/fn.yaml").write_text("{}\n")
    before = tree(install.destination)
    install()
    install()
    install("--remove")
    assert tree(install.destination) == before


def test_a_configuration_is_never_overwritten_and_stays_when_it_was_changed(install):
    config = install.destination / "etc/fn/fn.yaml"
    install()
    config.write_text("defaults: {memory: 64MiB}\n")
    install()
    assert config.read_text() == "defaults: {memory: 64MiB}\n"
    assert f"kept: {config}, which was changed" in install("--remove").stdout
    assert config.exists()
    config.unlink()
    # One that was there before is not ours to remove, whatever is in it.
    config.write_text("{}\n")
    install()
    install("--remove")
    assert config.read_text() == "{}\n"


def test_state_is_kept_and_said_so(install):
    install()
    (install.destination / "var/lib/fn/code").mkdir(parents=True)
    assert "var/lib/fn, with functions" in install("--remove").stdout
    assert (install.destination / "var/lib/fn/code").is_dir()


def test_make_passes_prefix_and_destination_on(tmp_path):
    # Without `release`, which is built already or does not concern this.
    make = ["make", "-C", ROOT, "--assume-old=release", f"DESTDIR={tmp_path}/root", "PREFIX=/usr"]
    environment = {**os.environ, "EBB_BIN": str(BIN)}
    subprocess.run([*make, "install"], check=True, env=environment)
    assert (tmp_path / "root/usr/bin/fnd").is_file()
    subprocess.run([*make, "uninstall"], check=True, env=environment)
    assert tree(tmp_path / "root") == {}


def test_the_sample_configuration_is_good_with_and_without_its_comments(tmp_path):
    sample = (ROOT / "packaging/fn.yaml").read_text()
    run(BIN / "fn", "config", "check", ROOT / "packaging/fn.yaml")
    head, _, rest = sample.partition("\n\n")
    file = tmp_path / "fn.yaml"
    file.write_text("\n".join(line.removeprefix("# ") for line in rest.splitlines()) + "\n")
    shown = run(BIN / "fn", "config", "check", file)
    # Every value in it is what is built in, but for the example of an operator's word.
    assert shown.stdout.startswith(f"{file}: valid")
    for line in run(BIN / "fnd", "show-config", file, "--origin").stdout.splitlines():
        setting, _, origin = line.partition("  # ")
        if origin.startswith(str(file)) and not setting.startswith("functions."):
            assert setting in run(BIN / "fnd", "show-config", "--defaults").stdout, line
