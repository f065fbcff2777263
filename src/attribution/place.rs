//! Which resources are this instance's: the ARNs of the instance and its volumes.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::submit::aws::Metadata;

/// Where Nitro instances show block devices, each with a serial number: for an EBS volume its id without the hyphen.
const BLOCK_DEVICES: &str = "sys/block";

/// Where this instance runs, and what is its.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The Region.
    pub region: String,
    /// What AWS's names end in there: `amazonaws.com`, in China `amazonaws.com.cn`.
    pub domain: String,
    /// The instance's id.
    pub instance: String,
    /// The instance, then its volumes as far as they are known.
    pub arns: Vec<String>,
    /// Whether the volumes are known. They are not before Nitro, where no device tells its volume.
    pub knows_volumes: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    account_id: String,
    region: String,
    instance_id: String,
}

impl Place {
    /// As metadata and the devices below `root` tell it; the error is why it cannot be told.
    pub fn of(identity: &Metadata, partition: &Metadata, domain: &Metadata, root: &Path) -> Result<Place, String> {
        let text = match identity {
            Metadata::Found(text) => text,
            Metadata::Absent => return Err("instance metadata has no identity document".into()),
            Metadata::Silent(why) => return Err(format!("instance metadata does not answer ({why})")),
            Metadata::Off => return Err("AWS_EC2_METADATA_DISABLED forbids to ask instance metadata".into()),
        };
        let Identity { account_id, region, instance_id } = serde_json::from_str(text)
            .map_err(|error| format!("the identity document of instance metadata cannot be read: {error}"))?;
        let or = |found: &Metadata, usual: &str| match found {
            Metadata::Found(text) if !text.is_empty() => text.clone(),
            _ => usual.to_owned(),
        };
        let (partition, domain) = (or(partition, "aws"), or(domain, "amazonaws.com"));
        let arn = |kind: &str, id: &str| format!("arn:{partition}:ec2:{region}:{account_id}:{kind}/{id}");
        let volumes = volumes(root);
        let mut arns = vec![arn("instance", &instance_id)];
        arns.extend(volumes.iter().map(|id| arn("volume", id)));
        Ok(Place { region, domain, instance: instance_id, arns, knows_volumes: !volumes.is_empty() })
    }
}

/// The ids of the volumes that are attached, in order.
fn volumes(root: &Path) -> Vec<String> {
    let devices = fs::read_dir(root.join(BLOCK_DEVICES)).into_iter().flatten().flatten();
    let serials = devices.filter_map(|device| fs::read_to_string(device.path().join("device/serial")).ok());
    // Instance storage has serial numbers of another form.
    let mut ids: Vec<String> = serials
        .filter_map(|serial| {
            let hex = serial.trim().strip_prefix("vol")?.trim_start_matches('-').to_owned();
            (hex.len() >= 8 && hex.bytes().all(|b| b.is_ascii_hexdigit())).then(|| format!("vol-{hex}"))
        })
        .collect();
    ids.sort();
    ids.dedup();
    ids
}
