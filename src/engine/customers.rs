//! Whose usage it is, of a SaaS product: customers get their numbers when they first come up.

use super::code::Code;
use super::settle::NotSettled;
use super::take::{NewIncrement, Refusal, refuse};
use super::{Engine, EngineError};
use crate::disk::Disk;
use crate::entry::{AccountId, Accounts, Buyer, Entry, Peer, RecordKey};
use crate::hour::{Hour, Timestamp};
use crate::rollup::customers::register::Register;
use crate::rollup::customers::{Customers, Found};
use crate::wal::LogError;
use crate::wal::spares::Need;

/// The name that a SaaS product's log goes by: whichever machine it runs on, the seller's account meters.
pub const SAAS: &str = "saas";

impl<D: Disk> Engine<D> {
    /// The number of the customer that an increment names. One that is new, or whose licence is, is written down.
    pub(super) fn account(&mut self, new: &NewIncrement<'_>, now: Timestamp) -> Result<Option<AccountId>, Refusal> {
        if new.customer.is_none() && new.license.is_none() && !self.options.saas {
            return Ok(None);
        }
        let bad = |message: String| refuse(Code::BadCustomer, message);
        let customer = match new.customer.as_deref() {
            _ if !self.options.saas => {
                return Err(bad("customer and license are for SaaS products; this product's kind is \"ami\"".into()));
            }
            None => {
                let message = "customer is missing: this product's kind is \"saas\"; say whose usage it is, \
                               \"customer\":\"123456789012\"";
                return Err(bad(message.into()));
            }
            Some(customer) => customer,
        };
        let buyer = Buyer::parse(customer, new.license.as_deref()).map_err(bad)?;
        let found = self.state.customers().map_or(Found::New(AccountId(1)), |customers| customers.find(&buyer));
        let id = match found {
            Found::Known(id) => return Ok(Some(id)),
            // Nothing is written down for what is refused anyhow.
            _ if !self.names.contains_key(new.dimension.as_ref()) => return Ok(None),
            Found::Several(_) if self.only_active(&buyer).is_some() => return Ok(self.only_active(&buyer)),
            Found::Several(count) => {
                return Err(bad(format!(
                    "customer {customer} has {count} licences; say which one, \"license\":\"arn:…\""
                )));
            }
            Found::TooMany => {
                return Err(bad(format!(
                    "this log knows {} customers, and has no number left for another",
                    AccountId::MAX.0
                )));
            }
            // One that has ended learns nothing by usage, which is refused.
            Found::Learns(id) if self.state.has_ended(id) => return Ok(Some(id)),
            Found::Learns(id) | Found::New(id) => id,
        };
        self.refuse_at_the_end()?;
        let entry = Entry::Accounts(Accounts { at: now, first: id, buyers: vec![buyer] });
        let cost = entry.encode().map_or(0, |payload| payload.len());
        self.make_way(Peer::default(), cost, now)?;
        let written = self.flush_building(now).and_then(|()| self.record(&entry, Need::Usage, now));
        written.map_err(|error| {
            let code = if matches!(error, LogError::Full(_)) { Code::DiskFull } else { Code::NotDurable };
            refuse(code, error.to_string())
        })?;
        Ok(Some(id))
    }

    /// The number of a customer whose record a person decides about.
    pub(super) fn customer_of(&self, buyer: Option<&Buyer>) -> Result<Option<AccountId>, NotSettled> {
        let refuse = |why: String| Err(NotSettled::DoesNotFit(why));
        let found = match (self.state.customers(), buyer) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return refuse("records have customers in SaaS products only".into()),
            (Some(_), None) => return refuse("say whose record it is: --customer ACCOUNT-ID".into()),
            (Some(customers), Some(buyer)) => (customers.find(buyer), buyer),
        };
        match found {
            (Found::Known(id), _) => Ok(Some(id)),
            (Found::Several(count), buyer) => {
                refuse(format!("customer {} has {count} licences; say which one: --license ARN", buyer.customer_id()))
            }
            (_, buyer) => refuse(format!("no customer {} has reported usage", buyer.word())),
        }
    }

    /// At a start, before anything is written: a log is of one kind for ever.
    pub(super) fn is_own_kind(&self) -> Result<(), EngineError> {
        let known = !self.state.product_code.is_empty();
        match (self.options.saas, self.state.customers().is_some()) {
            (true, false) if known => Err(EngineError::OtherKind { log: "ami", config: "saas" }),
            (false, true) => Err(EngineError::OtherKind { log: "saas", config: "ami" }),
            _ => Ok(()),
        }
    }

    /// Says of which kind a new log is.
    pub(super) fn say_kind(&mut self, now: Timestamp) -> Result<(), LogError> {
        if !self.options.saas || self.state.customers().is_some() {
            return Ok(());
        }
        let entry = Entry::Accounts(Accounts { at: now, first: AccountId(1), buyers: Vec::new() });
        self.record(&entry, Need::Control, now)
    }

    /// Records that were never sent, and whose window has passed.
    pub(super) fn fresh_too_late(&self, now: Timestamp) -> impl Iterator<Item = RecordKey> {
        let late = move |key: &RecordKey| self.state.deadline_of(key).is_none_or(|deadline| now > deadline);
        let fresh = self.state.customers().into_iter().flat_map(Customers::fresh).map(|(key, _)| key);
        let unknown = self.state.register().into_iter().flat_map(Register::waiting).map(|(key, _)| key);
        fresh.take_while(late).chain(unknown.take_while(late))
    }

    /// Closes `hour` for every customer, part by part; the seal behind them closes it for good.
    pub(super) fn seal_customers(
        &mut self,
        hour: Hour,
        early: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let mut records = 0;
        while let Some(part) = self.state.seal_part(hour, now, early) {
            records += part.rows.iter().filter(|row| row.record.is_some()).count();
            self.record(&Entry::SealedPart(part), Need::Control, now)?;
        }
        if records > 0 {
            tracing::info!(%hour, records, "hour sealed for the customers");
        }
        Ok(())
    }
}
