# SPDX-License-Identifier: Apache-2.0
"""The systemd unit, judged by systemd itself."""
import os

from conftest import BIN, ROOT, run


def test_systemd_finds_nothing_wrong_with_it(tmp_path):
    root = tmp_path / "root"
    run(ROOT / "scripts/install", env={**os.environ, "DESTDIR": str(root), "EBB_BIN": str(BIN), "PREFIX": "/usr"})
    unit = (root / "usr/lib/systemd/system/fnd.service").read_text()
    # The program is looked for as well: the one that was installed.
    file = tmp_path / "fnd.service"
    file.write_text(unit.replace("ExecStart=/usr", f"ExecStart={root}/usr"))
    result = run("systemd-analyze", "verify", "--man=no", file)
    # It complains of other units of the machine too.
    assert "fnd.service" not in result.stderr and "fnd.service" not in result.stdout
    broken = tmp_path / "broken.service"
    broken.write_text(unit.replace("Type=notify", "Type=notified"))
    assert "broken.service" in run("systemd-analyze", "verify", "--man=no", broken, check=False).stderr
