"""A small Debian root file system with the package in it, booted: as a container with its own systemd, or as a virtual machine.

Everything lies below one directory, of which `base` (the root file system as Debian makes it) and `tools` (qemu and a
kernel, on top of it) are kept for the next run. The caller runs in a mount name space of its own, so that nothing that
is mounted here stays behind.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIRROR = os.environ.get("METERD_BOOT_MIRROR", "http://deb.debian.org/debian")
SUITE = "bookworm"
# What the proofs need in the root: systemd, Python for the writer in the virtual machine, and what the package recommends.
PACKAGES = "systemd,systemd-sysv,udev,python3,ca-certificates"
# How long anything may take that has to happen, on a machine however slow.
PATIENCE = 120

CONFIG = """[product]
code = "prod"
[[dimension]]
name = "requests"
[instance]
id = "i-boot"
[submit]
region = "us-east-1"
endpoint_url = "http://127.0.0.1:9"
credentials = "environment"
"""


class Skipped(Exception):
    """The machine cannot do this; the text says what it lacks."""


def must(*command, **more):
    """Runs a command that has to work; what it printed."""
    ran = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if ran.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def wait_for(what, look, patience=PATIENCE):
    """Asks until there is an answer; it and the seconds that it took."""
    begun = time.monotonic()
    while True:
        seen = look()
        if seen:
            return seen, time.monotonic() - begun
        if time.monotonic() - begun > patience:
            sys.exit(f"FAILED: waited {patience} s for: {what}")
        time.sleep(0.02)


def needs(*tools):
    if os.geteuid():
        raise Skipped("not root")
    lacking = [tool for tool in tools if not shutil.which(tool)]
    if lacking:
        raise Skipped(f"no {', '.join(lacking)}")


def isolated(main):
    """Runs `main` with mounts of its own, which go with it, and ends with its exit code."""
    try:
        needs("unshare")
        if "METERD_BOOT_INSIDE" not in os.environ:
            environment = dict(os.environ, METERD_BOOT_INSIDE="1")
            command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
            os.execvpe("unshare", command, environment)
        sys.exit(main())
    except Skipped as why:
        print(f"skipped: {why}")
        sys.exit(0)


@contextlib.contextmanager
def scratch(cache):
    """A directory for one run, beside the cache: there is room, and it is no tmpfs."""
    cache.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=cache.parent, prefix="boot-"))
    try:
        yield directory
    finally:
        # A mount that is still there is left alone, with what is below it.
        for mounted in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            at = mounted.split()[1]
            if at.startswith(f"{directory}/"):
                subprocess.run(["umount", "--lazy", at], check=False)
        shutil.rmtree(directory, ignore_errors=True)


def base(cache):
    """The root file system as Debian makes it."""
    needs("debootstrap")
    made, done = cache / "base", cache / "base.done"
    # What it was made of, so that a cache of other packages is made anew, and what was made on top of it.
    if not done.exists() or done.read_text() != PACKAGES:
        shutil.rmtree(cache / "tools", ignore_errors=True)
        (cache / "tools.done").unlink(missing_ok=True)
        shutil.rmtree(made, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(made), MIRROR]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise Skipped(f"debootstrap cannot make a root file system: {ran.stdout.strip().splitlines()[-1:]}")
        done.write_text(PACKAGES)
    return made


def overlay(lower, upper, at):
    """Mounts `upper` over `lower`: what is changed below `at` lands there."""
    work = upper.with_name(upper.name + ".work")
    for directory in (upper, work, at):
        directory.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    ran = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(at)], capture_output=True, text=True)
    if ran.returncode:
        raise Skipped(f"no overlay file system here: {ran.stderr.strip()}")
    return at


def tools(cache):
    """A root with qemu and a kernel: installed there, it changes nothing on the host."""
    root = overlay(base(cache), cache / "tools", cache / "tools.root")
    must("mount", "-t", "proc", "proc", root / "proc")
    if not (cache / "tools.done").exists():
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        apt = ["chroot", str(root), "apt-get", "-qq", "-y", "--no-install-recommends"]
        for command in (["update"], ["install", "qemu-system-x86", "linux-image-cloud-amd64"]):
            ran = subprocess.run(apt + command, capture_output=True, text=True, env=environment)
            if ran.returncode:
                raise Skipped(f"qemu and a kernel cannot be installed: {ran.stderr.strip().splitlines()[-1:]}")
        (cache / "tools.done").touch()
    return root


def install(root, package):
    """Installs the package into a root that is not running, as one who builds an image does."""
    shutil.copy(package, root / "root/meterd.deb")
    must("chroot", root, "dpkg", "-i", "/root/meterd.deb")
    (root / "etc/meterd/meterd.toml").write_text(CONFIG)


class Socket:
    """A connection to the agent: a line out, a line in."""

    def __init__(self, path, timeout=PATIENCE):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.lines = self.socket.makefile("rb")

    def ask(self, line):
        self.socket.sendall(line.encode() + b"\n")
        answer = self.lines.readline()
        if not answer.endswith(b"\n"):
            raise ConnectionError("the connection ended before the answer")
        return json.loads(answer)

    def close(self):
        self.lines.close()
        self.socket.close()


def http_get(path, where):
    """`GET where` on the agent's socket."""
    asked = socket.socket(socket.AF_UNIX)
    asked.settimeout(PATIENCE)
    asked.connect(str(path))
    asked.sendall(f"GET {where} HTTP/1.1\r\nhost: meterd\r\nconnection: close\r\n\r\n".encode())
    answer = b""
    while chunk := asked.recv(65536):
        answer += chunk
    asked.close()
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


