#!/usr/bin/env python3
"""The rpm in a root of its own: its files, what its scripts do, an upgrade over a changed configuration, a removal.

    tests/boot/rpm.py PACKAGE.rpm NEWER.rpm [--cache DIR]

The root is Debian's with systemd in it, so that the scripts run for real; what the package depends on is looked at and not
resolved. Blind spot: dnf, and a booted Amazon Linux.
"""

import argparse
import os
from pathlib import Path

from machine import base, isolated, must, needs, overlay, scratch

# With these it goes onto Amazon Linux 2023.
GLIBC_MAX = (2, 34)
UNITS = ("sockets.target.wants/meterd.socket", "sockets.target.wants/meterd-admin.socket",
         "multi-user.target.wants/meterd.service", "multi-user.target.wants/meterd-end.service")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package")
    parser.add_argument("newer")
    parser.add_argument("--cache", type=Path, default=Path(__file__).parents[2] / "target/boot")
    arguments = parser.parse_args()
    needs("rpm")
    requires = must("rpm", "-qp", "--requires", arguments.package)
    libc = [line.split("(GLIBC_")[1].split(")")[0] for line in requires.splitlines() if line.startswith("libc.so.6(GLIBC_")]
    newest = max(tuple(int(part) for part in version.split(".")) for version in libc)
    assert newest <= GLIBC_MAX, f"it needs glibc {newest}"
    assert "systemd" in requires
    with scratch(arguments.cache) as directory:
        root = overlay(base(arguments.cache), directory / "upper", directory / "root")
        rpm = ["rpm", "--root", root, "--nodeps"]
        try:
            must(*rpm, "-i", arguments.package)
            files = must("rpm", "-qpl", arguments.package).split()
            assert "/usr/bin/meterd" in files and all((root / name[1:]).exists() for name in files), files
            assert "meterd:" in (root / "etc/passwd").read_text(), "no user"
            for unit in UNITS:
                assert (root / "etc/systemd/system" / unit).is_symlink(), f"{unit} is not enabled"
            state = root / "var/lib/meterd"
            assert not state.exists() or not os.listdir(state), "the installation left state"
            must("chroot", root, "meterd", "check-config")
            config = root / "etc/meterd/meterd.toml"
            config.write_text(config.read_text() + "# The owner's own line.\n")
            must(*rpm, "-U", arguments.newer)
            assert "The owner's own line." in config.read_text(), "the configuration was replaced"
            assert (root / "etc/systemd/system" / UNITS[2]).is_symlink(), "the upgrade disabled it"
            state.mkdir(exist_ok=True)
            (state / "log").write_text("usage")
            must(*rpm, "-e", "meterd")
            assert (state / "log").read_text() == "usage", "the removal took the state"
            assert not (root / "usr/bin/meterd").exists()
            assert not (root / "etc/systemd/system" / UNITS[2]).is_symlink(), "the removal left it enabled"
        except AssertionError as why:
            print(f"  FAILED: {why}")
            return 1
    print(f"  {len(files)} files, glibc {newest[0]}.{newest[1]}; installed: enabled, not started, no state; upgraded: "
          "configuration kept; removed: state kept")
    return 0


if __name__ == "__main__":
    isolated(main)
