#!/usr/bin/env python3
"""The power of a virtual machine is cut while an application reports usage; it comes back with the same books, by itself.

    tests/boot/power.py PACKAGE.deb [--cuts N] [--cache DIR]

The machine is qemu with Debian's kernel, the package on an ext4 root. In it an application reports usage without pause, and
tells on a serial line what it is about to send and what was answered with ok. qemu is killed with -9 at a moment that
nobody chooses; the next boot, with nobody typing anything, has to show every increment that was acknowledged, and none
that was not sent. Skipped with the reason where qemu or its parts cannot be had.

Blind spot: what the guest has handed to its disk is in the host's cache and survives. What a disk with a cache of its own
loses is cut in tests/disks.
"""

import argparse
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from machine import base, install, isolated, must, needs, overlay, scratch, tools, wait_for

APPLICATION = '''
import json, os, socket, termios, time

line = os.open("/dev/ttyS1", os.O_WRONLY | os.O_NOCTTY)

def tell(text):
    os.write(line, (text + "\\n").encode())
    termios.tcdrain(line)

def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect("/run/meterd/meterd.sock")
    return connection, connection.makefile("rb")

connection, answers = connect()
connection.sendall(b"GET /v1/status HTTP/1.1\\r\\nhost: meterd\\r\\nconnection: close\\r\\n\\r\\n")
books = json.loads(answers.read().split(b"\\r\\n\\r\\n", 1)[1])["books"][0]
with open("/proc/sys/kernel/random/boot_id") as file:
    boot = file.read().strip()
tell(f"BOOK {boot} {books['received']} {'balanced' if books['balanced'] else 'UNBALANCED'}")
connection, answers = connect()
sent = int(books["received"])
while True:
    sent += 1
    tell(f"SENT {sent}")
    connection.sendall(b'{"dimension":"requests","quantity":1}\\n')
    answer = json.loads(answers.readline())
    assert answer["ok"], answer
    tell(f"DONE {sent}")
'''

UNIT = """[Unit]
Description=An application that reports usage
After=meterd.socket
[Service]
ExecStart=/usr/bin/python3 /root/application.py
StandardError=file:/dev/ttyS1
[Install]
WantedBy=multi-user.target
"""


class VirtualMachine:
    def __init__(self, tools_root, directory):
        self.root, self.directory = tools_root, directory
        self.serial = directory / "serial"
        self.console = directory / "console"

    def on(self):
        """Switches it on."""
        boot = self.root / "boot"
        kernel = next(boot.glob("vmlinuz-*")).name
        self.serial.write_bytes(b"")
        where = "/mnt"
        command = [
            "chroot", str(self.root), "qemu-system-x86_64", "-m", "512", "-display", "none", "-nodefaults", "-no-reboot",
            # Slower than with the processor's help, and everywhere the same: some hosts offer /dev/kvm that does not work.
            "-accel", "tcg",
            "-kernel", f"/boot/{kernel}", "-initrd", f"/boot/{kernel.replace('vmlinuz', 'initrd.img')}",
            "-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 systemd.mask=getty.target no_timer_check",
            "-drive", f"file={where}/disk.img,format=raw,if=virtio",
            "-serial", f"file:{where}/console", "-serial", f"file:{where}/serial",
        ]
        self.qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)

    def told(self):
        """What the application has told: the last it was about to send, the last that was answered, the books it found."""
        text = self.serial.read_text(errors="replace")
        # A line that is cut off is not believed.
        whole = text[: text.rfind("\n") + 1]
        if "Traceback" in whole or "UNBALANCED" in whole:
            sys.exit(f"FAILED: the application: {whole[-2000:]}")
        last = lambda word: max((int(n) for n in re.findall(rf"^{word} (\d+)\s*$", whole, re.M)), default=0)
        found = re.search(r"^BOOK (\S+) (\d+) balanced", whole, re.M)
        return last("SENT"), last("DONE"), (found.group(1), int(found.group(2))) if found else None

    def books(self):
        if self.qemu.poll() is not None:
            sys.exit(f"FAILED: qemu ended: {self.qemu.stderr.read().decode(errors='replace')[-2000:]}")
        return self.told()[2]

    def cut(self):
        """No signal that it could hear."""
        self.qemu.kill()
        self.qemu.wait()


def disk(root, image):
    """The root as an ext4 file system."""
    with open(image, "wb") as file:
        file.truncate(1 << 30)
    must("mke2fs", "-q", "-t", "ext4", "-d", root, image)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package")
    parser.add_argument("--cuts", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path(__file__).parents[2] / "target/boot")
    arguments = parser.parse_args()
    needs("mke2fs")
    with scratch(arguments.cache) as directory:
        root = overlay(base(arguments.cache), directory / "upper", directory / "root")
        install(root, arguments.package)
        (root / "root/application.py").write_text(APPLICATION)
        (root / "etc/systemd/system/application.service").write_text(UNIT)
        must("systemctl", f"--root={root}", "enable", "application.service")
        (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
        inside = tools(arguments.cache)
        must("mount", "--rbind", "/dev", inside / "dev")
        must("mount", "--bind", directory, inside / "mnt")
        disk(root, directory / "disk.img")
        machine = VirtualMachine(inside, directory)
        sent = done = 0
        boots = set()
        try:
            for cut in range(arguments.cuts + 1):
                begun = time.monotonic()
                machine.on()
                (boot, received), _ = wait_for("the books after a boot", machine.books, patience=400)
                took = time.monotonic() - begun
                assert done <= received <= sent, f"{done} acknowledged, {sent} sent, and the books say {received}"
                assert boot not in boots, "it was not booted"
                boots.add(boot)
                if cut:
                    print(f"  cut {cut}: {done} acknowledged, {sent} sent, the books say {received}; back in {took:.1f} s", flush=True)
                if cut == arguments.cuts:
                    break
                wait_for("the application is at it", lambda: machine.told()[1] > received + 50, patience=400)
                time.sleep(random.random())
                machine.cut()
                sent, done, _ = machine.told()
        except (AssertionError, SystemExit) as why:
            print(f"  FAILED: {why}\n{machine.console.read_text(errors='replace')[-3000:]}")
            return 1
        finally:
            machine.cut()
    return 0


if __name__ == "__main__":
    isolated(main)
