//! The register: who may be billed. While it is in force, usage of a customer whom it does not know waits: sealed, in the
//! books under a heading of its own, and in nobody's call.
//!
//! Known is who stands in it, and whom AWS has accepted a record of: then AWS knows the customer, and what has been billed
//! goes on being billed. One whose end it has heard of is known too: what was used before is sent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::State;
use super::super::state::RecordState;
use crate::config::{UnknownCustomers, ZeroRecords};
use crate::entry::{
    AccountId, CustomerEnded, DimensionId, Facts, Fresh, Peer, RecordKey, RegisterRule, Registered, Verdict,
};
use crate::hour::{Hour, Timestamp};

/// Who may be billed, as the log tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Register {
    /// What is configured.
    rule: UnknownCustomers,
    /// Whether unknown customers' usage waits, and if so the first hour of which none was ever sent for that.
    in_force: Option<Hour>,
    members: BTreeMap<AccountId, Member>,
    /// Customers whom AWS has accepted a record of.
    accepted: BTreeSet<AccountId>,
    /// Customers whose last record AWS refused: they get no records of nothing until it accepts one.
    refused: BTreeSet<AccountId>,
    /// Records of unknown customers.
    waiting: BTreeMap<RecordKey, Fresh>,
}

/// A customer in the register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What is known of it.
    pub facts: Facts,
    /// Its subscription has ended.
    pub ended: bool,
    /// Since when it is so: active, ending or ended.
    pub since: Timestamp,
    /// Who said so last.
    pub by: Peer,
    /// Hours up to this one were closed for it alone: nothing counts in them any more, whatever becomes of it.
    pub closed: Option<Hour>,
}

impl Register {
    /// Whether unknown customers' usage waits.
    pub fn is_in_force(&self) -> bool {
        self.in_force.is_some()
    }

    /// What is configured, as the log has it.
    pub fn rule(&self) -> UnknownCustomers {
        self.rule
    }

    /// The customers in it.
    pub fn members(&self) -> impl Iterator<Item = (AccountId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    /// One of them.
    pub fn member(&self, id: AccountId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Whether AWS has accepted a record of this customer.
    pub fn is_accepted(&self, id: AccountId) -> bool {
        self.accepted.contains(&id)
    }

    /// Records of unknown customers, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = (RecordKey, &Fresh)> {
        self.waiting.iter().map(|(key, fresh)| (*key, fresh))
    }

    pub(super) fn waiting_map(&self) -> &BTreeMap<RecordKey, Fresh> {
        &self.waiting
    }

    /// How many.
    pub fn waiting_count(&self) -> u64 {
        self.waiting.len() as u64
    }

    fn withholds(&self, id: AccountId) -> bool {
        self.in_force.is_some() && !self.members.contains_key(&id) && !self.accepted.contains(&id)
    }

    /// Whether `hour` was closed for this customer alone.
    fn has_closed(&self, id: AccountId, hour: Hour) -> bool {
        self.members.get(&id).and_then(|member| member.closed).is_some_and(|closed| hour <= closed)
    }

    /// Whether hours without usage are reported for this customer: for an active one, and for one that has used, until AWS
    /// refuses it.
    fn reports_nothing(&self, id: AccountId) -> bool {
        let active = self.members.get(&id).map_or_else(|| self.accepted.contains(&id), |member| !member.ended);
        active && !self.refused.contains(&id)
    }

    /// Those customers, from a number on: those in the register, and the others.
    pub(super) fn reporters(&self, from: AccountId) -> [Box<dyn Iterator<Item = AccountId> + '_>; 2] {
        let reports = |id: &AccountId| self.reports_nothing(*id);
        let members = self.members.range(from..).map(|(id, _)| *id).filter(reports);
        let accepted = self.accepted.range(from..).copied().filter(reports);
        [Box::new(members), Box::new(accepted)]
    }
}

impl State {
    /// The register of a SaaS product's customers, once there is anything in it.
    pub fn register(&self) -> Option<&Register> {
        self.more.register.as_deref()
    }

    fn register_mut(&mut self) -> &mut Register {
        self.more.register.get_or_insert_default()
    }

    /// Whether a customer's usage waits for the register to hear of it.
    pub fn withholds(&self, id: AccountId) -> bool {
        self.register().is_some_and(|register| register.withholds(id))
    }

    /// Whether a customer's subscription has ended.
    pub fn has_ended(&self, id: AccountId) -> bool {
        self.register().and_then(|register| register.member(id)).is_some_and(|member| member.ended)
    }

    /// Whether `hour` is closed for a customer, though others may still use it.
    pub(super) fn has_closed(&self, id: AccountId, hour: Hour) -> bool {
        self.register().is_some_and(|register| register.has_closed(id, hour))
    }

    /// The first hour that a customer's usage can count in.
    pub fn first_open_of(&self, id: AccountId) -> Hour {
        let closed = self.register().and_then(|register| register.member(id)).and_then(|member| member.closed);
        closed.map_or(self.first_open(), |closed| closed.next().max(self.first_open()))
    }

    /// Of customers for whom alone hours were closed: the first that was not.
    pub(super) fn closed_alone(&self) -> BTreeMap<AccountId, Hour> {
        let members = self.register().into_iter().flat_map(Register::members);
        members.filter_map(|(id, member)| Some((id, member.closed?.next()))).collect()
    }

    /// Whether hours without usage are reported for a customer.
    pub(super) fn zero_records_of(&self, id: AccountId) -> ZeroRecords {
        let reports = self.register().is_some_and(|register| register.reports_nothing(id));
        if reports { self.zero_records } else { ZeroRecords::Off }
    }

