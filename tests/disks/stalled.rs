//! A disk that answers nothing for a while: `fsfreeze` holds every write and sync of a file system, and nothing else.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::isolated;
use crate::mounts::{Image, must, text};
use crate::readonly::not_ready;
use crate::world::{World, units, wait_until};

const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;
const NEEDS: &[&str] = &["mkfs.ext4", "losetup", "fsfreeze"];
/// How long the service manager of these tests waits for a feed.
const WATCHDOG: Duration = Duration::from_secs(2);

/// A file system that holds its writes until this is dropped: a test that fails must not leave it so.
struct Frozen(PathBuf);

impl Frozen {
    fn new(at: &Path) -> Frozen {
        must("fsfreeze", &["--freeze", text(at)]);
        Frozen(at.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").args(["--unfreeze", text(&self.0)]).status();
    }
}

/// What the agent tells its service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn new(world: &World) -> Manager {
        let socket = UnixDatagram::bind(world.path("notify")).unwrap();
        socket.set_read_timeout(Some(WATCHDOG / 4)).unwrap();
        Manager(socket)
    }

    /// The next message, if one comes soon.
    fn hears(&self) -> Option<String> {
        let mut message = [0u8; 4096];
        match self.0.recv(&mut message) {
            Ok(len) => Some(String::from_utf8_lossy(&message[..len]).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn waits_for(&self, word: &str) {
        wait_until(&format!("the service manager hears {word}"), || {
            self.hears().is_some_and(|said| said.contains(word))
        });
    }
}

isolated!(its_watchdog_starves_and_then_everything_is_answered, NEEDS, || {
    let world = World::at_noon();
    let image = Image::new(world.path("image"), "ext4", 32, &[]);
    image.mount(&world.state(), "noatime");
    let manager = Manager::new(&world);
    let mut command = world.run_command();
    command.env("NOTIFY_SOCKET", world.path("notify")).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let agent = world.start_with(command);
    manager.waits_for("READY=1");
    // While nothing happens the disk is asked, and the watchdog fed, without an entry in the log.
    for _ in 0..3 {
        manager.waits_for("WATCHDOG=1");
    }
    let mut client = agent.lines();
    assert_eq!(client.ask(ONE)["ok"], true);

    let frozen = Frozen::new(&world.state());
    client.send(format!("{ONE}\n"));
    // What was fed before the increment was read does not count.
    wait_until("it waits for the disk", || is_in_the_kernel(agent.pid()));
    while manager.hears().is_some() {}
    let stalled = Instant::now();
    while stalled.elapsed() < 2 * WATCHDOG {
        assert_eq!(manager.hears(), None, "nothing is told while the disk is stalled");
    }
    drop(frozen);
    assert_eq!(client.answer()["ok"], true, "it was only slow");
    manager.waits_for("WATCHDOG=1");
    assert_eq!(units(&agent.books("requests"), "received"), 2);
    agent.stop();
});

isolated!(an_agent_that_was_killed_and_hangs_in_it_is_waited_for, NEEDS, || {
    // Sixty times as fast: the longest pause between two attempts is a second.
    let world = World::new(crate::world::NOON, 60);
    fs::create_dir(world.state()).unwrap();
    let image = Image::new(world.path("image"), "ext4", 32, &[]);
    image.mount(&world.path("slow"), "noatime");
    let frozen = Frozen::new(&world.path("slow"));
    let mut hung = Holder::new(&world);
    // Whoever lives keeps its directory.
    assert_eq!(world.refused().code, 73);
    hung.0.kill().unwrap();
    assert!(hung.0.try_wait().unwrap().is_none(), "it hangs");
    let mut agent = world.start();
    not_ready(&world, "not_ready", "was killed");
    drop(frozen);
    wait_until("it is ready by itself", || agent.status()["ready"] == true);
    assert_eq!(agent.tell(ONE)["ok"], true);
    agent.kill();
});

/// A process that holds the state directory's lock as an agent does, and writes to a disk that does not answer. (The
/// agent's own disk may not be frozen here, for the next agent could not even open the lock.)
struct Holder(Child);

impl Holder {
    fn new(world: &World) -> Holder {
        let script = r#"exec 9>"$1/lock"; flock -n 9 && printf 'pid %s\n' $$ >&9 && echo >"$2/file""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", text(&world.state()), text(&world.path("slow"))]).stdin(Stdio::null());
        let holder = Holder(command.spawn().unwrap());
        wait_until("it hangs in the disk", || is_in_the_kernel(holder.0.id()));
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a process is in a sleep that no signal ends.
pub fn is_in_the_kernel(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('D'))
}
