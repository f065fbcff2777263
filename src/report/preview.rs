//! What the next seal would send, computed by the seal itself: the fold is asked to close the hour, on a copy.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::decimal::Amount;
use crate::entry::{Buyer, DimensionId, Entry, Hold, Kept, Record, RecordKey, Rules, SealedPart, SealedRow};
use crate::hour::Hour;
use crate::rollup::State;
use crate::rollup::state::RecordState;
use crate::rollup::tagged::TAG_SETS_MAX;
use crate::view::RecordView;

/// Most lines that a preview lists; the others are in its totals.
pub const LINES_MAX: usize = 1000;

/// The next seal.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The hour that is closed.
    pub hour: Hour,
    /// Whether the instance is not known yet: nothing is sealed before it is.
    pub nameless: bool,
    /// By dimension (and customer), the largest first where there are customers.
    pub lines: Vec<Line>,
    /// Lines that are in the totals only.
    pub left_out: u64,
    /// By dimension.
    pub totals: BTreeMap<String, Total>,
}

/// What a dimension's lines come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Total {
    /// Usage in the hour.
    pub usage: Amount,
    /// Billed units that go out.
    pub units: u64,
    /// Billed units that would wait for a person.
    pub held: u64,
    /// What the units that go out cost, where the price is configured.
    pub charge: Option<Amount>,
}

/// One dimension, of one customer.
#[derive(Debug, Clone)]
pub struct Line {
    /// The dimension.
    pub dimension: String,
    /// SaaS products: whose.
    pub buyer: Option<Buyer>,
    /// Measured so far.
    pub usage: Amount,
    /// Of it, what the base price covers.
    pub included: Amount,
    /// What is left of the included quantity; none where there is none.
    pub included_left: Option<Amount>,
    /// Added by rounding (or, negative, taken away).
    pub rounded: Amount,
    /// Left for the next hour.
    pub remainder: Amount,
    /// The record, if one would be sealed.
    pub record: Option<Record>,
    /// Units that do not fit into it, and go into the next one.
    pub spilled: i64,
    /// Price of a billed unit.
    pub price: Option<Amount>,
}

impl Line {
    /// Billed units in the record.
    pub fn units(&self) -> u32 {
        self.record.as_ref().map_or(0, |record| record.request.quantity)
    }

    /// Why it would wait for a person, if it would.
    pub fn hold(&self) -> Option<String> {
        self.record.as_ref()?.hold.map(|hold| match hold {
            Hold::Above(ceiling) => format!("above {ceiling}"),
            Hold::Damaged => "damaged".to_owned(),
        })
    }

    /// What the record costs.
    pub fn charge(&self) -> Option<Amount> {
        self.price?.times(i64::from(self.units()))
    }

    /// Whether it has as many tag sets as an hour can have: usage under further ones is billed without tags.
    pub fn tags_are_full(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.request.allocations.len() >= TAG_SETS_MAX)
    }
}

/// Asks what the next seal would send. `prices`: of a billed unit, by dimension.
pub fn preview(state: &State, prices: &BTreeMap<String, Amount>) -> Preview {
    let mut copy = state.together().into_owned();
    let nameless = state.name().is_none();
    // It is part of the request, not of what is billed.
    copy.instance.get_or_insert_with(|| "unknown".to_owned());
    let last = last_open(&copy).unwrap_or(copy.open_from);
    let mut preview =
        Preview { hour: copy.open_from, nameless, lines: Vec::new(), left_out: 0, totals: BTreeMap::new() };
    // Hours are sealed in order, and in one with nothing in it nothing changes.
    loop {
        let hour = preview.hour;
        while let Some(part) = copy.seal_part(hour, hour.end(), None) {
            part.rows.iter().for_each(|row| preview.add(customers_line(&copy, &part, row), prices));
            copy.apply(&Entry::SealedPart(part));
        }
        let seal = copy.seal(hour, hour, hour.end());
        for sealed in seal.iter().flat_map(|seal| &seal.dimensions) {
            let line = Line {
                record: sealed.record.clone(),
                spilled: sealed.spill.iter().flat_map(|spill| &spill.units).map(|(_, n)| n).sum(),
                ..line(&copy, hour, sealed.dimension, (sealed.usage, sealed.included, sealed.rounded), &sealed.kept)
            };
            preview.add(line, prices);
        }
        if !preview.totals.is_empty() || hour >= last {
            break;
        }
        preview.hour = hour.next();
    }
    preview
}

fn last_open(state: &State) -> Option<Hour> {
    let customers = state.customers().and_then(|customers| customers.open_hours()).map(|(_, last)| last);
    state.dimensions.iter().flat_map(|d| d.open.keys().copied()).chain(customers).max()
}

