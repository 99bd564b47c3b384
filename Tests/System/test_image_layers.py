# SPDX-License-Identifier: Apache-2.0
"""What images are unpacked to, and which are refused: nothing outside of the image is touched, and nothing is left."""
import gzip
import json
import os
import pathlib
import tarfile
import zlib

import pytest

from conftest import wait_until
from images import ARCHITECTURE, Image, edited, entry, folder, hardlink, sha256, symlink, tar

CONFIG = "limits: {image: 8MiB, unpacked_image: 4MiB, image_entries: 2000, image_manifest: 64KiB}\n"
RUN = {"Entrypoint": ["/a"]}


def stored(daemon):
    return {path.name for path in (daemon.directory / "state" / "code").iterdir()}


def deploy(daemon, path, name="f"):
    return daemon.fn("deploy", "--image", path, "--name", name)


@pytest.fixture
def tree(daemon, tmp_path):
    """Unpacks layers; what is at a path afterwards is text, a directory's names, `-> target`, or nothing."""
    made = []

    def unpack(*layers, **options):
        image = Image(*layers, config=RUN, **options)
        made.append(image)
        result = deploy(daemon, image.archive(tmp_path / "i.tar"))
        assert result.returncode == 0, result.stderr.decode()
        root = daemon.directory / "state" / "code" / image.id / "tree"

        def at(path):
            place = root / path
            if place.is_symlink():
                return f"-> {os.readlink(place)}"
            if place.is_dir():
                return sorted(child.name for child in place.iterdir())
            return place.read_text() if place.exists() else None
        at.root = root
        return at

    yield unpack
    daemon.fn("rm", "--yes", "f")
    assert not stored(daemon) & {image.id for image in made}


def test_later_layers_lie_over_earlier_ones(tree):
    at = tree(tar(entry("a", "1"), entry("d/x", "1"), entry("d/y", "1"), folder("was-d"), entry("was-d/z", "1"), entry("was-f", "1"),
                  symlink("was-l", "d")),
              tar(entry("./a", "2"), entry("/d/y", "2"), entry("was-d", "a file"), folder("was-f"), entry("was-f/q", "2"),
                  folder("was-l"), entry("was-l/new", "2")))
    assert (at("a"), at("d/x"), at("d/y"), at("was-d"), at("was-f/q")) == ("2", "1", "2", "a file", "2")
    assert (at("was-l"), at("d")) == (["new"], ["x", "y"]), "a directory takes the place of a link"


def test_whiteouts_hide_what_lower_layers_have_and_nothing_else(tree):
    lower = tar(entry("gone", "1"), entry("dir/a", "1"), entry("dir/sub/b", "1"), entry("opaque/old", "1"),
                entry("opaque/sub/old", "1"), entry("late/old", "1"), entry("late/sub/old", "1"), entry("kept", "1"))
    upper = tar(entry(".wh.gone"), entry(".wh.dir"), entry(".wh.never-was"), entry(".wh..wh.aufs"), entry("nowhere/.wh.x"),
                # The order in a layer means nothing: what it brings itself stays.
                entry("opaque/.wh..wh..opq"), entry("opaque/new", "2"), entry("late/new", "2"), entry("late/sub/new", "2"),
                entry("late/.wh..wh..opq"), entry("kept", "2"), entry(".wh.kept"))
    at = tree(lower, upper)
    assert (at("gone"), at("dir"), at("nowhere"), at("kept")) == (None, None, None, "2")
    assert (at("opaque"), at("late"), at("late/sub")) == (["new"], ["new", "sub"], ["new"])
    assert not [path for path in at.root.rglob(".wh*")]


def test_a_whiteout_at_the_top_starts_anew(tree):
    at = tree(tar(entry("old", "1"), entry("d/old", "1")), tar(entry("a", "2"), entry(".wh..wh..opq"), folder("d")))
    assert (at(""), at("d")) == (["a", "d"], [])


def test_hard_links_are_one_file_across_layers_too(tree):
    at = tree(tar(entry("a", "1", mode=0o755), hardlink("b", "a"), symlink("l", "a"), hardlink("m", "l")),
              tar(hardlink("d/c", "/a"), hardlink("d/c", "./a"), entry("a", "2")))
    assert (at("a"), at("b"), at("d/c"), at("m")) == ("2", "1", "1", "-> a")
    assert (at.root / "b").stat().st_ino == (at.root / "d/c").stat().st_ino


