//! Closing an hour customer by customer, in parts of bounded length.
//!
//! From the first part on nothing more counts in the hour, so a crash between two parts changes nothing: the rest of them
//! follows with what they have in common, and a seal of no dimension ends the row.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::{self, Peekable};

use super::super::State;
use super::super::state::{DimensionState, RecordState, Totals};
use super::super::tagged::Tagged;
use super::{Customers, Left, Sealing};
use crate::config::ZeroRecords;
use crate::decimal::Amount;
use crate::entry::{
    AccountId, Allocation, DimensionId, Fresh, InCommon, RecordKey, Request, RowMore, SealedDimension, SealedPart,
    SealedRow, share_bytes,
};
use crate::hour::{Hour, Timestamp};
use crate::tags::Tags;

/// Most rows in one part.
const ROWS_MAX: usize = 1000;
/// So many shares in one part at the most, but for those of its last row.
const SHARES_MAX: usize = 5000;
/// Bytes of a record's shares as AWS reads them: with room for 24 records without any below its 1 MB a call.
const SHARES_BYTES_MAX: usize = 900_000;

impl State {
    /// The next part of the close of `hour`; none when all customers are closed. `early`: as in [`State::seal_early`].
    pub fn seal_part(&self, hour: Hour, at: Timestamp, early: Option<Timestamp>) -> Option<SealedPart> {
        let customers = self.customers()?;
        let sealing = customers.sealing.as_ref().filter(|sealing| sealing.hour == hour);
        let (after, common) = match sealing {
            Some(sealing) => (sealing.through, sealing.common.clone()),
            None => (AccountId(0), InCommon { timestamp: hour.stamp(early), product_code: self.product_code.clone() }),
        };
        let early = Some(common.timestamp).filter(|stamp| *stamp < hour.last_second());
        let mut desk = self.desk()?;
        let mut part = SealedPart { hour, at, common, through: after, rows: Vec::new() };
        let mut shares = 0;
        for account in self.concerned(hour, AccountId(after.0 + 1)) {
            desk.zero_records = self.zero_records_of(account);
            self.lay(&mut desk, account, hour);
            let seal = desk.close(hour, hour, at, early, None)?;
            for mut sealed in seal.dimensions {
                if self.has_ended(account) {
                    sealed.kept.level = None;
                }
                shares += sealed.record.as_ref().map_or(0, |record| record.request.allocations.len());
                part.rows.push(row(account, hour, sealed));
            }
            part.through = account;
            if part.rows.len() >= ROWS_MAX || shares >= SHARES_MAX {
                break;
            }
        }
        (part.through > after).then_some(part)
    }

    /// What closes the hours up to `through` for one customer alone, stamped with `moment`: what it has in them, and what
    /// is on its way into its next record. No level goes on, for there is no next hour.
    pub fn seal_customer(
        &self,
        account: AccountId,
        through: Hour,
        at: Timestamp,
        moment: Timestamp,
    ) -> Option<Vec<SealedPart>> {
        let (customers, mut desk) = (self.customers()?, self.desk()?);
        let open = customers.open.keys().filter(|(hour, of, _)| *of == account && *hour <= through);
        let open = open.filter(|(hour, ..)| !self.has_closed(account, *hour));
        let mut hours: BTreeSet<Hour> = open.map(|(hour, _, _)| *hour).collect();
        hours.extend(Some(through).filter(|hour| !self.has_closed(account, *hour) && *hour >= self.first_open()));
        let (mut parts, mut first) = (Vec::new(), true);
        for hour in hours {
            if std::mem::take(&mut first) {
                self.lay(&mut desk, account, hour);
            } else {
                customers.lay_open(&mut desk, account, hour);
            }
            let seal = desk.close(hour, hour, at, Some(moment), None)?;
            desk.apply_seal(&seal);
            let common = InCommon { timestamp: hour.stamp(Some(moment)), product_code: self.product_code.clone() };
            let ended = |mut sealed: SealedDimension| {
                sealed.kept.level = None;
                sealed
            };
            let rows = seal.dimensions.into_iter().map(|sealed| row(account, hour, ended(sealed))).collect();
            parts.push(SealedPart { hour, at, common, through: account, rows });
        }
        Some(parts)
    }

    /// An instance with these rules and no usage, for a customer's to be laid on.
    pub(super) fn desk(&self) -> Option<State> {
        let instance = self.name()?.to_owned();
        let bare = |d: &DimensionState| DimensionState {
            open: Default::default(),
            carry: Vec::new(),
            totals: Totals::default(),
            rules: d.rules.clone(),
            next_rules: d.next_rules.clone(),
            remainder: Tagged::default(),
            dust: Tagged::default(),
            level: None,
            used: None,
            ..*d
        };
        Some(State {
            product_code: self.product_code.clone(),
            instance: Some(instance),
            zero_records: ZeroRecords::Off,
            dimensions: self.dimensions.iter().map(bare).collect(),
            open_from: self.open_from,
            clocks: self.clocks.clone(),
            damaged_through: self.damaged_through,
            ..State::default()
        })
    }

