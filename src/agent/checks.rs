//! The doctor's checks, quietly, by the agent itself: a few seconds after its start, beside everything else and never in
//! its way. What fails stands in `status`, until a later look or AWS's own answer shows otherwise.
//!
//! AWS is asked as little as possible: a dry run for each dimension of which it has never accepted a record, once answered
//! never again; and nothing at all once nothing fails. An agent with a clock of its own is a test's, and is not examined.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::commands::{Command, Gone, Handle};
use super::identity::{self, Identity};
use crate::attribution;
use crate::clock::Clock;
use crate::config::Config;
use crate::decimal::Amount;
use crate::doctor::{Doctor, Finding, Machine, State, billed};
use crate::hour::Timestamp;
use crate::rollup::books::Books;
use crate::status::Attention;

/// The first look comes at a random moment within this, so that a fleet that starts at once does not ask at once.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// After what failed comes the second look so late, and each later one after twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_secs(60);
/// The longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// A check that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    finding: Finding,
    /// When it was first seen, of all the looks since then that found it too.
    since: Timestamp,
}

/// What this machine tells of itself.
pub fn machine() -> Machine {
    match identity::of_machine(Path::new("/")) {
        Identity::Known(name) => Machine { is_ec2: identity::is_instance_id(&name), name: Some(name) },
        Identity::AskMetadata => Machine { is_ec2: true, name: None },
        Identity::Unknown => Machine { is_ec2: false, name: None },
    }
}

/// Looks again and again until nothing fails, and begins anew with each configuration that is put in force.
pub async fn run(mut in_force: watch::Receiver<Arc<Config>>, clock: Arc<dyn Clock>, core: Handle) {
    loop {
        let config = Config::clone(&in_force.borrow_and_update());
        let looking = async {
            // Only a core that is gone ends it early, and then there is nobody to tell.
            let _ = look(config, Arc::clone(&clock), core.clone()).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = looking => {}
            changed = in_force.changed() => if changed.is_err() { return },
        }
    }
}

async fn look(config: Config, clock: Arc<dyn Clock>, core: Handle) -> Result<(), Gone> {
    let mut unasked: BTreeSet<String> = billed(&config).into_iter().collect();
    // The failures of dimensions whose dry run was answered, and is not made again.
    let mut refused: Vec<Finding> = Vec::new();
    let doctor = Doctor::new(config, machine(), Arc::clone(&clock));
    let mut pause = PAUSE_FIRST;
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=millis(FIRST_WITHIN)))).await;
    loop {
        let status = core.ask(Command::Status).await?;
        unasked.retain(|name| !is_accepted(&status.books, name));
        // Until the log is open nobody knows what AWS has accepted.
        let ask: Vec<String> = unasked.iter().filter(|_| status.ready).cloned().collect();
        let mut findings = doctor.examine(&ask, &|_| {}).await;
        for finding in &findings {
            if let Finding { check, state: State::Fails, found, remedy } = finding {
                tracing::warn!(check, found, "do" = remedy, "a check fails");
            }
            let Some(name) = finding.dimension().filter(|_| finding.state != State::Unknown) else { continue };
            unasked.remove(name);
            refused.extend((finding.state == State::Fails).then(|| finding.clone()));
        }
        let attribution = findings.iter().find(|finding| finding.check == attribution::CHECK).cloned();
        findings.retain(|finding| finding.state == State::Fails && finding.dimension().is_none());
        let done = findings.is_empty() && unasked.is_empty();
        findings.extend(attribution);
        findings.extend(refused.iter().cloned());
        core.tell(Command::Checked(findings))?;
        if done {
            return Ok(());
        }
        tokio::time::sleep(pause + Duration::from_millis(fastrand::u64(0..=millis(pause / 4)))).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn is_accepted(books: &[Books], dimension: &str) -> bool {
    books.iter().any(|b| b.dimension == dimension && b.accepted > Amount::ZERO)
}

/// Takes in what a look at `now` found; what failed before keeps the moment it was first seen.
pub fn take_in(known: &mut Vec<Failed>, findings: Vec<Finding>, now: Timestamp) {
    let before = std::mem::take(known);
    known.extend(findings.into_iter().map(|finding| {
        let first = before.iter().find(|failed| failed.finding.check == finding.check);
        Failed { since: first.map_or(now, |failed| failed.since), finding }
    }));
}

/// What of it a person should look at: not what `others` say already, and not what AWS has disproved by accepting a record
/// since, at `last_success`.
pub fn attention(
    known: &[Failed],
    others: &[Attention],
    last_success: Option<Timestamp>,
    books: &[Books],
) -> Vec<Attention> {
    let mut list: Vec<Attention> = Vec::new();
    for Failed { finding, since } in known {
        let Some((code, same, by_aws)) = code(finding) else { continue };
        let disproved = by_aws && last_success.is_some_and(|accepted| accepted >= *since)
            || finding.dimension().is_some_and(|name| is_accepted(books, name));
        let subject = finding.dimension().unwrap_or_default();
        let told = others.iter().any(|other| same.contains(&other.code) && other.message.contains(subject));
        if disproved || told {
            continue;
        }
        let message = match finding.dimension() {
            Some(name) => format!("{name}: {}", finding.found),
            None => finding.found.clone(),
        };
        match list.iter_mut().find(|other| other.code == code) {
            Some(other) => other.message = format!("{}; {message}", other.message),
            None => {
                let remedy = finding.remedy.clone().unwrap_or_default();
                list.push(Attention { code, message, remedy, since: Some(since.to_string()) });
            }
        }
    }
    list
}

/// The code of a failed check, the codes that say the same of what has happened by then, and whether a record that AWS
/// accepts disproves it.
fn code(finding: &Finding) -> Option<(&'static str, &'static [&'static str], bool)> {
    Some(match finding.check.as_str() {
        "instance" => ("check_instance", &["instance_unknown"], true),
        "region" => ("check_region", &[], true),
        "role" => ("check_role", &["aws_blocked"], true),
        "network" => ("check_network", &["aws_unreachable"], true),
        "clock" => ("check_clock", &["clock_skew", "clock_doubt"], true),
        "product_code" => ("check_product_code", &[], true),
        "disk" => ("check_disk", &["disk_full", "disk_nearly_full", "log_poisoned", "not_ready"], false),
        "socket" => ("check_socket", &[], false),
        "alert" => ("check_alert", &["alert_failed"], false),
        _ => {
            finding.dimension()?;
            ("check_dimension", &["held"], false)
        }
    })
}