    /// Until when the records of unknown customers may be sent; of the one whose time ends first.
    pub fn waiting_deadline(&self) -> Option<(RecordKey, Timestamp)> {
        let (key, _) = self.register()?.waiting().next()?;
        Some((key, self.deadline_of(&key)?))
    }

    /// How many records of this customer wait for the register to hear of it.
    pub fn waiting_of(&self, id: AccountId) -> u64 {
        self.waiting_keys(id).len() as u64
    }

    fn waiting_keys(&self, id: AccountId) -> Vec<RecordKey> {
        let (Some(register), Some(customers)) = (self.register(), self.customers()) else { return Vec::new() };
        let dimensions = || (0..).map(DimensionId).take(self.dimensions.len());
        let places = customers.common.keys().flat_map(|hour| dimensions().map(move |d| (*hour, d)));
        let own = places.flat_map(|(hour, d)| register.waiting.range(RecordKey::all_of(Some(id), d, hour)));
        own.map(|(key, _)| *key).collect()
    }

    pub(super) fn withhold(&mut self, key: RecordKey, fresh: Fresh) {
        self.register_mut().waiting.insert(key, fresh);
    }

    /// Takes a record that was never sent out of where it waits.
    pub(super) fn take_fresh(&mut self, key: &RecordKey) -> Option<Fresh> {
        let waiting = self.more.register.as_deref_mut().and_then(|register| register.waiting.remove(key));
        waiting.or_else(|| self.customers_mut().fresh.remove(key))
    }

    /// The first hour that a licence holds for which a customer learns now: an unknown one was never sent anything, so it
    /// goes back to where the register came into force, but for hours with a record that is fixed in full.
    pub(super) fn licence_from(&self, id: AccountId) -> Hour {
        let Some(since) = self.register().filter(|r| r.withholds(id)).and_then(|r| r.in_force) else {
            return self.first_open_of(id);
        };
        let fixed = self.records.keys().filter(|key| key.account() == Some(id)).map(|key| key.hour.next()).max();
        fixed.map_or(since, |hour| hour.max(since))
    }

    pub(in super::super) fn apply_registered(&mut self, registered: &Registered) {
        let Registered { at, by, account, facts } = registered;
        let first_open = self.first_open();
        self.customers_mut().given_through(*account);
        let register = self.register_mut();
        let before = register.members.get(account);
        let same = before.filter(|before| !before.ended && before.facts.ending == facts.ending);
        let member = Member {
            facts: facts.clone(),
            ended: false,
            since: same.map_or(*at, |before| before.since),
            by: *by,
            closed: before.and_then(|before| before.closed),
        };
        register.members.insert(*account, member);
        register.refused.remove(account);
        self.weigh_register(first_open);
        self.let_through(*account);
    }

    pub(in super::super) fn apply_customer_ended(&mut self, ended: &CustomerEnded) -> Vec<RecordState> {
        let mut finished = Vec::new();
        for part in &ended.parts {
            for row in &part.rows {
                self.apply_row(part, row, &mut finished);
                // In full, for what others have in this hour is not closed, nor what that has in common.
                self.unfold_as(&row.key_in(part.hour), &part.common);
            }
            self.customers_mut().drop_measured(part.hour, ended.account);
        }
        self.customers_mut().drop_levels(ended.account);
        let register = self.register_mut();
        if let Some(member) = register.members.get_mut(&ended.account) {
            if !member.ended {
                (member.ended, member.since, member.by) = (true, ended.at, ended.by);
            }
            member.facts.heard = ended.heard;
            member.facts.ending = false;
            member.closed = member.closed.max(ended.through);
        }
        finished
    }

    pub(in super::super) fn apply_register_rule(&mut self, rule: &RegisterRule) {
        let first_open = self.first_open();
        self.register_mut().rule = rule.unknown;
        self.weigh_register(first_open);
    }

    /// AWS's word on a customer's record is one on the customer too.
    pub(in super::super) fn heed_verdict(&mut self, key: &RecordKey, verdict: &Verdict) {
        let Some(id) = key.account() else { return };
        match verdict {
            Verdict::Accepted { .. } => {
                self.register_mut().refused.remove(&id);
                if self.register_mut().accepted.insert(id) {
                    self.let_through(id);
                }
            }
            Verdict::Refused => drop(self.register_mut().refused.insert(id)),
            _ => {}
        }
    }

    /// Puts the register in force, or out of it, as its rule and its members ask for.
    fn weigh_register(&mut self, first_open: Hour) {
        let mut register = std::mem::take(self.register_mut());
        let wanted = match register.rule {
            UnknownCustomers::Auto => !register.members.is_empty(),
            UnknownCustomers::Wait => true,
            UnknownCustomers::Send => false,
        };
        let customers = self.customers_mut();
        if wanted && register.in_force.is_none() {
            register.in_force = Some(first_open);
            let unknown = |key: &RecordKey| key.account().is_some_and(|id| register.withholds(id));
            let (waiting, fresh) = std::mem::take(&mut customers.fresh).into_iter().partition(|(key, _)| unknown(key));
            (register.waiting, customers.fresh) = (waiting, fresh);
        } else if !wanted {
            register.in_force = None;
            customers.fresh.append(&mut register.waiting);
        }
        *self.register_mut() = register;
    }

    /// What waited of a customer who is known now is sent.
    fn let_through(&mut self, id: AccountId) {
        for key in self.waiting_keys(id) {
            let fresh = self.register_mut().waiting.remove(&key);
            self.customers_mut().fresh.extend(fresh.map(|fresh| (key, fresh)));
        }
    }
}