fn rules(state: &State, id: DimensionId, hour: Hour) -> Option<&Rules> {
    state.dimension(id).map(|dimension| dimension.rules_for(hour))
}

fn line(
    state: &State,
    hour: Hour,
    id: DimensionId,
    (usage, included, rounded): (Amount, Amount, Amount),
    kept: &Kept,
) -> Line {
    let rules = rules(state, id, hour);
    let used = kept.used.map_or(Amount::ZERO, |used| used.amount);
    let covers = rules.and_then(|rules| rules.included.as_ref());
    Line {
        dimension: rules.map(|rules| rules.name.clone()).unwrap_or_default(),
        buyer: None,
        usage,
        included,
        included_left: covers.map(|included| (included.quantity - used).max(Amount::ZERO)),
        rounded,
        remainder: kept.remainder.iter().map(|(_, amount)| *amount).sum(),
        record: None,
        spilled: 0,
        price: None,
    }
}

fn customers_line(state: &State, part: &SealedPart, row: &SealedRow) -> Line {
    let buyer = state.customers().map(|customers| customers.buyer(row.account, part.hour)).unwrap_or_default();
    let key = RecordKey::of_customer(row.account, part.hour, row.dimension);
    let name = rules(state, row.dimension, part.hour).map_or("", |rules| &rules.name);
    Line {
        record: row.record.as_ref().map(|fresh| fresh.record(key, name, &part.common, &buyer)),
        spilled: row.spill().into_iter().flat_map(|spill| &spill.units).map(|(_, n)| n).sum(),
        buyer: Some(buyer),
        ..line(state, part.hour, row.dimension, (row.usage(), row.included(), row.rounded()), &row.kept())
    }
}

impl Preview {
    fn add(&mut self, line: Line, prices: &BTreeMap<String, Amount>) {
        let line = Line { price: prices.get(&line.dimension).copied(), ..line };
        let total = self.totals.entry(line.dimension.clone()).or_default();
        total.usage += line.usage;
        let units = u64::from(line.units());
        if line.hold().is_some() {
            total.held += units;
        } else {
            total.units += units;
        }
        if line.price.is_some() {
            let charge = line.charge().filter(|_| line.hold().is_none()).unwrap_or_default();
            *total.charge.get_or_insert_default() += charge;
        }
        self.lines.push(line);
        // Twice as many before they are sorted out, so that it is not done for each.
        if self.lines.len() >= 2 * LINES_MAX {
            self.lines.sort_by_key(|line| std::cmp::Reverse(line.units()));
            self.left_out += (self.lines.len() - LINES_MAX) as u64;
            self.lines.truncate(LINES_MAX);
        }
    }

    /// What all that goes out costs, where any price is configured.
    pub fn charge(&self) -> Option<Amount> {
        let charges: Vec<Amount> = self.totals.values().filter_map(|total| total.charge).collect();
        (!charges.is_empty()).then(|| charges.into_iter().sum())
    }

    /// For programs: amounts are decimals in strings.
    pub fn json(&self) -> Value {
        let text = |amount: Option<Amount>| amount.map(|amount| amount.to_string());
        let lines = self.lines.iter().map(|line| {
            let view = line.record.clone().map(|record| RecordView::from(&RecordState::sealed(record)));
            json!({
                "dimension": line.dimension,
                "customer": line.buyer.as_ref().map(Buyer::customer_id),
                "license": line.buyer.as_ref().and_then(|buyer| buyer.license.clone()),
                "usage": line.usage.to_string(),
                "late": view.as_ref().map_or("0", |view| &view.late),
                "carried_in": view.as_ref().map_or("0", |view| &view.carried_in),
                "remainder_in": view.as_ref().map(|view| &view.remainder_in),
                "included": line.included.to_string(),
                "included_left": text(line.included_left),
                "rounded": line.rounded.to_string(),
                "remainder": line.remainder.to_string(),
                "quantity": view.as_ref().map(|view| view.quantity),
                "allocations": view.as_ref().map(|view| &view.allocations),
                "hold": line.hold(),
                "spilled": line.spilled,
                "tags_are_full": line.tags_are_full(),
                "price": text(line.price),
                "charge": text(line.charge()),
            })
        });
        let totals = self.totals.iter().map(|(dimension, total)| {
            json!({ "dimension": dimension, "usage": total.usage.to_string(), "units": total.units,
                    "held_units": total.held, "charge": text(total.charge) })
        });
        json!({
            "hour": self.hour.to_string(),
            "instance_known": !self.nameless,
            "lines": lines.collect::<Vec<_>>(),
            "lines_left_out": self.left_out,
            "totals": totals.collect::<Vec<_>>(),
            "charge": text(self.charge()),
        })
    }
}
