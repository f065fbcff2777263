//! SaaS products: what is shown of the register of customers, and of those it does not know.

use std::collections::BTreeSet;

use serde::Serialize;

use super::attention::more;
use crate::config::Late;
use crate::entry::AccountId;
use crate::hour::{Timestamp, span};
use crate::rollup::State;
use crate::rollup::customers::register::Register;

/// The register, in figures.
#[derive(Debug, Clone, Serialize)]
pub struct CustomersStatus {
    /// In the register, and not ended.
    pub active: u64,
    /// Of the active ones, those whose subscription is about to end.
    pub ending: u64,
    /// In the register, and ended.
    pub ended: u64,
    /// Whether usage of customers whom it does not know waits.
    pub in_force: bool,
    /// What waits for it; null where nothing does.
    pub unknown: Option<UnknownStatus>,
}

/// What waits for the register to hear of its customers.
#[derive(Debug, Clone, Serialize)]
pub struct UnknownStatus {
    /// How many customers.
    pub customers: u64,
    /// How many records of theirs.
    pub records: u64,
    /// Until when the first of these may be sent.
    pub deadline: String,
    /// Until then.
    pub seconds_left: u64,
}

pub(super) fn status(state: &State, now: Timestamp) -> CustomersStatus {
    let members = || state.register().into_iter().flat_map(Register::members);
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    CustomersStatus {
        active: count(members().filter(|(_, member)| !member.ended).count()),
        ending: count(members().filter(|(_, member)| !member.ended && member.facts.ending).count()),
        ended: count(members().filter(|(_, member)| member.ended).count()),
        in_force: state.register().is_some_and(Register::is_in_force),
        unknown: unknown(state, now),
    }
}

fn unknown(state: &State, now: Timestamp) -> Option<UnknownStatus> {
    let (register, (_, deadline)) = (state.register()?, state.waiting_deadline()?);
    let customers: BTreeSet<AccountId> = register.waiting().filter_map(|(key, _)| key.account()).collect();
    Some(UnknownStatus {
        customers: u64::try_from(customers.len()).unwrap_or(u64::MAX),
        records: register.waiting_count(),
        deadline: deadline.to_string(),
        seconds_left: deadline.since(now).as_secs(),
    })
}

pub(super) fn attention(
    state: &State,
    now: Timestamp,
    add: &mut impl FnMut(&'static str, String, &str, Option<Timestamp>),
) {
    let Some(unknown) = unknown(state, now) else { return };
    let Some(((key, deadline), customers)) = state.waiting_deadline().zip(state.customers()) else { return };
    let who = key.account().map_or_else(String::new, |id| customers.who(id).word());
    let then = match state.late {
        Late::CarryForward => "its units go into its open hour, and wait on",
        Late::Expire => "it expires",
    };
    let message = format!(
        "{} records wait, for the register of customers does not know whose they are: customer {who}{}; in {} the first of \
         them can no longer be sent: {then}",
        unknown.records,
        more(usize::try_from(unknown.customers).unwrap_or(usize::MAX)),
        span(deadline.since(now))
    );
    let id = who.split('/').next().unwrap_or_default();
    let remedy = format!(
        "who it is tells the registration token: `meterd customers resolve TOKEN`; or say that it has subscribed: `meterd \
         customers add {id}`; all of them: `meterd customers list`; where no register is kept: customers.unknown = \"send\" \
         in the configuration, then `meterd reload`"
    );
    add("unknown_customer", message, &remedy, Some(key.hour.end()));
}
