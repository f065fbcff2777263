//! What this log says AWS has, held against what AWS's own books show: CloudTrail, hour by hour ([`trail`], [`event`],
//! [`Trail`]), and the seller's usage reports, day by day ([`report`]).
//!
//! Whose an event is. Several instances of one buyer write into one trail, and CloudTrail names the caller by its session:
//! an instance that uses its profile's role calls under its own instance id. An event is ours if and only if
//!
//! 1. AWS's record id in it is one that this log holds, or
//! 2. its caller is this instance, is one that was named, or has called in an event that 1 says is ours, or
//! 3. it names a customer, and this log has a record of that customer, licence, dimension and hour (AWS tells customers'
//!    records apart by these, whoever sends them).
//!
//! What another EC2 instance took is counted and not judged. What remains is *unattributed*: a session that tells no instance
//! and none of whose record ids is known here (a task's, a user's). Nobody can tell from the trail whose that is; naming the
//! session makes it ours.
//!
//! What is compared: the billed units of every record that AWS accepted. An attempt that AWS refused, a dry run, and a call
//! that AWS answered with a record that it had already change nothing there, and are only counted.

pub mod event;
pub mod report;
pub mod trail;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::hour::{Hour, Timestamp};
use crate::view::RecordView;
use event::{Call, Said, Taken};

/// The largest quantity of a record at AWS.
const QUANTITY_MAX: u32 = 2_147_483_647;

/// What AWS tells records apart by, of one product and instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// The hour.
    pub hour: Hour,
    /// The dimension.
    pub dimension: String,
    /// SaaS products: the account.
    pub customer: Option<String>,
    /// SaaS products: the licence, where one was sent.
    pub license: Option<String>,
}

/// The hours that are compared: from one on, to before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The first.
    pub from: Hour,
    /// The first that is no longer.
    pub to: Hour,
}

impl Period {
    /// Whether an hour lies in it.
    pub fn has(&self, hour: Hour) -> bool {
        self.from <= hour && hour < self.to
    }
}

/// One of our records.
#[derive(Debug, Clone)]
struct Own {
    state: String,
    quantity: u32,
    record_id: Option<String>,
}

impl Own {
    fn is_accepted(&self) -> bool {
        self.state == "accepted"
    }
}

/// What this log holds.
#[derive(Debug, Default)]
pub struct Ours {
    records: BTreeMap<Bucket, Own>,
    ids: HashMap<String, Bucket>,
}

impl Ours {
    /// From `records --json`. Where a record was fixed anew the one that AWS accepted counts, else the last.
    ///
    /// # Errors
    /// A sentence, if an hour cannot be read.
    pub fn new(records: &[RecordView]) -> Result<Ours, String> {
        let mut ours = Ours::default();
        for record in records {
            let hour =
                Timestamp::parse(&record.hour).ok_or_else(|| format!("a record of the hour {:?}", record.hour))?;
            let bucket = Bucket {
                hour: hour.hour(),
                dimension: record.dimension.clone(),
                customer: record.customer.clone(),
                license: record.license.clone(),
            };
            let own = Own {
                state: record.state.clone(),
                quantity: record.quantity,
                record_id: record.metering_record_id.clone(),
            };
            if let Some(id) = &own.record_id {
                ours.ids.insert(id.clone(), bucket.clone());
            }
            if ours.records.get(&bucket).is_none_or(|known| !known.is_accepted()) {
                ours.records.insert(bucket, own);
            }
        }
        Ok(ours)
    }
}

/// What a comparison found about one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Both say the same.
    Matched,
    /// AWS accepted it, says this log; the trail does not show it.
    MissingAtAws,
    /// AWS has it, and this log does not count it as accepted.
    UnknownToUs,
    /// Both have it, with other units.
    DifferentQuantity,
    /// It is still on its way here: either may be right.
    Pending,
}

/// One record, from both sides.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The hour.
    #[serde(serialize_with = "as_text")]
    pub hour: Hour,
    /// The dimension.
    pub dimension: String,
    /// SaaS products: the account.
    pub customer: Option<String>,
    /// SaaS products: the licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What was found.
    pub result: Found,
    /// Billed units that AWS accepted, says this log.
    pub ours: Option<u32>,
    /// Billed units that AWS has, says the trail.
    pub aws: Option<u32>,
    /// What became of it here.
    pub state: Option<String>,
    /// AWS's id, as either side has it.
    pub metering_record_id: Option<String>,
}

