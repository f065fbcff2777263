//! A customer as people and programs see it: what `customers list --json` prints.

use serde::{Deserialize, Serialize};

use crate::entry::AccountId;
use crate::rollup::State;
use crate::rollup::customers::register::Register;

/// Customers in one answer at the most.
pub const PAGE: usize = 1000;

/// One customer: an account id, with one of its licences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerView {
    /// Its number in this log.
    pub number: u32,
    /// The account id.
    pub customer: String,
    /// The licence's ARN.
    pub license: Option<String>,
    /// In the register: active, ending (usage is taken as ever) or ended. Else accepted (AWS has accepted a record of it),
    /// unknown (its usage waits) or reported (the register is not in force).
    pub state: String,
    /// Since when; null for one that is not in the register.
    pub since: Option<String>,
    /// Products it has subscribed to, as they were told.
    pub products: Vec<String>,
    /// AWS's deprecated identifier of it; never sent.
    pub identifier: Option<String>,
    /// The agreement that a notification named.
    pub agreement: Option<String>,
    /// Records that wait for the register to hear of it.
    pub waiting: u64,
}

/// The customers behind number `after`, a page of them.
pub fn customers(state: &State, after: u32) -> Vec<CustomerView> {
    let Some(customers) = state.customers() else { return Vec::new() };
    let first = AccountId(after.saturating_add(1));
    customers.accounts_from(first).take(PAGE).map(|(id, _)| customer(state, id)).collect()
}

/// One of them.
pub fn customer(state: &State, id: AccountId) -> CustomerView {
    let who = state.customers().map(|customers| customers.who(id)).unwrap_or_default();
    let member = state.register().and_then(|register| register.member(id));
    let word = match member {
        Some(member) if member.ended => "ended",
        Some(member) if member.facts.ending => "ending",
        Some(_) => "active",
        None if state.register().is_some_and(|register| register.is_accepted(id)) => "accepted",
        None if state.register().is_some_and(Register::is_in_force) => "unknown",
        None => "reported",
    };
    let facts = member.map(|member| member.facts.clone()).unwrap_or_default();
    CustomerView {
        number: id.0,
        customer: who.customer_id(),
        license: who.license,
        state: word.to_owned(),
        since: member.map(|member| member.since.to_string()),
        products: facts.products,
        identifier: facts.identifier,
        agreement: facts.agreement,
        waiting: if word == "unknown" { state.waiting_of(id) } else { 0 },
    }
}