def test_links_to_directories_are_followed_inside_of_the_image_only(tree, daemon):
    outside = daemon.directory / "outside"
    outside.mkdir(exist_ok=True)
    up = "../" * 30
    at = tree(tar(folder("usr/lib"), symlink("lib", "usr/lib"), symlink("up", up + str(outside)), symlink("abs", str(outside)),
                  folder(str(outside)[1:])),
              tar(entry("lib/x", "1"), entry("up/x", "2"), entry("abs/y", "3"), hardlink("up/z", "abs/y")))
    inside = str(outside)[1:]
    assert (at("usr/lib/x"), at(f"{inside}/x"), at(f"{inside}/y"), at(f"{inside}/z")) == ("1", "2", "3", "3")
    assert not list(outside.iterdir())


def test_files_are_roots_readable_by_all_and_nobodys_way_up(tree):
    at = tree(tar(entry("a", "1", mode=0o6755, uid=1234), entry("secret", "1", mode=0o600, gid=99), folder("locked", mode=0o700),
                  entry("tool", "1", mode=0o100), entry("dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)))
    look = {name: (at.root / name).stat() for name in ("a", "secret", "locked", "tool")}
    assert [oct(each.st_mode & 0o7777) for each in look.values()] == ["0o755", "0o644", "0o755", "0o755"]
    assert {(each.st_uid, each.st_gid) for each in look.values()} == {(0, 0)}
    assert at("dev") is None and look["a"].st_mtime == 1_600_000_000


def test_names_are_bytes(tree):
    name = "Főtanúsítvány-\\x2d☃"
    at = tree(tar(entry(f"d/{name}", "1"), symlink("l", name)))
    assert at("d") == [name] and at("l") == f"-> {name}"


@pytest.mark.parametrize("packing", ["", "+gzip", "+zstd"])
def test_each_packing_is_unpacked_and_what_lies_behind_the_archive_is_counted(tree, packing):
    at = tree(tar(entry("a", "1" * 300_000)) + b"\0" * 50_000, packing=packing)
    assert at("a") == "1" * 300_000


def test_an_image_without_layers_is_an_empty_one(tree):
    assert tree()("") == []


def bomb():
    packer = zlib.compressobj(9, wbits=31)
    head = tarfile.TarInfo("zeros")
    head.size = 5 << 20
    return packer.compress(head.tobuf() + b"\0" * (5 << 20) + b"\0" * 1024) + packer.flush()


def sparse():
    """A file of 2^40 bytes, none of which are in the archive (GNU, POSIX form 1.0)."""
    data = b"1\n1099511627775\n1\n".ljust(512, b"\0") + b"x"
    info, _ = entry("GNUSparseFile.0/huge", data)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "huge", "GNU.sparse.realsize": str(1 << 40)}
    return tar((info, data))


def layer(*entries):
    return lambda: Image(tar(*entries), config=RUN)


def layers(*all_of_them):
    return lambda: Image(*[tar(*entries) for entries in all_of_them], config=RUN)


def packed(data, contents=None):
    def make():
        image = Image(b"", config=RUN, packing="+gzip")
        image.packed = [data() if callable(data) else data]
        image.config["rootfs"]["diff_ids"] = [f"sha256:{contents or '0' * 64}"]
        return image
    return make


def with_config(**changes):
    return lambda: Image(tar(entry("a", "1")), config=edited(RUN, **changes))


def with_top(**changes):
    return lambda: Image(tar(entry("a", "1")), config=RUN, **changes)


def manifest(**changes):
    def make():
        image = Image(tar(entry("a", "1")), config=RUN)
        image.edit_manifest = lambda document: edited(document, **changes)
        return image
    return make


def index(change):
    def make():
        image = Image(tar(entry("a", "1")), config=RUN)
        image.edit_index = change
        return image
    return make


def other_type(kind):
    def make():
        image = Image(tar(entry("a", "1")), config=RUN)
        image.types = [kind]
        return image
    return make




def nested(depth):
    def make():
        image = Image(tar(entry("a", "1")), config=RUN)

        def wrap(document):
            for _ in range(depth):
                document = {"schemaVersion": 2, "manifests": [image.blob(document, "application/vnd.oci.image.index.v1+json")]}
            return document
        image.edit_index = wrap
        return image
    return make


LONG = "/".join(["d" * 200] * 12)
DEEP = [entry(f"{LONG[:1800]}/x", "1"), symlink("s", LONG[:1800]), entry(f"s/{LONG[:1800]}/y", "1")]

HOSTILE = {
    # Names.
    "leads out": (layer(entry("a/../../x", "1")), "entry 'a/../../x' leads out with '..'"),
    "too long": (layer(entry("x/" * 1500, "1")), "is too long or too deep"),
    "too deep": (layer(entry("x/" * 200 + "y", "1")), "is too long or too deep"),
    "too deep through a link": (lambda: Image(tar(*DEEP), config=RUN), "lies too deep"),
    "controls the terminal": (layer(entry("a\033[2J/../b", "1")), "entry 'a?[2J/../b' leads out"),
    # Links.
    "hard link out": (layer(hardlink("x", "../../etc/passwd")), "entry '../../etc/passwd' leads out with '..'"),
    "hard link to the host": (layer(hardlink("x", "/etc/passwd")), "entry 'x' is a hard link to 'etc/passwd', which is no file"),
    "hard link behind a link": (layer(symlink("s", "/etc"), hardlink("x", "s/passwd")), "is a hard link to 's/passwd', which is no file"),
    "hard link to a directory": (layer(folder("d"), hardlink("x", "d")), "is a hard link to 'd', which is no file"),
    "hard link into what it replaces": (layer(entry("d/f", "1"), hardlink("d", "d/f")), "entry 'd' cannot be linked to 'd/f'"),
    "through a link out": (layers([symlink("s", "/../../../../../../etc")], [entry("s/cron.d/x", "1")]), "entry 's/cron.d/x' lies behind a link that leads nowhere"),
    "through a link in place of a directory": (
        layers([folder("d"), entry("d/a", "1")], [symlink("d", "/proc/self/root/tmp"), entry("d/x", "1")]),
        "entry 'd/x' lies behind a link that leads nowhere"),
    "through a link in circles": (layer(symlink("s", "t"), symlink("t", "s"), entry("s/x", "1")), "entry 's/x' lies behind a link that leads in circles"),
    "through a file": (layer(entry("f", "1"), entry("f/x", "1")), "entry 'f/x' needs a directory where a file is"),
    "link to nothing": (layer(symlink("s", "")), "entry 's'"),
    # Kinds.
    "device": (layer(entry("sda", kind=tarfile.BLKTYPE, devmajor=8)), "entry 'sda' is a device, pipe or socket"),
    "device deeper": (layer(entry("x/dev/mem", kind=tarfile.CHRTYPE, devmajor=1, devminor=1)), "entry 'x/dev/mem' is a device"),
    "device beside dev": (layer(entry("dev", kind=tarfile.CHRTYPE, devmajor=1, devminor=1)), "entry 'dev' is a device"),
    "pipe": (layer(entry("p", kind=tarfile.FIFOTYPE)), "entry 'p' is a device, pipe or socket"),
    # Whiteouts.
    "whiteout of nothing": (layer(entry("d/.wh.", "1")), "entry '.wh.' is a whiteout of no name"),
    "whiteout of its directory": (layer(entry("d/.wh..", "1")), "entry '.wh..' is a whiteout of no name"),
    "whiteout of what is above": (layer(entry("d/.wh...", "1")), "entry '.wh...' is a whiteout of no name"),
    "below a whiteout": (layer(entry(".wh.d/x", "1")), "entry '.wh.d/x' lies below a whiteout"),
    "whiteout by path": (layer(entry(".wh..wh..opq/x", "1")), "lies below a whiteout"),
    # Sizes.
    "too many": (lambda: Image(tar(*[entry(f"f{n}") for n in range(2001)]), config=RUN), "more than 2000 entries (limits.image_entries"),
    "too many directories": (lambda: Image(tar(*[folder(f"d{n}") for n in range(2001)]), config=RUN), "more than 2000 entries"),
    "bomb": (packed(bomb), "unpacked it is larger than 4MiB (limits.unpacked_image"),
    "bomb in a bomb": (packed(lambda: gzip.compress(bomb())), "unpacked it is larger than 4MiB"),
    "bomb behind the archive": (packed(lambda: gzip.compress(tar(entry("a", "1")) + b"\0" * (5 << 20))), "unpacked it is larger than 4MiB"),
    "sparse": (lambda: Image(sparse(), config=RUN), "unpacked it is larger than 4MiB"),
    "the same again and again": (lambda: Image(*[tar(entry("a", b"x" * (1 << 20)))] * 5, config=RUN), "unpacked it is larger than 4MiB"),
    "large manifest": (manifest(annotations={"x": "x" * 70_000}), "its manifest is larger than 64KiB (limits.image_manifest"),
    "large index": (index(lambda document: edited(document, annotations={"x": "x" * 70_000})), "index.json is larger than 64KiB"),
    "large configuration": (with_config(Labels={"x": "x" * 70_000}), "its configuration is larger than 64KiB"),
    "too many layers": (lambda: Image(*[tar(entry("a"))] * 257, config=RUN), "more than 256 layers"),
    # Damage.
    "no archive": (packed(gzip.compress(b"nothing of the kind" * 100)), "an archive in it cannot be read"),
    "half of it": (packed(lambda: gzip.compress(os.urandom(60_000))[:30_000]), "an archive in it cannot be read"),
    "another layer": (packed(lambda: gzip.compress(tar(entry("a", "2")))), "layer 1 unpacks to sha256:"),
    "no digest": (with_top(rootfs={"type": "layers", "diff_ids": ["md5:1234"]}), "'md5:1234' is no digest"),
    "digest that is a path": (index(lambda d: edited(d, manifests=[edited(d["manifests"][0], digest="sha256:../../../etc/passwd")])), "is no digest"),
    "missing blob": (index(lambda d: edited(d, manifests=[edited(d["manifests"][0], digest=f"sha256:{'a' * 64}")])), "is missing"),
    "another size": (index(lambda d: edited(d, manifests=[edited(d["manifests"][0], size=7)])), "bytes, and not 7"),
    "fewer layers than contents": (manifest(layers=[]), "it has 0 layers, and its configuration 1"),
    "no layers": (with_top(rootfs={"type": "disk", "diff_ids": [f"sha256:{'0' * 64}"]}), "is of type 'disk', not layers"),
    "no JSON": (index(lambda _: "text"), "index.json cannot be read"),
    "deep JSON": (lambda: deep_json(), "cannot be read"),
    "indexes without end": (nested(5), "leads to indexes without end"),
    # Kinds of documents.
    "unknown layer": (other_type("application/vnd.oci.image.layer.v1.tar+lz9"), "a layer is of type 'application/vnd.oci.image.layer.v1.tar+lz9'"),
    "foreign layer": (other_type("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "no foreign layers"),
    "no image": (manifest(config={"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": f"sha256:{sha256(b'x')}", "size": 1}), "it is no container image"),
    "unknown manifest": (index(lambda d: edited(d, manifests=[edited(d["manifests"][0], mediaType="text/html")])), "something of type 'text/html'"),
    "empty index": (index(lambda d: edited(d, manifests=[])), "it holds no image"),
    "two images": (index(lambda d: edited(d, manifests=[edited(d["manifests"][0], annotations={"org.opencontainers.image.ref.name": "one"}),
                                                       edited(d["manifests"][0], digest=f"sha256:{'b' * 64}")])), "it holds 2 images (one, sha256:bbb"),
    "another processor": (index(lambda d: edited(d, manifests=[edited(d["manifests"][0], platform={"os": "linux", "architecture": "s390x"})])),
                          f"it is for linux/s390x, and this host runs linux/{ARCHITECTURE}"),
    "another processor unsaid": (with_top(architecture="s390x"), "it is for linux/s390x"),
    "another system": (with_top(os="windows"), "it is for windows/"),
    # What is to be started.
    "nothing to run": (with_config(Entrypoint=[], Cmd=None), "names no program to run"),
    "NUL in an argument": (with_config(Entrypoint=["/a\0b"]), "holds a NUL character"),
    "variable without a name": (with_config(Env=["=x"]), "its Env holds '=x'"),
    "too much to say": (with_config(Env=[f"A{n}={'x' * 1000}" for n in range(60)], Cmd=["x" * 1000] * 90), None),
    "working directory out": (with_config(WorkingDir="/../../x"), "leads out with '..'"),
    "working directory is a file": (with_config(WorkingDir="/a/b"), "needs a directory where a file is"),
    "two ports": (with_config(ExposedPorts={"80/tcp": {}, "443/tcp": {}}), "exposes ports 80, 443: name one with --port"),
    "port of the system": (with_config(ExposedPorts={"80/tcp": {}}), "port 80: expected one from 1024 to 65535"),
}


def deep_json():
    image = Image(tar(entry("a", "1")), config=RUN)
    files = image.files()
    files["index.json"] = b'{"manifests":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    return files


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_images_are_refused_and_leave_nothing(daemon, tmp_path, what):
    make, words = HOSTILE[what]
    if words is None:
        # 64 KiB of configuration are what this daemon takes; the arguments of a program may be 128 KiB.
        words = "is larger than 64KiB"
    made, canary = make(), daemon.directory / "canary"
    canary.write_text("here")
    before, root = stored(daemon), sorted(os.listdir("/")) + sorted(os.listdir(daemon.directory))
    if isinstance(made, dict):
        (tmp_path / "i.tar").write_bytes(tar(*[entry(name, data) for name, data in made.items()]))
    else:
        made.archive(tmp_path / "i.tar")
    result = deploy(daemon, tmp_path / "i.tar")
    said = result.stderr.decode()
    assert (result.returncode, result.stdout) == (64, b""), said
    assert words in said and len(said.splitlines()) == 1, said
    assert stored(daemon) == before
    assert sorted(os.listdir("/")) + sorted(os.listdir(daemon.directory)) == root and canary.read_text() == "here"
    assert daemon.request("GET", "/v1/functions/f").status == 404


def outer(*entries):
    return lambda path: path.write_bytes(tar(*entries))


def changed(name, data):
    def write(path):
        files = Image(tar(entry("a", "1")), config=RUN).files()
        names = [each for each in files if each.startswith("blobs/")]
        files[{"blob": names[0]}.get(name, name)] = data
        path.write_bytes(tar(*[entry(*each) for each in files.items()]))
    return write


def docker(edit, **more):
    return lambda path: Image(tar(entry("a", "1")), config=RUN, **more).docker(path, edit=edit)


@pytest.mark.parametrize("write, words, code", [
    (lambda path: path.write_bytes(b""), "an archive in it cannot be read", 64),
    (lambda path: path.write_text("no archive at all\n" * 100), "an archive in it cannot be read", 64),
    (outer(entry("x", "1")), "it is no OCI layout and no docker archive", 64),
    (outer(entry("../x", "1")), "leads out", 64),
    (outer(entry("x", "1"), entry("./x", "2")), "entry 'x' is there twice", 64),
    (outer(entry("x", kind=tarfile.CHRTYPE)), "entry 'x' is no file", 64),
    (outer(*[entry(f"f{n}") for n in range(10_001)]), "more than 10000 files", 64),
    (outer(symlink("manifest.json", "/etc/passwd"), symlink("index.json", "manifest.json")), "it is no tar archive, or an empty one", 64),
    (outer(entry("x", "1"), symlink("manifest.json", "/etc/passwd")), "it has no index.json and no manifest.json", 64),
    (changed("blob", b"something else"), "is damaged: its digest is sha256:", 64),
    (changed("oci-layout", b'{"imageLayoutVersion": "2.0.0"}'), "its layout is of version '2.0.0'", 64),
    (changed("oci-layout", b"{}"), "oci-layout cannot be read: 'imageLayoutVersion' is missing", 64),
    (docker(lambda saved: saved * 2), "it holds 2 images (test:latest, test:latest): save one", 64),
    (docker(lambda saved: [edited(saved[0], Layers=["gone/layer.tar"])]), "'gone/layer.tar' is missing in it", 64),
    (docker(lambda saved: [edited(saved[0], Layers=[])]), "it has 0 layers, and its configuration 1", 64),
    (docker(lambda saved: [edited(saved[0], Config=saved[0]["Layers"][0])]), "its configuration cannot be read", 64),
    (docker(lambda saved: {}), "manifest.json cannot be read", 64),
    (docker(lambda saved: saved, architecture="riscv64"), "it is for linux/riscv64", 64),
    (lambda path: os.truncate(path.open("w").name, 9 << 20), "the image is larger than 8MiB (limits.image in fn.yaml)", 1),
    (lambda path: path.write_bytes(gzip.compress(tar(entry("x", b"x" * (9 << 20))))), "the image is larger than 8MiB (limits.image", 1),
])
def test_archives_that_hold_no_image_are_refused(daemon, tmp_path, write, words, code):
    before = stored(daemon)
    write(tmp_path / "i.tar")
    result = deploy(daemon, tmp_path / "i.tar")
    said = result.stderr.decode()
    assert result.returncode == code and words in said, said
    assert len(said.splitlines()) == 1 and stored(daemon) == before


def test_an_upload_without_a_length_is_cut_at_the_limit(daemon):
    before = stored(daemon)
    result = daemon.fn("deploy", "--image", "-", "--name", "f", stdin=os.urandom(9 << 20))
    assert result.returncode == 1 and b"the image is larger than 8MiB" in result.stderr, result.stderr
    wait_until(lambda: stored(daemon) == before, "it to be gone")


def test_a_hostile_image_leaves_a_function_as_it_was(daemon, tmp_path):
    assert deploy(daemon, Image(tar(entry("a", "1")), config=RUN).archive(tmp_path / "i.tar"), "safe").returncode == 0
    before = daemon.describe("safe")
    make, _ = HOSTILE["device"]
    assert deploy(daemon, make().archive(tmp_path / "i.tar"), "safe").returncode == 64
    assert daemon.describe("safe") == before
    daemon.fn("rm", "--yes", "safe")
