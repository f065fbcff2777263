//! Which instance this is. On EC2 there is no second-best name: records wait until the real one is known.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::commands::{Command, Handle};
use crate::submit::aws::metadata;

/// Where Nitro instances show their own id, without a network.
const BOARD_ASSET_TAG: &str = "/sys/devices/virtual/dmi/id/board_asset_tag";
/// What tells that this is EC2 at all: the vendor on Nitro, the hypervisor's id on Xen.
const SYSTEM_VENDOR: &str = "/sys/devices/virtual/dmi/id/sys_vendor";
const HYPERVISOR_UUID: &str = "/sys/hypervisor/uuid";
const MACHINE_ID: &str = "/etc/machine-id";

/// How long to wait between two questions to metadata.
const METADATA_RETRY: Duration = Duration::from_secs(5);

/// What can be told without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The name.
    Known(String),
    /// On EC2, and only metadata knows it.
    AskMetadata,
    /// Neither EC2 nor a machine id.
    Unknown,
}

/// The identity of this machine, unless the configuration names one.
pub fn identity(configured: Option<&str>) -> Identity {
    configured.map_or_else(|| of_machine(Path::new("/")), |name| Identity::Known(name.to_owned()))
}

/// The identity that the files below `root` tell.
pub fn of_machine(root: &Path) -> Identity {
    let tag = read(root, BOARD_ASSET_TAG);
    if is_instance_id(&tag) {
        return Identity::Known(tag);
    }
    if is_ec2(root) {
        return Identity::AskMetadata;
    }
    match read(root, MACHINE_ID) {
        id if id.is_empty() => Identity::Unknown,
        id => Identity::Known(id),
    }
}

/// Whether the files below `root` are those of an EC2 instance.
pub fn is_ec2(root: &Path) -> bool {
    is_instance_id(&read(root, BOARD_ASSET_TAG))
        || read(root, SYSTEM_VENDOR) == "Amazon EC2"
        || read(root, HYPERVISOR_UUID).starts_with("ec2")
}

fn read(root: &Path, path: &str) -> String {
    let text = fs::read_to_string(root.join(path.trim_start_matches('/'))).unwrap_or_default();
    text.trim().to_owned()
}

pub(super) fn is_instance_id(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|hex| hex.len() >= 8 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Asks metadata until it answers, then tells the core.
pub async fn ask_metadata(core: Handle) {
    let client = metadata();
    loop {
        match client.get("/latest/meta-data/instance-id").await {
            Ok(id) if is_instance_id(id.as_ref()) => {
                // A core that is gone needs no name.
                let _ = core.tell(Command::Instance(id.into()));
                return;
            }
            Ok(other) => tracing::warn!(answer = other.as_ref(), "instance metadata names no instance"),
            Err(error) => tracing::debug!(%error, "instance metadata does not answer"),
        }
        tokio::time::sleep(METADATA_RETRY).await;
    }
}