/// What came of a trail.
#[derive(Debug, Default, Serialize)]
pub struct Comparison {
    /// The first hour that was compared.
    pub from: Option<String>,
    /// The first that was not any more.
    pub to: Option<String>,
    /// Events of the Metering Service, each counted once.
    pub events: u64,
    /// The newest of them.
    pub newest_event: Option<String>,
    /// Records of which both say the same.
    pub matched: u64,
    /// See [`Found::MissingAtAws`].
    pub missing_at_aws: u64,
    /// See [`Found::UnknownToUs`].
    pub unknown_to_us: u64,
    /// See [`Found::DifferentQuantity`].
    pub different_quantity: u64,
    /// See [`Found::Pending`].
    pub pending: u64,
    /// Billed units by dimension: accepted, says this log, and at AWS, says the trail.
    pub units: BTreeMap<String, Units>,
    /// Calls that AWS answered with a record that it had.
    pub repeated: u64,
    /// Dry runs.
    pub dry_runs: u64,
    /// What AWS did not take, by its word for it.
    pub refused: BTreeMap<String, u64>,
    /// Records that AWS left for another call.
    pub unprocessed: u64,
    /// Records of other products.
    pub other_products: u64,
    /// Records at AWS outside the hours that were compared.
    pub outside: u64,
    /// Records that other instances sent, by instance.
    pub other_instances: BTreeMap<String, u64>,
    /// Records of callers of which nobody can tell which instance they are, by caller.
    pub unattributed: BTreeMap<String, u64>,
    /// Answers that cannot be read, by what is wrong with them.
    pub unreadable: BTreeMap<String, u64>,
    /// Every record, by hour, dimension and customer.
    pub rows: Vec<Row>,
}

/// Billed units from both sides.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Units {
    /// Accepted, says this log.
    pub ours: u64,
    /// There, says AWS.
    pub aws: u64,
}

impl Comparison {
    /// Whether the two books differ, or cannot be compared in full.
    pub fn differs(&self) -> bool {
        self.missing_at_aws + self.unknown_to_us + self.different_quantity > 0 || !self.unreadable.is_empty()
    }
}

/// Whose events count.
#[derive(Debug, Default)]
pub struct Whose {
    /// Instances and sessions that are this log's.
    pub callers: BTreeSet<String>,
    /// The product; none: any.
    pub product: Option<String>,
    /// The hours to compare; none: from the first to the last that the trail shows of ours.
    pub period: Option<Period>,
}

/// A record as the trail shows it.
#[derive(Debug)]
struct Shown {
    quantity: u32,
    record_id: Option<String>,
}

/// A trail, met and then taken in event by event. Memory: our records, once each, and the events' ids.
pub struct Trail<'a> {
    ours: &'a Ours,
    whose: Whose,
    shown: BTreeMap<Bucket, Vec<Shown>>,
    seen: HashSet<String>,
    newest: Option<Timestamp>,
    result: Comparison,
}

