# SPDX-License-Identifier: Apache-2.0
"""Builds container images for tests, right ones and wrong ones, from nothing but the standard library."""
import copy
import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import tarfile

from conftest import IMAGES

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
OCI = "application/vnd.oci.image."
INDEX, MANIFEST, CONFIG, LAYER = f"{OCI}index.v1+json", f"{OCI}manifest.v1+json", f"{OCI}config.v1+json", f"{OCI}layer.v1.tar"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def entry(name, data=b"", kind=tarfile.REGTYPE, link="", mode=0o644, **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, link, mode, 1_600_000_000
    data = data.encode() if isinstance(data, str) else data
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def folder(name, mode=0o755):
    return entry(name, kind=tarfile.DIRTYPE, mode=mode)


def symlink(name, target):
    return entry(name, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name, target):
    return entry(name, kind=tarfile.LNKTYPE, link=target)


def tar(*entries):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def zstd(data):
    """A Zstandard frame of raw blocks (RFC 8878): no compressor is needed to make one."""
    blocks = [data[i:i + 100_000] for i in range(0, len(data), 100_000)] or [b""]
    frame = b"\x28\xb5\x2f\xfd\x00\x38"
    for number, block in enumerate(blocks):
        frame += ((number == len(blocks) - 1) | len(block) << 3).to_bytes(3, "little") + block
    return frame


PACK = {"": lambda data: data, "+gzip": lambda data: gzip.compress(data, 1, mtime=0), "+zstd": zstd}


class Image:
    """An image that is being made; every document may be changed before it is written."""

    def __init__(self, *layers, packing="", config=None, **top):
        """`layers` are tar archives; `config` is what a container is started with, `top` what stands beside that."""
        self.layers = list(layers)
        self.packed = [PACK[packing](layer) for layer in layers]
        self.types = [LAYER + packing for _ in layers]
        self.config = {"architecture": ARCHITECTURE, "os": "linux", "config": config or {},
                       "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}" for layer in layers]}, **top}
        self.blobs = {}
        self.edit_manifest = self.edit_index = lambda document: document

    def blob(self, data, kind, **more):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.blobs[sha256(data)] = data
        return {"mediaType": kind, "digest": f"sha256:{sha256(data)}", "size": len(data), **more}

    @property
    def id(self):
        return sha256(json.dumps(self.config).encode())

    def manifest(self, **more):
        layers = [self.blob(data, kind) for data, kind in zip(self.packed, self.types)]
        config = self.blob(self.config, CONFIG)
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        return self.blob(self.edit_manifest(document), MANIFEST, **more)

    def files(self):
        """An OCI layout: contents by name."""
        index = self.edit_index({"schemaVersion": 2, "mediaType": INDEX, "manifests": [self.manifest()]})
        return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode(),
                **{f"blobs/sha256/{digest}": data for digest, data in self.blobs.items()}}

    def directory(self, path):
        for name, data in self.files().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path

    def archive(self, path):
        path.write_bytes(tar(*[entry(name, data) for name, data in self.files().items()]))
        return path

    def docker(self, path, links=False, edit=lambda document: document):
        """What `docker save` wrote until OCI layouts came: a directory a layer, and links for those that come again."""
        config, names, entries = json.dumps(self.config).encode(), [], {}
        for number, layer in enumerate(self.packed):
            name = f"{number}{sha256(layer)[1:]}/layer.tar"
            same = next((each for each in entries if links and entries[each][1] == layer), None)
            entries[name] = symlink(name, f"../{same}") if same else entry(name, layer)
            names.append(name)
        manifest = edit([{"Config": f"{sha256(config)}.json", "RepoTags": ["test:latest"], "Layers": names}])
        path.write_bytes(tar(*entries.values(), entry(f"{sha256(config)}.json", config),
                             entry("manifest.json", json.dumps(manifest))))
        return path


def python_layer(*more):
    """The interpreter of the python root image with what it needs, as somebody else's base image would hold it."""
    root = pathlib.Path(IMAGES, "python")
    entries = [symlink("bin", "usr/bin"), symlink("lib", "usr/lib"), symlink("lib64", "usr/lib64"),
               folder("tmp"), folder("etc"), folder("usr/bin")]
    wanted = ["usr/bin/python3*", "usr/bin/dash", "usr/bin/sh", "usr/lib64/*", "usr/lib/python3.*/**/*", "usr/lib/*-linux-*/ld-*",
              *(f"usr/lib/*-linux-*/{name}.so*" for name in ("libc", "libm", "libz", "libexpat", "libdl", "libpthread", "libutil"))]
    for pattern in wanted:
        for path in sorted(root.glob(pattern)):
            name = str(path.relative_to(root))
            info = tarfile.TarInfo(name)
            state = path.lstat()
            info.mode, info.mtime = state.st_mode & 0o777, int(state.st_mtime)
            if path.is_symlink():
                info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
                entries.append((info, b""))
            elif path.is_dir():
                info.type = tarfile.DIRTYPE
                entries.append((info, b""))
            else:
                info.size = state.st_size
                entries.append((info, path.read_bytes()))
    return tar(*entries, *more)


def edited(document, **changes):
    """A copy of a document with other members."""
    return {**copy.deepcopy(document), **changes}
