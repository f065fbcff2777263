//! The register of customers in the audit's [`Ledger`]: whose records wait for it to hear of them.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::Ledger;
use super::waiting::Place;
use crate::config::UnknownCustomers;
use crate::entry::{AccountId, CustomerEnded, RecordKey, Verdict};
use crate::hour::Hour;
use crate::rollup::State;

/// Who may be billed.
#[derive(Debug, Clone, Default)]
pub(super) struct Register {
    rule: UnknownCustomers,
    members: BTreeSet<AccountId>,
    accepted: BTreeSet<AccountId>,
    /// Hours up to this one were closed for a customer alone.
    pub(super) closed: BTreeMap<AccountId, Hour>,
}

impl Register {
    pub(super) fn from_state(state: &State) -> Self {
        let Some(known) = state.register() else { return Register::default() };
        let accepted = state.customers().into_iter().flat_map(|customers| customers.accounts());
        Register {
            rule: known.rule(),
            members: known.members().map(|(id, _)| id).collect(),
            accepted: accepted.map(|(id, _)| id).filter(|id| known.is_accepted(*id)).collect(),
            closed: known.members().filter_map(|(id, member)| Some((id, member.closed?))).collect(),
        }
    }

    /// Whether a customer's records wait.
    pub(super) fn withholds(&self, id: AccountId) -> bool {
        let in_force = match self.rule {
            UnknownCustomers::Auto => !self.members.is_empty(),
            UnknownCustomers::Wait => true,
            UnknownCustomers::Send => false,
        };
        in_force && !self.members.contains(&id) && !self.accepted.contains(&id)
    }
}

impl Ledger {
    pub(super) fn registered(&mut self, id: AccountId) {
        if self.register.members.insert(id) {
            self.weigh_register();
        }
    }

    pub(super) fn register_rule(&mut self, rule: UnknownCustomers) {
        self.register.rule = rule;
        self.weigh_register();
    }

    /// AWS's word on a record of a customer.
    pub(super) fn customer_accepted(&mut self, key: &RecordKey, verdict: &Verdict) {
        let Some(id) = key.account().filter(|_| matches!(verdict, Verdict::Accepted { .. })) else { return };
        let withheld = self.register.withholds(id);
        self.register.accepted.insert(id);
        if withheld {
            self.weigh_register();
        }
    }

    pub(super) fn customer_ended(&mut self, ended: &CustomerEnded) -> Vec<String> {
        let mut wrong = Vec::new();
        for part in &ended.parts {
            if part.hour < self.open_from || self.register.closed.get(&ended.account).is_some_and(|c| part.hour <= *c) {
                wrong.push(format!("{} of customer number {} is closed twice", part.hour, ended.account.0));
            }
            for row in &part.rows {
                self.sealed_row(part, row, &mut wrong);
                self.records.entry(row.key_in(part.hour)).and_modify(|record| record.fresh = false);
            }
        }
        if let Some(through) = ended.through {
            let closed = self.register.closed.entry(ended.account).or_insert(through);
            *closed = through.max(*closed);
        }
        wrong
    }

    /// Of records that were never sent, which wait for the register.
    fn weigh_register(&mut self) {
        for (key, record) in self.records.iter_mut().filter(|(_, record)| record.fresh) {
            let withheld = key.account().is_some_and(|id| self.register.withholds(id));
            match record.place {
                Place::Pending if withheld => record.place = Place::Unknown,
                Place::Unknown if !withheld => record.place = Place::Pending,
                _ => {}
            }
        }
    }
}
