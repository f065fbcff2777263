//! What was measured on: figures mean little without it.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// The machine, as far as the kernel tells.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The processor's model.
    pub cpu: String,
    /// How many threads it runs at once for this process.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// The file system's kind.
    pub file_system: String,
    /// What the file system lies on: the device, with its model where there is one.
    pub disk: String,
}

impl Machine {
    /// This one, with what `dir`, an absolute path, lies on.
    pub fn look(dir: &Path) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        let (file_system, source) = mounted(dir).unwrap_or_else(|| (unknown(), unknown()));
        Machine {
            cpu: model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            file_system,
            disk: disk(&source),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Kind and source of the file system that `dir` lies on: of the mounts above it the nearest, the last of those that
/// hide one another.
fn mounted(dir: &Path) -> Option<(String, String)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let found = mounts.lines().filter_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4).filter(|point| dir.starts_with(point))?;
        let mut rest = rest.split(' ');
        Some((point.len(), (rest.next()?.to_owned(), rest.next()?.to_owned())))
    });
    found.max_by_key(|(length, _)| *length).map(|(_, what)| what)
}

/// `/dev/sda1` with the model of the disk that it is on.
fn disk(source: &str) -> String {
    let Some(name) = source.strip_prefix("/dev/") else { return source.to_owned() };
    // Of a partition the disk is the directory above.
    let model =
        ["device/model", "../device/model"].iter().find_map(|at| read(&format!("/sys/class/block/{name}/{at}")));
    model.map_or_else(|| source.to_owned(), |model| format!("{source} ({model})"))
}
