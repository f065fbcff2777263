//! The register of customers: what it is told, and a customer's end.

use super::code::Code;
use super::customers::SAAS;
use super::take::{Refusal, refuse};
use super::{Engine, EngineError};
use crate::config::UnknownCustomers;
use crate::disk::Disk;
use crate::entry::{AccountId, Accounts, Buyer, CustomerEnded, Entry, Facts, Peer, RegisterRule, Registered};
use crate::hour::Timestamp;
use crate::rollup::customers::Found;
use crate::rollup::customers::register::{Member, Register};
use crate::wal::LogError;
use crate::wal::spares::Need;

/// What becomes of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has subscribed.
    New,
    /// Something else about it is different: one whose subscription ends still does.
    Updated,
    /// Its subscription is about to end; usage is taken as ever.
    Ending,
    /// It has ended.
    Ended,
}

/// What somebody tells the register of one customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Who it is.
    pub customer: Option<Buyer>,
    /// AWS's deprecated identifier of it; names the customer where nothing else does.
    pub identifier: Option<String>,
    /// The agreement; where a customer has several licences it tells which is meant.
    pub agreement: Option<String>,
    /// Codes of products that it has subscribed to.
    pub products: Vec<String>,
    /// What becomes of it.
    pub change: Change,
    /// When AWS said so; none: now.
    pub said: Option<Timestamp>,
    /// Whether AWS says so, and not a person, whose word holds.
    pub by_aws: bool,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// The register is another now: of these customers.
    Changed(Vec<AccountId>),
    /// It knew.
    Known(Vec<AccountId>),
    /// It has heard something later of this customer.
    Older,
    /// It is about another product.
    OtherProduct,
}

/// Why the register was not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRegistered {
    /// It does not fit what is known.
    #[error("{0}")]
    DoesNotFit(String),
    /// It could not be written down.
    #[error(transparent)]
    Log(#[from] LogError),
}

fn unfit<T>(why: impl Into<String>) -> Result<T, NotRegistered> {
    Err(NotRegistered::DoesNotFit(why.into()))
}

impl<D: Disk> Engine<D> {
    /// Tells the register of a customer. Told again it changes nothing. Durable when it returns.
    pub fn tell(&mut self, told: &Told, by: Peer, now: Timestamp) -> Result<Came, NotRegistered> {
        if !self.options.saas {
            return unfit("customers are for SaaS products; this product's kind is \"ami\"");
        }
        let other = !told.products.is_empty() && !told.products.contains(&self.state.product_code);
        if told.by_aws && other {
            return Ok(Came::OtherProduct);
        }
        let accounts = self.meant(told, now)?;
        let heard = told.said.unwrap_or(now);
        let (mut changed, mut older) = (Vec::new(), false);
        for id in &accounts {
            match self.tell_of(*id, told, heard, by, now)? {
                Some(true) => changed.push(*id),
                Some(false) => {}
                None => older = true,
            }
        }
        self.commit(now)?;
        Ok(match changed.is_empty() {
            false => Came::Changed(changed),
            true if older => Came::Older,
            true => Came::Known(accounts),
        })
    }

    /// Whether that changes anything; none: something later is known.
    fn tell_of(
        &mut self,
        id: AccountId,
        told: &Told,
        heard: Timestamp,
        by: Peer,
        now: Timestamp,
    ) -> Result<Option<bool>, LogError> {
        let before = self.state.register().and_then(|register| register.member(id)).cloned();
        if before.as_ref().is_some_and(|before| told.said.is_some() && heard < before.facts.heard) {
            return Ok(None);
        }
        // A person's word holds, though AWS's clock may be ahead of ours.
        let heard = before.as_ref().map_or(heard, |before| heard.max(before.facts.heard));
        let ended = before.as_ref().is_some_and(|before| before.ended);
        let facts = facts(before.as_ref(), told, heard);
        // A person's word that says nothing new is no later word.
        let same = |before: &Member| {
            let at = told.said.map_or(before.facts.heard, |_| heard);
            Facts { heard: at, ..facts.clone() } == before.facts
        };
        let known = before.as_ref().is_some_and(same);
        match told.change {
            // Only who subscribes again comes back.
            Change::Ending | Change::Updated if ended => return Ok(Some(false)),
            Change::Ended
                if ended && (told.said.is_none() || before.as_ref().is_some_and(|b| b.facts.heard == heard)) =>
            {
                return Ok(Some(false));
            }
            Change::Ended => {
                if before.is_none() {
                    self.register(id, facts, by, now)?;
                }
                self.end_customer(id, heard, by, now)?;
            }
            _ if known && !ended => return Ok(Some(false)),
            _ => self.register(id, facts, by, now)?,
        }
        Ok(Some(true))
    }

    fn register(&mut self, account: AccountId, facts: Facts, by: Peer, now: Timestamp) -> Result<(), LogError> {
        tracing::info!(
            customer = self.shown(account),
            ending = facts.ending,
            uid = by.uid,
            "a customer of the register"
        );
        self.flush_building(now)?;
        self.record(&Entry::Registered(Registered { at: now, by, account, facts }), Need::Control, now)
    }

