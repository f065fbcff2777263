//! Small file systems for one test, and the namespace in which they are mounted.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::world::wait_until;

const INSIDE: &str = "METERD_DISKS_INSIDE";

/// Runs the test function `name` in a process that has its own mounts and is the first of its own processes: when it
/// ends, whichever way, both are gone. Where that or one of the tools it `needs` is missing, says so.
pub fn isolated(name: &str, needs: &[&str], test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    if let Some(why) = missing(needs) {
        println!("skipped {name}: {why}");
        return;
    }
    // Removed when all that was mounted in it is gone with the process.
    let dir = tempfile::tempdir().unwrap();
    let mut command = unshare();
    command.env("TMPDIR", dir.path());
    command.arg(env::current_exe().unwrap()).args([name, "--exact", "--nocapture", "--test-threads=1"]);
    let output = command.env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "{name} failed; its words are above");
}

/// The path of the test function around this, as `isolated` wants it.
#[macro_export]
macro_rules! isolated {
    ($test:ident, $needs:expr, $body:expr) => {
        #[test]
        fn $test() {
            let module = module_path!().split_once("::").map_or("", |(_, path)| path);
            $crate::mounts::isolated(&format!("{module}::{}", stringify!($test)), $needs, $body);
        }
    };
}

/// What is missing, if anything.
fn missing(needs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    let lacking = |tool: &&&str| !sh(&format!("command -v {tool}")).status.success();
    if let Some(tool) = needs.iter().find(lacking) {
        return Some(format!("{tool} is not here"));
    }
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        return Some("namespaces cannot be made here".into());
    }
    (needs.contains(&"losetup") && !sh("losetup -f").status.success()).then(|| "no loop devices here".into())
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command
}

pub fn sh(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).output().expect("a shell")
}

/// Runs a command that has to work; what it printed.
pub fn must(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A file system in a file. Each mount has a loop device of its own, which goes with it: one that outlived it would keep
/// in its cache what a power cut takes away.
pub struct Image {
    pub file: PathBuf,
}

impl Image {
    /// Makes a sparse file of so many MiB and a file system in it: `ext4` or `xfs`, with further flags for its `mkfs`.
    pub fn new(file: PathBuf, kind: &str, mib: u64, flags: &[&str]) -> Image {
        File::create(&file).unwrap().set_len(mib << 20).unwrap();
        let mkfs = format!("mkfs.{kind}");
        must(&mkfs, &[flags, &["-q", text(&file)]].concat());
        Image { file }
    }

    pub fn mount(&self, at: &Path, options: &str) {
        fs::create_dir_all(at).unwrap();
        must("mount", &["-o", &format!("loop,{options}"), text(&self.file), text(at)]);
    }

    /// Its loop device, while it is mounted.
    pub fn device(&self) -> String {
        must("losetup", &["--noheadings", "--output", "NAME", "--associated", text(&self.file)])
    }

    /// Unmounts it, however long a process that was killed takes to let go.
    pub fn unmount(&self, at: &Path) {
        wait_until("the file system can be unmounted", || sh(&format!("umount '{}'", text(at))).status.success());
        wait_until("its loop device is gone", || self.device().is_empty());
    }
}

pub fn mount_tmpfs(at: &Path, mib: u64) {
    fs::create_dir_all(at).unwrap();
    must("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", text(at)]);
}

/// Takes all the room there is.
pub fn fill(file: &Path) {
    let mut out = File::create(file).unwrap();
    let mut n = 1 << 20;
    while n > 0 {
        // Smaller and smaller, to the last block.
        if out.write_all(&vec![1; n]).and_then(|()| out.sync_data()).is_err() {
            n /= 2;
        }
    }
}