    pub(in super::super) fn apply_sealed_part(&mut self, part: &SealedPart) -> Vec<RecordState> {
        let mut finished = Vec::new();
        for row in &part.rows {
            self.apply_row(part, row, &mut finished);
        }
        let customers = self.customers_mut();
        customers.common.insert(part.hour, part.common.clone());
        customers.sealing = Some(Sealing { hour: part.hour, through: part.through, common: part.common.clone() });
        // What has no row is measured in another dimension's.
        let first = (part.hour, AccountId(0), DimensionId(0));
        let rest: Vec<_> = customers
            .open
            .range(first..=(part.hour, part.through, DimensionId(u16::MAX)))
            .map(|(key, _)| *key)
            .collect();
        rest.iter().for_each(|key| drop(customers.open.remove(key)));
        finished
    }

    pub(super) fn apply_row(&mut self, part: &SealedPart, row: &SealedRow, finished: &mut Vec<RecordState>) {
        let Some(dimension) = self.dimensions.get_mut(usize::from(row.dimension.0)) else { return };
        dimension.totals.sealed += row.usage();
        dimension.totals.included += row.included();
        dimension.totals.rounded += row.rounded();
        let key = RecordKey::of_customer(row.account, part.hour, row.dimension);
        let customers = self.customers_mut();
        customers.given_through(row.account);
        customers.open.remove(&(part.hour, row.account, row.dimension));
        let place = (row.account, row.dimension);
        let mut left = customers.left.remove(&place).unwrap_or_default();
        left.kept = row.kept();
        if let Some(fresh) = &row.record {
            left.carry = row.spill().into_iter().cloned().collect();
            if fresh.rest.as_ref().is_some_and(|rest| rest.hold.is_some()) {
                let buyer = customers.buyer(row.account, part.hour);
                let name = self.dimension(row.dimension).map_or("", |dimension| &dimension.rules.name);
                let mut held = RecordState::sealed(fresh.record(key, name, &part.common, &buyer));
                // What does not fit into a record that waits for a person waits with it.
                (held.spill, left.carry) = (row.spill().cloned(), Vec::new());
                self.records.insert(key, held);
            } else if self.withholds(row.account) {
                self.withhold(key, fresh.clone());
            } else {
                self.customers_mut().fresh.insert(key, fresh.clone());
            }
            let took = fresh.rest.as_ref().map_or(&[][..], |rest| &rest.took);
            self.take_over(took, part.hour, finished);
        }
        if !left.is_nothing() {
            self.customers_mut().left.insert(place, left);
        }
    }

    /// The hours through this one are closed. Hours before `hour` are there only if damage took their seal.
    pub(in super::super) fn close_customers(&mut self, hour: Hour, through: Hour) {
        let Some(customers) = self.more.customers.as_deref_mut() else { return };
        customers.sealing = None;
        let after = customers.open.split_off(&(through.next(), AccountId(0), DimensionId(0)));
        for ((of, _, id), open) in std::mem::replace(&mut customers.open, after) {
            if let Some(dimension) = self.dimensions.get_mut(usize::from(id.0)).filter(|_| of < hour) {
                dimension.totals.sealed += open.usage();
                dimension.totals.lost += open.usage();
            }
        }
        let (fresh, waiting) = (&customers.fresh, self.more.register.as_ref().map(|register| register.waiting_map()));
        let any = |all: &BTreeMap<RecordKey, Fresh>, hour: Hour| {
            all.range(first_of(hour)..).next().is_some_and(|(key, _)| key.hour == hour)
        };
        customers.common.retain(|hour, _| any(fresh, *hour) || waiting.is_some_and(|waiting| any(waiting, *hour)));
    }
}

/// No record of `hour` comes before it.
fn first_of(hour: Hour) -> RecordKey {
    RecordKey { hour, dimension: DimensionId(0), generation: 0 }
}

/// Customers in the order of their numbers, and whether an hour is about each.
type Candidates<'s> = Box<dyn Iterator<Item = (AccountId, bool)> + 's>;

