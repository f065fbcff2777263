//! What instance metadata announces: a spot interruption, or the end that auto-scaling has in mind.
//!
//! | metadata says | it is |
//! | --- | --- |
//! | `spot/instance-action`: `terminate` | an end, two minutes ahead |
//! | the same: `stop` | an end: when, and whether, the instance comes back is up to the spot market |
//! | the same: `hibernate` | an end: hibernation begins at once, runs no shutdown, and may outlast the record's window |
//! | `autoscaling/target-lifecycle-state`: `Terminated`, `Warmed:Terminated` | an end |
//! | the same: `Warmed:Hibernated` | an end, as with spot |
//! | the same: `Warmed:Stopped` | none: hooks may hold the instance in it for hours, and a stop runs a shutdown, whose unit is the end |
//! | anything else, or nothing | none; an end that was announced is called off |
//!
//! An announcement whose moment has passed by five minutes while the agent still runs is called off too. Metadata that
//! does not answer changes nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::commands::{Command, Gone, Handle};
use crate::clock::Clock;
use crate::hour::Timestamp;
use crate::submit::aws::{Metadata, MetadataClient, ask_metadata, metadata};

/// How often metadata is asked: AWS's recommendation, for it announces a spot interruption two minutes ahead. On the
/// machine's clock, whatever the agent's own shows.
const ASKED_EVERY: Duration = Duration::from_secs(5);
/// How long after its moment an announced interruption may still come.
const OVERDUE: Duration = Duration::from_secs(5 * 60);
/// How often a machine that does not look like EC2 is asked whether it has instance metadata after all: a minute long, for
/// the network may come late.
const TRIES: u32 = 12;

const SPOT: &str = "spot/instance-action";
const AUTO_SCALING: &str = "autoscaling/target-lifecycle-state";

/// Whether metadata is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// As long as the agent runs.
    Always,
    /// If it answers soon after the start.
    IfThere,
    /// Not at all.
    Never,
}

impl Asking {
    /// `own_clock`: a test, in which nothing is asked but a faked endpoint. `ec2`: the board says so. `named`: the
    /// configuration names the instance.
    pub fn of(own_clock: bool, ec2: bool, named: bool) -> Asking {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let off = variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let faked = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").is_some();
        match (off, faked, own_clock) {
            (true, ..) | (false, false, true) => Asking::Never,
            (false, true, _) => Asking::Always,
            (false, false, false) if ec2 => Asking::Always,
            (false, false, false) if named => Asking::Never,
            (false, false, false) => Asking::IfThere,
        }
    }
}

/// A spot interruption as metadata tells it.
#[derive(Debug, Deserialize)]
struct Interruption {
    action: String,
    time: String,
}

/// The end that these items announce, in words.
fn announced(spot: Option<&str>, auto_scaling: Option<&str>, now: Timestamp) -> Option<String> {
    let interruption = spot.and_then(|text| serde_json::from_str::<Interruption>(text).ok());
    if let Some(Interruption { action, time }) = interruption
        && matches!(action.as_str(), "terminate" | "stop" | "hibernate")
        && Timestamp::parse(&time).is_none_or(|at| now < at.plus(OVERDUE))
    {
        return Some(format!("spot interruption: {action} at {time}"));
    }
    let state = auto_scaling.map(str::trim)?;
    let ends = matches!(state, "Terminated" | "Warmed:Terminated" | "Warmed:Hibernated");
    ends.then(|| format!("auto-scaling: {state}"))
}

/// Asks metadata again and again, and tells the core of each end that it announces or takes back.
pub async fn watch(core: Handle, clock: Arc<dyn Clock>, asking: Asking) {
    if asking == Asking::Never {
        return;
    }
    let client = metadata();
    // What the core has been told.
    let mut told: Option<String> = None;
    let mut tries = if asking == Asking::Always { None } else { Some(TRIES) };
    loop {
        let spot = item(&client, SPOT).await;
        let both = match spot {
            Ok(spot) => item(&client, AUTO_SCALING).await.map(|auto_scaling| (spot, auto_scaling)),
            Err(error) => Err(error),
        };
        match both {
            Ok((spot, auto_scaling)) => {
                tries = None;
                let seen = announced(spot.as_deref(), auto_scaling.as_deref(), clock.now());
                if seen != told {
                    match tell(&core, seen.clone()).await {
                        Ok(true) => told = seen,
                        // It is told again.
                        Ok(false) => {}
                        Err(Gone) => return,
                    }
                }
            }
            Err(error) => {
                tracing::debug!(error, "instance metadata does not answer");
                tries = tries.map(|left| left - 1);
                if tries == Some(0) {
                    return;
                }
            }
        }
        tokio::time::sleep(ASKED_EVERY).await;
    }
}

/// One item of metadata; none where there is no such item.
async fn item(client: &MetadataClient, path: &str) -> Result<Option<String>, String> {
    match ask_metadata(client, path).await {
        Metadata::Found(text) => Ok(Some(text)),
        Metadata::Absent => Ok(None),
        Metadata::Silent(why) => Err(why),
        Metadata::Off => Err("it must not be asked".to_owned()),
    }
}

/// Whether the core could write it down.
async fn tell(core: &Handle, seen: Option<String>) -> Result<bool, Gone> {
    match seen {
        Some(why) => Ok(core.ask(|reply| Command::End { by: None, why, reply }).await?.is_ok()),
        None => Ok(core.ask(|reply| Command::CallOff { by: None, reply }).await?.is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_the_instance_is_an_end() {
        let at = |seconds: i64| Timestamp::from_seconds(1_795_262_400 + seconds);
        let spot = |action: &str| format!(r#"{{"action":"{action}","time":"2026-11-21T12:02:00Z"}}"#);
        for action in ["terminate", "stop", "hibernate"] {
            assert!(announced(Some(&spot(action)), None, at(0)).is_some(), "{action}");
            assert!(announced(Some(&spot(action)), None, at(120 + 299)).is_some(), "{action}");
            assert_eq!(announced(Some(&spot(action)), None, at(120 + 300)), None, "{action}, overdue");
        }
        assert_eq!(announced(Some(&spot("rebalance")), None, at(0)), None);
        assert_eq!(announced(Some("<html>"), None, at(0)), None);
        for (state, ends) in [
            ("Terminated", true),
            ("Terminated\n", true),
            ("Warmed:Terminated", true),
            ("Warmed:Hibernated", true),
            ("Warmed:Stopped", false),
            ("Warmed:Running", false),
            ("InService", false),
            ("Standby", false),
            ("Detached", false),
        ] {
            assert_eq!(announced(None, Some(state), at(0)).is_some(), ends, "{state}");
        }
        assert_eq!(announced(None, None, at(0)), None);
    }
}