class Container:
    """The root, booted with systemd-nspawn: its own systemd, the host's kernel."""

    def __init__(self, root, console):
        needs("systemd-nspawn", "nsenter")
        self.root, self.console = root, console
        self.nspawn = None
        unified = Path("/sys/fs/cgroup/unified")
        self.group = (unified if unified.is_dir() else Path("/sys/fs/cgroup")) / f"meterd-boot-{os.getpid()}"

    def boot(self):
        """Switches it on; returns when its systemd can be talked to."""
        def into_a_group_of_its_own():
            # A systemd of its own wants a cgroup of its own; an unprivileged host may not give one.
            self.group.mkdir(exist_ok=True)
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

        command = ["systemd-nspawn", "--quiet", "--boot", "-D", str(self.root), f"--machine=meterd-boot-{os.getpid()}"]
        command += ["--private-network", "--register=no", "--keep-unit", "--console=pipe"]
        environment = dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1")
        with open(self.console, "ab") as console:
            self.nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=environment,
                preexec_fn=into_a_group_of_its_own, start_new_session=True,
            )
        wait_for("the container's first process", self.leader)

    def leader(self):
        if self.nspawn.poll() is not None:
            raise Skipped(f"systemd-nspawn cannot boot here: {self.console.read_text(errors='replace')[-500:]}")
        children = Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        # Until it has its own name spaces it sees the host's files.
        if children and os.readlink(f"/proc/{children[0]}/ns/pid") == os.readlink("/proc/self/ns/pid"):
            return None
        return int(children[0]) if children else None

    def inside(self, path):
        """A path within it, as seen from here."""
        return Path(f"/proc/{self.leader()}/root{path}")

    @property
    def socket(self):
        return self.inside("/run/meterd/meterd.sock")

    def run(self, *command, check=True):
        enter = ["nsenter", "-t", str(self.leader()), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        if check:
            return must(*enter, *command)
        return subprocess.run(enter + list(command), capture_output=True, text=True).stdout

    def show(self, unit, *properties):
        said = self.run("systemctl", "show", unit, "-p", ",".join(properties), check=False)
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def is_active(self, unit="meterd.service"):
        return self.show(unit, "ActiveState").get("ActiveState") == "active"

    def starts(self):
        """How often the agent has been started in this boot."""
        return self.run("journalctl", "-b", "-u", "meterd.service", "-o", "cat").count("Starting meterd.service")

    def journal(self):
        return self.run("journalctl", "-b", "-u", "meterd*", "--no-pager", check=False)

    def books(self):
        """The books of the one dimension; they have to balance."""
        books = http_get(self.socket, "/v1/status")["books"][0]
        assert books["balanced"], books
        return books

    def ended(self):
        """Waits until it has switched itself off."""
        try:
            return self.nspawn.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            sys.exit("FAILED: the container does not end")

    def kill(self):
        """Ends it with all that runs in it, which would outlive systemd-nspawn and hold on to its file systems."""
        if self.group.is_dir():
            (self.group / "cgroup.kill").write_text("1")
        if self.nspawn:
            self.nspawn.kill()
            self.nspawn.wait()