impl State {
    /// The customers from a number on that `hour` may be about, in order: not those for whom it is closed already.
    fn concerned(&self, hour: Hour, from: AccountId) -> impl Iterator<Item = AccountId> {
        let mut rows: Vec<Peekable<Candidates<'_>>> = Vec::new();
        if let Some(customers) = self.customers() {
            let last = (hour, AccountId::MAX, DimensionId(u16::MAX));
            let open = customers.open.range((hour, from, DimensionId(0))..=last).map(|(key, _)| (key.1, true));
            let level = |id: AccountId, left: &Left| left.kept.level.is_some() && !self.has_ended(id);
            let comes = move |id: AccountId, left: &Left| !left.carry.is_empty() || level(id, left);
            let left =
                customers.left.range((from, DimensionId(0))..).map(move |(key, left)| (key.0, comes(key.0, left)));
            rows.push((Box::new(open) as Candidates<'_>).peekable());
            rows.push((Box::new(left) as Candidates<'_>).peekable());
        }
        if let Some(register) = self.register().filter(|_| self.zero_records == ZeroRecords::All) {
            let reporters = register.reporters(from);
            rows.extend(reporters.map(|row| (Box::new(row.map(|id| (id, true))) as Candidates<'_>).peekable()));
        }
        // Not further ahead than asked for: most hand on something that waits for usage.
        let in_order = iter::from_fn(move || {
            loop {
                let next = rows.iter_mut().filter_map(|row| row.peek().map(|(id, _)| *id)).min()?;
                let mut is_concerned = false;
                for row in &mut rows {
                    while let Some((_, comes)) = row.next_if(|(id, _)| *id == next) {
                        is_concerned |= comes;
                    }
                }
                if is_concerned {
                    return Some(next);
                }
            }
        });
        in_order.filter(move |account| !self.has_closed(*account, hour))
    }

    /// Lays what a customer has in `hour`, and what its hours before that hand on, out on the desk. Of one that has ended
    /// no level goes on: what is not reported any more is not used.
    pub(super) fn lay(&self, desk: &mut State, account: AccountId, hour: Hour) {
        self.customers().into_iter().for_each(|customers| customers.lay(desk, account, hour));
        if self.has_ended(account) {
            desk.dimensions.iter_mut().for_each(|dimension| dimension.level = None);
        }
    }
}

impl Customers {
    /// Lays what a customer has in `hour` out on the desk, where nothing else lies.
    fn lay_open(&self, desk: &mut State, account: AccountId, hour: Hour) {
        for (id, dimension) in (0..).map(DimensionId).zip(&mut desk.dimensions) {
            dimension.open.clear();
            dimension.open.extend(self.open.get(&(hour, account, id)).map(|open| (hour, open.hour())));
        }
    }

    /// The same with what the customer's hours before it hand on.
    fn lay(&self, desk: &mut State, account: AccountId, hour: Hour) {
        self.lay_open(desk, account, hour);
        for (id, dimension) in (0..).map(DimensionId).zip(&mut desk.dimensions) {
            let left = self.left.get(&(account, id));
            let kept = left.map(|left| &left.kept);
            dimension.remainder = kept.map(|kept| Tagged::of(&kept.remainder)).unwrap_or_default();
            dimension.dust = kept.map(|kept| Tagged::of(&kept.dust)).unwrap_or_default();
            (dimension.level, dimension.used) = kept.map_or((None, None), |kept| (kept.level, kept.used));
            dimension.carry.clear();
            dimension.carry.extend(left.iter().flat_map(|left| left.carry.iter().cloned()));
        }
    }
}

/// A dimension's close as a customer's.
fn row(account: AccountId, hour: Hour, sealed: SealedDimension) -> SealedRow {
    let record = sealed.record.map(|mut record| {
        within_a_call(&mut record.request);
        Fresh::of(record)
    });
    let spill = sealed.spill.map(|mut spill| {
        spill.from = RecordKey::of_customer(account, hour, sealed.dimension);
        spill
    });
    let SealedDimension { dimension, usage, included, rounded, kept, .. } = sealed;
    SealedRow::new(account, dimension, record, RowMore { usage, included, rounded, kept, spill })
}

/// Shares that would make a call of this record alone too long are billed without their tags.
fn within_a_call(request: &mut Request) {
    if request.share_bytes() <= SHARES_BYTES_MAX {
        return;
    }
    let (mut bytes, mut plain) = (0, 0u32);
    request.allocations.retain(|share| {
        bytes += share_bytes(std::slice::from_ref(share));
        let stays = bytes <= SHARES_BYTES_MAX && !share.tags.is_empty();
        plain += if stays { 0 } else { share.quantity };
        stays
    });
    request.allocations.insert(0, Allocation { quantity: plain, tags: Tags::default() });
}

/// What a customer's hours come to is not known before they are closed, where a dimension is made of others.
pub(super) fn usage_on(desk: &State, hour: Hour) -> impl Iterator<Item = Amount> {
    desk.dimensions.iter().map(move |dimension| desk.hourly(dimension, hour).usage.total())
}
