#!/usr/bin/env python3
"""The package on a real systemd: installed into a small Debian root that is booted, restarted, starved, killed, upgraded.

    tests/boot/boot.py PACKAGE.deb [--newer NEWER.deb] [--cache DIR] [--idle SECONDS]

PACKAGE is installed first and NEWER (by default the same build, packed again) over it, with the log that PACKAGE wrote. What the
machine cannot do is skipped, with the reason. Exit code 0 if everything held. `--idle` is how long the agent is watched
while nothing happens; the figures of the README are those of a release build and 60 seconds.

Blind spots: the kernel is the host's, so a reboot ends processes and not their page cache; tests/boot/power.py cuts the
power of a virtual machine. systemd is Debian 12's (252), which knows no RestartSteps=.
"""

import argparse
import json
import os
import re
import time
from pathlib import Path

from machine import CONFIG, Container, Skipped, Socket, base, install, isolated, must, needs, overlay, scratch, wait_for
from writers import Load

ONE = '{"dimension":"requests","quantity":1}'
# Instead of three minutes, so that the proof is short; the agent feeds at half of it, whatever it is.
WATCHDOG_SEC = 4

EARLY_WRITER = """[Unit]
Before=meterd.service
After=meterd.socket
[Service]
Type=exec
ExecStart=/usr/bin/meterd add requests 1
[Install]
WantedBy=multi-user.target
"""

# Stops after the agent, for it starts before it.
SIMULATED_AWS = """[Unit]
Before=meterd.service
[Service]
ExecStart=/usr/bin/meterd simulate-aws --listen 127.0.0.1:9
[Install]
WantedBy=multi-user.target
"""
KEYS = """[Service]
Environment=AWS_ACCESS_KEY_ID=AKIABOOT AWS_SECRET_ACCESS_KEY=secret
"""


def say(what):
    print(f"  {what}", flush=True)