impl<'a> Trail<'a> {
    /// Nothing so far.
    pub fn new(ours: &'a Ours, whose: Whose) -> Trail<'a> {
        let (shown, seen) = (BTreeMap::new(), HashSet::new());
        Trail { ours, whose, shown, seen, newest: None, result: Comparison::default() }
    }

    /// Takes an event in.
    pub fn take(&mut self, call: Call) {
        // A trail delivers at least once, and what was looked up twice overlaps.
        if call.id.as_ref().is_some_and(|id| !self.seen.insert(id.clone())) {
            return;
        }
        self.result.events += 1;
        self.newest = self.newest.max(call.at);
        let other = self.whose.product.as_ref().zip(call.product.as_ref()).is_some_and(|(ours, its)| ours != its);
        for said in call.said {
            match said {
                Said::DryRun => self.result.dry_runs += 1,
                Said::Refused(code) => *self.result.refused.entry(code).or_default() += 1,
                Said::Unprocessed => self.result.unprocessed += 1,
                Said::Unreadable(why) => *self.result.unreadable.entry(why).or_default() += 1,
                Said::Taken(_) if other => self.result.other_products += 1,
                Said::Taken(taken) => self.taken(taken, &call.caller),
            }
        }
    }

    /// Learns from an event whether its caller is ours. Every event is met before the first is taken in: what says whose a
    /// session is may come last.
    pub fn meet(&mut self, call: &Call) {
        let is_ours = |said: &Said| match said {
            Said::Taken(taken) => taken.record_id.as_ref().is_some_and(|id| self.ours.ids.contains_key(id)),
            _ => false,
        };
        if !self.whose.callers.contains(&call.caller) && call.said.iter().any(is_ours) {
            self.whose.callers.insert(call.caller.clone());
        }
    }

    fn taken(&mut self, taken: Taken, caller: &str) {
        let Taken { bucket, quantity, record_id } = taken;
        let of_customer = bucket.customer.is_some() && self.ours.records.contains_key(&bucket);
        if !self.whose.callers.contains(caller) && !of_customer {
            let Comparison { other_instances, unattributed, .. } = &mut self.result;
            let theirs = if is_ec2_instance(caller) { other_instances } else { unattributed };
            *theirs.entry(caller.to_owned()).or_default() += 1;
            return;
        }
        if self.whose.period.is_some_and(|period| !period.has(bucket.hour)) {
            self.result.outside += 1;
            return;
        }
        let there = self.shown.entry(bucket).or_default();
        let one = |known: &Option<String>| known.is_none() || record_id.is_none() || *known == record_id;
        if there.iter().any(|known| known.quantity == quantity && one(&known.record_id)) {
            self.result.repeated += 1;
        } else {
            there.push(Shown { quantity, record_id });
        }
    }

    /// What it comes to.
    pub fn finish(mut self) -> Comparison {
        let mut at_aws = std::mem::take(&mut self.shown);
        let hours = at_aws.first_key_value().zip(at_aws.last_key_value());
        let period = self
            .whose
            .period
            .or(hours.map(|((first, _), (last, _))| Period { from: first.hour, to: last.hour.next() }));
        let in_period = |bucket: &Bucket| period.is_none_or(|period| period.has(bucket.hour));
        for (bucket, own) in self.ours.records.iter().filter(|(bucket, _)| in_period(bucket)) {
            self.result.judge(bucket, Some(own), at_aws.remove(bucket).unwrap_or_default());
        }
        for (bucket, shown) in at_aws {
            self.result.judge(&bucket, None, shown);
        }
        self.result.rows.sort_by(|a, b| {
            (a.hour, &a.dimension, &a.customer, &a.license).cmp(&(b.hour, &b.dimension, &b.customer, &b.license))
        });
        self.result.from = period.map(|period| period.from.to_string());
        self.result.to = period.map(|period| period.to.to_string());
        self.result.newest_event = self.newest.map(|at| at.to_string());
        self.result
    }
}

impl Comparison {
    /// Compares one of ours, or none, with all that AWS has there.
    fn judge(&mut self, bucket: &Bucket, own: Option<&Own>, mut shown: Vec<Shown>) {
        if let Some(own) = own {
            // The one with our id is ours, or one of which either side does not know it; another one somebody else sent.
            let same = shown.iter().position(|shown| shown.record_id.is_some() && shown.record_id == own.record_id);
            let unnamed = || shown.iter().position(|shown| shown.record_id.is_none() || own.record_id.is_none());
            let aws = same.or_else(unnamed).map(|at| shown.remove(at));
            let ours = own.is_accepted().then_some(own.quantity);
            let found = match (ours, &aws) {
                (Some(ours), Some(aws)) if ours == aws.quantity => Some(Found::Matched),
                (Some(_), Some(_)) => Some(Found::DifferentQuantity),
                (Some(_), None) => Some(Found::MissingAtAws),
                // It cannot become another one any more.
                (None, Some(aws)) if own.state == "pending" && aws.quantity != own.quantity => {
                    Some(Found::DifferentQuantity)
                }
                (None, _) if own.state == "pending" => Some(Found::Pending),
                (None, Some(_)) => Some(Found::UnknownToUs),
                // Neither counts it.
                (None, None) => None,
            };
            if let Some(found) = found {
                let id = own.record_id.clone().or_else(|| aws.as_ref().and_then(|aws| aws.record_id.clone()));
                self.row(bucket, found, ours, aws.map(|aws| aws.quantity), Some(own.state.clone()), id);
            }
        }
        for more in shown {
            self.row(bucket, Found::UnknownToUs, None, Some(more.quantity), None, more.record_id);
        }
    }

    fn row(
        &mut self,
        bucket: &Bucket,
        result: Found,
        ours: Option<u32>,
        aws: Option<u32>,
        state: Option<String>,
        metering_record_id: Option<String>,
    ) {
        *match result {
            Found::Matched => &mut self.matched,
            Found::MissingAtAws => &mut self.missing_at_aws,
            Found::UnknownToUs => &mut self.unknown_to_us,
            Found::DifferentQuantity => &mut self.different_quantity,
            Found::Pending => &mut self.pending,
        } += 1;
        let units = self.units.entry(bucket.dimension.clone()).or_default();
        units.ours += u64::from(ours.unwrap_or(0));
        units.aws += u64::from(aws.unwrap_or(0));
        let Bucket { hour, dimension, customer, license } = bucket.clone();
        self.rows.push(Row { hour, dimension, customer, license, result, ours, aws, state, metering_record_id });
    }
}

/// `i-` and 8 or 17 hexadecimal digits.
fn is_ec2_instance(caller: &str) -> bool {
    let digits = caller.strip_prefix("i-").unwrap_or("");
    matches!(digits.len(), 8 | 17) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

fn as_text<T: std::fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