    /// Closes a customer's open hours, in the one entry that says it has ended: so that is done once, or not at all. What
    /// a clock ahead of its time put into hours to come is closed with those.
    fn end_customer(&mut self, id: AccountId, heard: Timestamp, by: Peer, now: Timestamp) -> Result<(), LogError> {
        self.flush_building(now)?;
        let believed = self.state.clocks.doubt.is_none();
        let through = Some(now.hour()).filter(|_| believed && self.state.name().is_some());
        let close = |hour| self.state.seal_customer(id, hour, now, self.moment_for_aws(now));
        let parts = through.and_then(close).unwrap_or_default();
        let records = parts.iter().flat_map(|part| &part.rows).filter(|row| row.record.is_some()).count();
        tracing::warn!(customer = self.shown(id), records, uid = by.uid, "a customer has ended: its open hour is sent");
        let entry = CustomerEnded { at: now, by, account: id, heard, through, parts };
        self.record(&Entry::CustomerEnded(entry), Need::Control, now)
    }

    /// The customers that are meant; one that is new gets a number.
    fn meant(&mut self, told: &Told, now: Timestamp) -> Result<Vec<AccountId>, NotRegistered> {
        let Some(buyer) = &told.customer else { return self.meant_by_identifier(told) };
        let all = self.accounts_of(buyer);
        let by_agreement = |all: &[AccountId]| {
            let agreement = told.agreement.as_ref()?;
            let facts = |id: &AccountId| Some(&self.state.register()?.member(*id)?.facts);
            all.iter().copied().find(|id| facts(id).is_some_and(|f| f.agreement.as_ref() == Some(agreement)))
        };
        if let Some(id) = by_agreement(&all).filter(|_| buyer.license.is_none()) {
            return Ok(vec![id]);
        }
        // A person who names no licence ends them all.
        if told.change == Change::Ended && !told.by_aws {
            if all.is_empty() {
                return unfit(format!("no customer {} is in the register, or has reported usage", buyer.word()));
            }
            return Ok(all);
        }
        let found = self.state.customers().map_or(Found::New(AccountId(1)), |customers| customers.find(buyer));
        let id = match found {
            Found::Known(id) => return Ok(vec![id]),
            Found::Learns(id) | Found::New(id) => id,
            Found::Several(_) if self.only_active(buyer).is_some() => {
                return Ok(self.only_active(buyer).into_iter().collect());
            }
            Found::Several(count) => {
                return unfit(format!(
                    "customer {} has {count} licences, and this names none of them: say which with --license",
                    buyer.customer_id()
                ));
            }
            Found::TooMany => return unfit("this log has no number left for another customer"),
        };
        self.flush_building(now)?;
        let entry = Entry::Accounts(Accounts { at: now, first: id, buyers: vec![buyer.clone()] });
        self.record(&entry, Need::Control, now)?;
        Ok(vec![id])
    }

    fn meant_by_identifier(&self, told: &Told) -> Result<Vec<AccountId>, NotRegistered> {
        let Some(identifier) = &told.identifier else { return unfit("it does not say which customer is meant") };
        let members = self.state.register().into_iter().flat_map(Register::members);
        let mine = members.filter(|(_, member)| member.facts.identifier.as_ref() == Some(identifier));
        let mine: Vec<AccountId> = mine.map(|(id, _)| id).collect();
        if mine.is_empty() {
            return unfit(format!(
                "no customer is known by the identifier {identifier:?}: `meterd customers resolve` learns it from the \
                 registration token"
            ));
        }
        Ok(mine)
    }

    /// All numbers of a customer; with a licence only that one's.
    fn accounts_of(&self, buyer: &Buyer) -> Vec<AccountId> {
        let Some(customers) = self.state.customers() else { return Vec::new() };
        let all = customers.numbers_of(buyer.customer);
        all.filter(|id| buyer.license.is_none() || customers.who(*id).license == buyer.license).collect()
    }

    /// Of a customer with several licences the only one that has not ended.
    pub(super) fn only_active(&self, buyer: &Buyer) -> Option<AccountId> {
        let mut active = self.accounts_of(buyer).into_iter().filter(|id| !self.state.has_ended(*id));
        active.next().filter(|_| active.next().is_none())
    }

    fn shown(&self, id: AccountId) -> String {
        self.state.customers().map_or_else(String::new, |customers| customers.who(id).word())
    }

    /// Refuses usage of a customer who has ended.
    pub(super) fn refuse_ended(&self, account: Option<AccountId>) -> Result<(), Refusal> {
        let member = account.and_then(|id| self.state.register()?.member(id)).filter(|member| member.ended);
        let (Some(member), Some(id)) = (member, account) else { return Ok(()) };
        let message = format!(
            "customer {} has ended ({}): its last hour is closed; if it has subscribed again: `meterd customers add`",
            self.shown(id),
            member.since
        );
        Err(refuse(Code::BadCustomer, message))
    }

    /// Writes down what becomes of unknown customers, if that is not what the log says.
    pub(super) fn configure_register(&mut self, now: Timestamp) -> Result<(), EngineError> {
        let unknown = self.options.unknown_customers;
        let known = self.state.register().map_or(UnknownCustomers::default(), Register::rule);
        if unknown != known && self.state.name() == Some(SAAS) {
            self.record(&Entry::RegisterRule(RegisterRule { at: now, unknown }), Need::Control, now)?;
        }
        Ok(())
    }
}

/// What is known now, with what was known before.
fn facts(before: Option<&Member>, told: &Told, heard: Timestamp) -> Facts {
    let mut facts = before.map(|before| before.facts.clone()).unwrap_or_default();
    let new = told.products.iter().filter(|product| !facts.products.contains(product));
    let new: Vec<String> = new.cloned().collect();
    facts.products.extend(new);
    facts.identifier = told.identifier.clone().or(facts.identifier);
    facts.agreement = told.agreement.clone().or(facts.agreement);
    facts.ending = match told.change {
        Change::New => false,
        Change::Ending => true,
        Change::Updated | Change::Ended => facts.ending,
    };
    facts.heard = heard.max(facts.heard);
    facts
}