class Proof:
    def __init__(self, machine, arguments):
        self.machine, self.arguments = machine, arguments
        # What writers were told is on disk.
        self.counted = 0
        self.state = machine.root / "var/lib/meterd"

    def ready(self):
        return wait_for("the agent is active", lambda: self.machine.is_active())[1]

    def balance(self):
        """The books say what the writers counted."""
        received = self.machine.books()["received"]
        assert received == str(self.counted), f"the books say {received}, the writers counted {self.counted}"

    def under_load(self, name, what):
        load = Load(self.machine.socket, name)
        wait_for("the writers are at it", lambda: load.acknowledged() > 20)
        what()
        behind = load.acknowledged()
        wait_for("the writers go on", lambda: load.acknowledged() > behind + 20)
        said = load.stop()
        self.counted += load.acknowledged()
        self.balance()
        return said

    def drop_in(self, text):
        directory = self.machine.root / "etc/systemd/system/meterd.service.d"
        directory.mkdir(exist_ok=True)
        (directory / "proof.conf").write_text(text)
        self.machine.run("systemctl", "daemon-reload")

    def no_drop_in(self):
        (self.machine.root / "etc/systemd/system/meterd.service.d/proof.conf").unlink()
        self.machine.run("systemctl", "daemon-reload")

    # Each proof says what it saw.

    def the_installation_starts_nothing_and_leaves_no_state(self):
        wants = self.machine.root / "etc/systemd/system"
        for unit in ("sockets.target.wants/meterd.socket", "sockets.target.wants/meterd-admin.socket",
                     "multi-user.target.wants/meterd.service", "multi-user.target.wants/meterd-end.service"):
            assert (wants / unit).is_symlink(), f"{unit} is not enabled"
        left = [name for name in os.listdir(self.state) if name != "lost+found"]
        assert not left, f"the installation left {left}"
        return "units enabled, /var/lib/meterd empty"

    def a_boot_with_a_writer_that_starts_before_the_agent(self):
        unit = self.machine.root / "etc/systemd/system/early.service"
        unit.write_text(EARLY_WRITER)
        must("systemctl", f"--root={self.machine.root}", "enable", "early.service")
        self.machine.boot()
        wait_for("systemd answers", lambda: self.machine.run("systemctl", "is-system-running", check=False))
        self.ready()
        wait_for("the early writer has its answer",
                 lambda: self.machine.show("early.service", "ActiveState")["ActiveState"] in ("inactive", "failed"))
        early = self.machine.show("early.service", "ExecMainStatus", "ExecMainStartTimestampMonotonic")
        agent = self.machine.show("meterd.service", "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        assert early["ExecMainStatus"] == "0", self.machine.run("journalctl", "-b", "-u", "early.service", "--no-pager")
        started = int(agent["ExecMainStartTimestampMonotonic"])
        ahead = started - int(early["ExecMainStartTimestampMonotonic"])
        assert ahead > 0, "the writer was not the first"
        self.counted += 1
        self.balance()
        self.machine.run("systemctl", "disable", "early.service")
        milliseconds = (int(agent["ActiveEnterTimestampMonotonic"]) - started) / 1000
        return f"it started {ahead / 1000:.0f} ms before the agent and was answered; ready {milliseconds:.0f} ms after exec"

    def a_connection_starts_the_agent(self):
        self.machine.run("systemctl", "stop", "meterd.service")
        assert not self.machine.is_active()
        assert Socket(self.machine.socket).ask(ONE)["ok"]
        self.counted += 1
        self.balance()
        assert self.machine.is_active()
        mode = must("stat", "-c", "%a %U:%G", self.machine.inside("/run/meterd/meterd.sock"), self.machine.inside(
            "/run/meterd/admin.sock"), self.machine.inside("/run/meterd")).split("\n")
        assert [m.split()[0] for m in mode if m] == ["660", "600", "755"], mode
        return "stopped, written to, and there again; sockets 0660 and 0600"

    def the_sandbox(self):
        said = self.machine.run("systemd-analyze", "security", "meterd.service", "--no-pager", check=False)
        score = float(re.search(r"exposure level for meterd.service: ([0-9.]+)", said).group(1))
        assert score <= 1.5, f"systemd-analyze security: {score}"
        # Without the kernel's name of this boot no uptime is metered, and every long pause looks like a clock that jumped.
        entries = map(json.loads, self.machine.run("meterd", "inspect", "--json").splitlines())
        boots = [entry["entry"]["boot"] for entry in entries if entry["kind"] == "started"]
        assert boots and all(boots), f"the agent does not see which boot this is: {boots}"
        return f"systemd-analyze security: {score}"

    def kill_9(self):
        def kill():
            for _ in range(3):
                before = self.machine.show("meterd.service", "MainPID")["MainPID"]
                self.machine.run("systemctl", "kill", "-s", "KILL", "meterd.service")
                wait_for("another process", lambda: self.machine.is_active()
                         and self.machine.show("meterd.service", "MainPID")["MainPID"] not in ("0", before))
        return "three times: " + self.under_load("kill", kill)

    def restarts_under_load(self):
        def restart():
            for _ in range(5):
                self.machine.run("systemctl", "restart", "meterd.service")
        return "five times: " + self.under_load("restart", restart)

    def a_stopped_process_starves_the_watchdog(self):
        self.drop_in(f"[Service]\nWatchdogSec={WATCHDOG_SEC}\n")
        self.machine.run("systemctl", "restart", "meterd.service")
        # Fed, it lives longer than the watchdog's time.
        before = self.machine.show("meterd.service", "MainPID")["MainPID"]
        time.sleep(2 * WATCHDOG_SEC)
        assert self.machine.show("meterd.service", "MainPID")["MainPID"] == before, self.machine.journal()

        def stop():
            self.machine.run("systemctl", "kill", "-s", "STOP", "meterd.service")
            wait_for("another process", lambda: self.machine.is_active()
                     and self.machine.show("meterd.service", "MainPID")["MainPID"] not in ("0", before))
        said = self.under_load("stop", stop)
        assert "Watchdog timeout" in self.machine.journal()
        return f"with WatchdogSec={WATCHDOG_SEC}: {said}"

    def a_disk_that_stalls(self):
        """Only the disk stalls, and everything else goes on. Still with the short watchdog."""
        needs("fsfreeze")
        before = self.machine.show("meterd.service", "MainPID")["MainPID"]

        def stall(seconds):
            must("fsfreeze", "--freeze", self.state)
            try:
                time.sleep(seconds)
            finally:
                must("fsfreeze", "--unfreeze", self.state)
        short = self.under_load("short", lambda: stall(WATCHDOG_SEC / 4))
        assert self.machine.show("meterd.service", "MainPID")["MainPID"] == before, "a short stall is waited for"
        long = self.under_load("long", lambda: stall(WATCHDOG_SEC * 3))
        wait_for("another process", lambda: self.machine.is_active()
                 and self.machine.show("meterd.service", "MainPID")["MainPID"] not in ("0", before))
        self.balance()
        self.no_drop_in()
        return f"{WATCHDOG_SEC / 4} s: waited for, {short}; {WATCHDOG_SEC * 3} s: started anew, {long}"

    def a_wrong_configuration_does_not_spin(self):
        config = self.machine.root / "etc/meterd/meterd.toml"
        config.write_text(CONFIG + "nonsense = 1\n")
        before = self.machine.starts()
        self.machine.run("systemctl", "restart", "meterd.service", check=False)
        waiting = time.monotonic()
        while time.monotonic() - waiting < 8:
            # Somebody knocks all the time.
            try:
                Socket(self.machine.socket, timeout=1).ask(ONE)
            except OSError:
                time.sleep(0.01)
        status = self.machine.show("meterd.service", "ActiveState", "ExecMainStatus")
        assert status == {"ActiveState": "failed", "ExecMainStatus": "78"}, status
        starts = self.machine.starts() - before
        assert starts <= 12, f"{starts} starts in 8 s"
        config.write_text(CONFIG)
        self.machine.run("systemctl", "restart", "meterd.service")
        assert Socket(self.machine.socket).ask(ONE)["ok"]
        self.counted += 1
        self.balance()
        return f"{starts} starts in 8 s with somebody knocking; mended and restarted, it takes usage again"

    def a_reload_says_what_is_wrong_and_an_alert_leaves_the_sandbox(self):
        config = self.machine.root / "etc/meterd/meterd.toml"
        before = self.machine.show("meterd.service", "MainPID")
        alert = CONFIG + '[alert]\ncommand = ["/usr/bin/logger", "-t", "meterd-alert"]\n'
        config.write_text(alert)
        self.machine.run("systemctl", "reload", "meterd.service")
        config.write_text(alert + "nonsense = 1\n")
        self.machine.run("systemctl", "reload", "meterd.service", check=False)
        errors = self.machine.run("journalctl", "-b", "-u", "meterd.service", "-p", "err", "-o", "cat", "--no-pager")
        assert "nonsense" in errors, errors
        told = lambda: self.machine.run("journalctl", "-b", "-t", "meterd-alert", "-o", "cat", "--no-pager", check=False)
        _, took = wait_for("the alert is in the journal", lambda: "config_refused" in told())
        config.write_text(CONFIG)
        self.machine.run("systemctl", "reload", "meterd.service")
        state = self.machine.show("meterd.service", "ActiveState")
        assert state == {"ActiveState": "active"} and self.machine.show("meterd.service", "MainPID") == before, state
        assert Socket(self.machine.socket).ask(ONE)["ok"]
        self.counted += 1
        self.balance()
        return f"refused with its line in `journalctl -p err`; told by logger after {took:.1f} s; the same process goes on"

    def a_broken_disk_does_not_spin_and_is_not_given_up(self):
        self.machine.run("systemctl", "stop", "meterd.service")
        self.drop_in("[Service]\nExecStart=\nExecStart=/bin/sh -c 'exit 74'\n")
        before = self.machine.starts()
        waiting = time.monotonic()
        while time.monotonic() - waiting < 15:
            try:
                Socket(self.machine.socket, timeout=1).ask(ONE)
            except OSError:
                time.sleep(0.01)
        starts = self.machine.starts() - before
        assert starts <= 40, f"{starts} starts in 15 s"
        self.no_drop_in()
        # Nobody starts it.
        _, took = wait_for("the agent is active", lambda: self.machine.is_active())
        assert Socket(self.machine.socket).ask(ONE)["ok"]
        self.counted += 1
        self.balance()
        return f"exit code 74 at every start: {starts} starts in 15 s with somebody knocking; mended, it was back after {took:.1f} s"

    def a_disk_that_cannot_be_written_is_waited_for(self):
        self.machine.run("systemctl", "stop", "meterd.service")
        must("mount", "-o", "remount,ro", self.state)
        self.machine.run("systemctl", "start", "--no-block", "meterd.service")
        answer = Socket(self.machine.socket).ask(ONE)
        assert (answer["ok"], answer["error"], answer["recorded"]) == (False, "not_ready", "no"), answer
        status = self.machine.show("meterd.service", "ActiveState", "StatusText")
        assert status["ActiveState"] == "activating" and "Read-only" in status["StatusText"], status
        must("mount", "-o", "remount,rw", self.state)
        took = self.ready()
        self.balance()
        return f"activating, \"{status['StatusText'][:60]}...\", writers told not_ready; writable again: ready after {took:.1f} s"

    def a_reboot(self):
        load = Load(self.machine.socket, "reboot")
        wait_for("the writers are at it", lambda: load.acknowledged() > 100)
        load.stop()
        self.counted += load.acknowledged()
        books = self.machine.books()
        begun = time.monotonic()
        self.machine.run("systemctl", "reboot")
        assert self.machine.ended() == 133, "systemd-nspawn says that it is to be booted again"
        self.machine.boot()
        wait_for("systemd answers", lambda: self.machine.run("systemctl", "is-system-running", check=False))
        self.ready()
        took = time.monotonic() - begun
        assert self.machine.books() == books, (self.machine.books(), books)
        agent = self.machine.show("meterd.service", "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        ready = (int(agent["ActiveEnterTimestampMonotonic"]) - int(agent["ExecMainStartTimestampMonotonic"])) / 1000
        return f"the same books {took:.1f} s later; ready {ready:.0f} ms after exec, behind a checkpoint"

    def an_upgrade(self):
        """Under load, with a configuration that its owner has changed, and the log that the earlier build wrote."""
        config = self.machine.root / "etc/meterd/meterd.toml"
        config.write_text(CONFIG + "# The owner's own line.\n")
        newer = self.machine.root / "root/newer.deb"
        newer.write_bytes(Path(self.arguments.newer).read_bytes())
        before = self.machine.run("dpkg-query", "-W", "-f", "${Version}", "meterd")
        said = self.under_load("upgrade", lambda: self.machine.run("dpkg", "-i", "--force-confdef", "/root/newer.deb"))
        after = self.machine.run("dpkg-query", "-W", "-f", "${Version}", "meterd")
        assert before != after
        assert "The owner's own line." in config.read_text()
        pid = self.machine.show("meterd.service", "MainPID")["MainPID"]
        running = self.machine.run("readlink", f"/proc/{pid}/exe").strip()
        assert running == "/usr/bin/meterd", f"{running} still runs"
        return f"{before} to {after}, configuration kept; {said}"

    def idle(self):
        """What it costs while nothing happens. Its one mark is written first."""
        time.sleep(3)
        inside = self.machine.show("meterd.service", "MainPID")["MainPID"]
        proc = self.machine.inside(f"/proc/{inside}")

        def look():
            switches = {}
            for task in (proc / "task").iterdir():
                found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M)
                switches[(task / "comm").read_text().strip() + " " + task.name] = int(found.group(1))
            fields = (proc / "stat").read_text().rsplit(")", 1)[1].split()
            ticks = int(fields[11]) + int(fields[12])
            io = dict(line.split(": ") for line in (proc / "io").read_text().splitlines())
            return switches, ticks, int(io["write_bytes"]), int(io["syscw"])

        # What comes back all the time is in every look. A try to reach AWS, which is away here, or the mark that the agent
        # runs, written every five minutes, is in some. Beside their timers sled's threads are all woken whenever one of
        # them has work: once a minute.
        seconds = self.arguments.idle
        for attempt in range(6):
            before = look()
            time.sleep(seconds)
            after = look()
            woken = {name: after[0][name] - count for name, count in before[0].items() if name in after[0]}
            each = ", ".join(f"{name.split()[0]} {count}" for name, count in sorted(woken.items()) if count)
            resident = int(re.search(r"^VmRSS:\s+(\d+)", (proc / "status").read_text(), re.M).group(1))
            cpu = (after[1] - before[1]) * 1000 / os.sysconf("SC_CLK_TCK")
            written = after[2] - before[2]
            said = f"{seconds} s: {written} bytes written, {cpu:.0f} ms of CPU, {resident / 1024:.1f} MiB resident, woken: {each or 'never'}"
            if written <= seconds // 300 * 2 * 4096 and all(count <= seconds + 10 * (1 + seconds // 60) for count in woken.values()):
                return said + (f" (at look {attempt + 1})" if attempt else "")
        raise AssertionError(f"never idle; the last of six looks: {said}")

    def a_poweroff_is_an_end_and_a_reboot_is_none(self):
        """With AWS, simulated, beside the agent: until now it was away, and nothing was sealed but what is over."""
        entries = lambda kind: self.machine.run("meterd", "inspect", "--json", "--kind", kind).splitlines()
        assert not entries("end"), "a stop, a restart or the reboot was taken for an end"
        (self.machine.root / "etc/systemd/system/aws.service").write_text(SIMULATED_AWS)
        self.drop_in(KEYS)
        self.machine.run("systemctl", "enable", "--now", "aws.service")
        self.machine.run("systemctl", "restart", "meterd.service")
        assert Socket(self.machine.socket).ask(ONE)["ok"]
        self.counted += 1
        begun = time.monotonic()
        self.machine.run("systemctl", "poweroff")
        assert self.machine.ended() == 0, "systemd-nspawn says that it is switched off"
        took = time.monotonic() - begun
        self.machine.boot()
        wait_for("systemd answers", lambda: self.machine.run("systemctl", "is-system-running", check=False))
        self.ready()
        assert len(entries("end")) == 1, "the poweroff was not an end"
        accepted = self.machine.books()["accepted"]
        assert accepted == str(self.counted), f"AWS has {accepted} of {self.counted}: the open hour was not sent"
        # The closed hour stays closed: what comes now counts in the next one.
        assert Socket(self.machine.socket).ask(ONE)["ok"]
        self.counted += 1
        self.balance()
        assert self.machine.books()["open"] == "1", self.machine.books()
        self.no_drop_in()
        return f"off after {took:.1f} s, {accepted} units accepted by then; back, and in the next hour"

    def a_removal_keeps_the_state(self):
        self.machine.run("dpkg", "--remove", "meterd")
        assert not self.machine.is_active() and not self.machine.is_active("meterd.socket")
        assert (self.state / "wal").is_dir()
        # What was removed and comes back meters again, with all that it had.
        self.machine.run("dpkg", "--install", "/root/meterd.deb")
        for unit in ("meterd.socket", "meterd-admin.socket", "meterd.service", "meterd-end.service"):
            assert self.machine.run("systemctl", "is-enabled", unit).strip() == "enabled", unit
        self.machine.run("dpkg", "--remove", "meterd")
        said = self.machine.run("dpkg", "--purge", "meterd")
        assert (self.state / "wal").is_dir() and "/var/lib/meterd is kept" in said, said
        return "removed and purged, /var/lib/meterd is as it was, and that is said"


def unpack_again(package, directory):
    """The same build as a later version."""
    tree, newer = directory / "tree", directory / "newer.deb"
    must("dpkg-deb", "-R", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)$", r"\1+later", control.read_text(), flags=re.M))
    must("dpkg-deb", "--build", "-Znone", tree, newer)
    return newer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package")
    parser.add_argument("--newer")
    parser.add_argument("--cache", type=Path, default=Path(__file__).parents[2] / "target/boot")
    parser.add_argument("--idle", type=int, default=10)
    arguments = parser.parse_args()
    needs("mkfs.ext4", "losetup", "dpkg-deb")
    with scratch(arguments.cache) as directory:
        arguments.newer = arguments.newer or unpack_again(arguments.package, directory)
        root = overlay(base(arguments.cache), directory / "upper", directory / "root")
        image = directory / "state.img"
        with open(image, "wb") as file:
            file.truncate(512 << 20)
        must("mkfs.ext4", "-q", image)
        (root / "var/lib/meterd").mkdir()
        must("mount", "-o", "loop", image, root / "var/lib/meterd")
        install(root, arguments.package)
        machine = Container(root, directory / "console")
        proof = Proof(machine, arguments)
        proofs = [
            proof.the_installation_starts_nothing_and_leaves_no_state,
            proof.a_boot_with_a_writer_that_starts_before_the_agent,
            proof.a_connection_starts_the_agent,
            proof.the_sandbox,
            proof.restarts_under_load,
            proof.kill_9,
            proof.a_stopped_process_starves_the_watchdog,
            proof.a_disk_that_stalls,
            proof.a_wrong_configuration_does_not_spin,
            proof.a_reload_says_what_is_wrong_and_an_alert_leaves_the_sandbox,
            proof.a_broken_disk_does_not_spin_and_is_not_given_up,
            proof.a_disk_that_cannot_be_written_is_waited_for,
            proof.a_reboot,
            proof.an_upgrade,
            proof.idle,
            proof.a_poweroff_is_an_end_and_a_reboot_is_none,
            proof.a_removal_keeps_the_state,
        ]
        try:
            for prove in proofs:
                begun = time.monotonic()
                name = prove.__name__.replace("_", " ")
                try:
                    say(f"{name}: {prove()} ({time.monotonic() - begun:.1f} s)")
                except Skipped as why:
                    if machine.nspawn is None or machine.nspawn.poll() is not None:
                        raise
                    say(f"skipped {name}: {why}")
                except (AssertionError, SystemExit) as why:
                    say(f"FAILED {name}: {why}")
                    if machine.nspawn and machine.nspawn.poll() is None:
                        print(machine.journal()[-4000:])
                    return 1
        finally:
            machine.kill()
    return 0


if __name__ == "__main__":
    isolated(main)
