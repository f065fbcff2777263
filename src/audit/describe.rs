//! One entry of the log in the product's words, for people and as JSON.

use serde_json::{Value, json};

use super::describe_customers;
use crate::decimal::Amount;
use crate::entry::{
    self, DimensionId, Disposed, Entry, Fate, Increment, Peer, Record, RecordKey, Run, Seal, Trust, Usage, Verdict,
    kind,
};
use crate::hour::{Hour, Timestamp};
use crate::rollup::state::RecordState;
use crate::rollup::{Checkpoint, State};
use crate::wal::log::kind as log_kind;
use crate::wal::report::Gap;

/// The kinds of entries by name.
pub const KINDS: &[(&str, u8)] = &[
    ("usage", kind::USAGE),
    ("setup", kind::SETUP),
    ("seal", kind::SEAL),
    ("attempt", kind::ATTEMPT),
    ("answered", kind::ANSWERED),
    ("closed", kind::CLOSED),
    ("checkpoint", kind::CHECKPOINT),
    ("settled", kind::SETTLED),
    ("started", kind::STARTED),
    ("alive", kind::ALIVE),
    ("clock", kind::CLOCK),
    ("released", kind::RELEASED),
    ("echo", kind::ECHO),
    ("damaged", kind::DAMAGED),
    ("fixed-anew", kind::FIXED_ANEW),
    ("parted", kind::PARTED),
    ("named", kind::NAMED),
    ("disposed", kind::DISPOSED),
    ("end", kind::END),
    ("called-off", kind::CALLED_OFF),
    ("customers", kind::ACCOUNTS),
    ("sealed-part", kind::SEALED_PART),
    ("batch-attempt", kind::BATCH_ATTEMPT),
    ("batch-answered", kind::BATCH_ANSWERED),
    ("registered", kind::REGISTERED),
    ("customer-ended", kind::CUSTOMER_ENDED),
    ("register-rule", kind::REGISTER_RULE),
    ("archived", kind::ARCHIVED),
    ("stop", log_kind::CLEAN_STOP),
    ("gap", log_kind::GAP),
    ("idle", log_kind::IDLE),
    ("retired", log_kind::RETIRED),
];

/// A kind's name.
pub fn kind_name(number: u8) -> &'static str {
    KINDS.iter().find(|(_, n)| *n == number).map_or("unknown", |(name, _)| name)
}

/// The dimensions' names, as the entries so far have told them.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<String>);

impl Names {
    pub(super) fn of(&self, id: DimensionId) -> String {
        self.0.get(usize::from(id.0)).cloned().unwrap_or_else(|| format!("dimension number {}", id.0))
    }

    pub(super) fn key(&self, key: &RecordKey) -> String {
        let whose = key.account().map_or_else(String::new, |account| format!(" of customer number {}", account.0));
        format!("{} {}{whose}", self.of(key.dimension), key.hour)
    }

    fn learn(&mut self, id: DimensionId, name: &str) {
        let at = usize::from(id.0);
        if at >= self.0.len() {
            self.0.resize(at + 1, String::new());
        }
        if let Some(place) = self.0.get_mut(at) {
            name.clone_into(place);
        }
    }
}

/// An entry: a line for people, and its fields.
#[derive(Debug, Clone)]
pub struct Described {
    /// One line.
    pub text: String,
    /// Its fields.
    pub fields: Value,
}

pub(super) fn describe_as(text: impl Into<String>, fields: Value) -> Described {
    Described { text: text.into(), fields }
}

/// Says what an entry holds; an error says why it cannot be read.
pub fn describe(number: u8, payload: &[u8], names: &mut Names) -> Result<Described, String> {
    let time = |at: usize| {
        let bytes = payload.get(at..).and_then(|rest| rest.first_chunk::<8>());
        bytes.map(|b| Timestamp::from_millis(i64::from_le_bytes(*b)).to_string())
    };
    match number {
        kind::CHECKPOINT => Ok(checkpoint(&Checkpoint::decode(payload).map_err(|e| e.to_string())?.state, names)),
        kind::ARCHIVED => Ok(archived(&entry::decode(payload).map_err(|e| e.to_string())?)),
        log_kind::CLEAN_STOP => Ok(describe_as("the agent stopped in order", json!({ "at": time(0) }))),
        log_kind::IDLE => Ok(describe_as("nothing came for a second", json!({ "at": time(0) }))),
        log_kind::RETIRED => {
            let first = payload.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
            let text = format!("segments before {first} are archived and may be gone");
            Ok(describe_as(text, json!({ "first_kept": first, "at": time(8) })))
        }
        log_kind::GAP => {
            let gap = Gap::decode(payload).ok_or("not as long as a gap is")?;
            let (from, to) = (gap.span.from, gap.span.to);
            let text =
                format!("damage found: segment {}, bytes {from} to {to}, frames from {}", gap.segment, gap.first_lost);
            let fields = json!({ "segment": gap.segment, "from": from, "to": to, "first_lost": gap.first_lost,
                                 "next_seq": gap.next_seq });
            Ok(describe_as(text, fields))
        }
        _ => Ok(fact(&Entry::decode(number, payload).map_err(|e| e.to_string())?, names)),
    }
}

fn fact(entry: &Entry, names: &mut Names) -> Described {
    match entry {
        Entry::Usage(usage) => described_usage(usage, names),
        Entry::Setup(setup) => {
            setup.dimensions.iter().for_each(|(id, rules)| names.learn(*id, &rules.name));
            let dimensions: Vec<&str> = setup.dimensions.iter().map(|(_, rules)| rules.name.as_str()).collect();
            let instance = setup.instance.as_deref().unwrap_or("not known yet");
            let text =
                format!("product {}, instance {instance}, dimensions {}", setup.product_code, dimensions.join(", "));
            let rules = |(_, rules): &(DimensionId, entry::Rules)| json!({ "name": rules.name, "measure": rules.measure, "unit": rules.unit.to_string() });
            let dimensions: Vec<Value> = setup.dimensions.iter().map(rules).collect();
            let fields = json!({ "at": setup.at.to_string(), "product_code": setup.product_code,
                                 "instance": setup.instance, "window_ms": setup.window_ms, "dimensions": dimensions });
            describe_as(text, fields)
        }
        Entry::Seal(seal) => described_seal(seal, names),
        Entry::Accounts(accounts) => describe_customers::accounts(accounts),
        Entry::SealedPart(part) => describe_customers::sealed_part(part, names),
        Entry::BatchAttempt(attempt) => describe_customers::batch_attempt(attempt, names),
        Entry::BatchAnswered(answered) => describe_customers::batch_answered(answered, names),
        Entry::Registered(registered) => describe_customers::registered(registered),
        Entry::CustomerEnded(ended) => describe_customers::customer_ended(ended, names),
        Entry::RegisterRule(rule) => describe_customers::register_rule(rule),
        Entry::Attempt(attempt) => describe_as(
            format!("{}: a request is about to leave", names.key(&attempt.key)),
            of_record(&attempt.key, attempt.at, names, json!({})),
        ),
        Entry::Answered(answered) => {
            let verdict = verdict(&answered.verdict);
            let text = format!("{}: {verdict}; {}", names.key(&answered.key), answered.message);
            let id = match &answered.verdict {
                Verdict::Accepted { metering_record_id } => Some(metering_record_id),
                _ => None,
            };
            let more = json!({ "verdict": verdict, "message": answered.message, "request_id": answered.request_id,
                               "metering_record_id": id });
            describe_as(text, of_record(&answered.key, answered.at, names, more))
        }
        Entry::Closed(closed) => {
            let ending = format!("{:?}", closed.ending).to_lowercase();
            let text = format!("{}: its window has passed, {ending}", names.key(&closed.key));
            describe_as(text, of_record(&closed.key, closed.at, names, json!({ "ending": ending })))
        }
        Entry::Started(started) => {
            let at = started.reading.at.to_string();
            let boot = started.reading.boot.map(|id| format!("{:032x}", u128::from_be_bytes(id)));
            describe_as(format!("the agent started at {at}"), json!({ "at": at, "boot": boot }))
        }
        Entry::Alive(alive) => {
            let (at, ms) = (alive.reading.at.to_string(), alive.ran.iter().map(|(_, ms)| ms).sum::<u64>());
            let hours: Vec<Value> =
                alive.ran.iter().map(|(hour, ms)| json!({ "hour": hour.to_string(), "ms": ms })).collect();
            let fields = json!({ "at": at, "ran": hours, "stopping": alive.stopping });
            describe_as(format!("running at {at}, {} s more", ms / 1000), fields)
        }
        Entry::Clock(seen) => {
            let at = seen.reading.at.to_string();
            match seen.trust {
                Trust::Doubted { expected, .. } => describe_as(
                    format!("the clock says {at} and should say {expected}: it is not believed"),
                    json!({ "at": at, "believed": false, "expected": expected.to_string() }),
                ),
                Trust::Confirmed => {
                    describe_as(format!("the clock is believed at {at}"), json!({ "at": at, "believed": true }))
                }
            }
        }
        Entry::FixedAnew(fixed) => {
            let key = &fixed.record.key;
            let text = format!("{}: fixed anew under product {}", names.key(key), fixed.record.request.product_code);
            describe_as(text, of_record(key, fixed.at, names, json!({ "record": record_fields(&fixed.record) })))
        }
        Entry::Parted(parted) => {
            let at = parted.reading.at.to_string();
            describe_as("what is open up to here may be another instance's", json!({ "at": at }))
        }
        Entry::Named(named) => {
            let text = format!("this is instance {}, with hours of its own from {}", named.instance, named.open_from);
            let fields = json!({ "at": named.at.to_string(), "instance": named.instance,
                                 "open_from": named.open_from.to_string() });
            describe_as(text, fields)
        }
        Entry::Disposed(disposed) => described_fate(disposed, names),
        Entry::End(end) => {
            let (at, by) = (end.at.to_string(), end.by.map_or_else(announced, |by| format!("uid {}", by.uid)));
            let fields = json!({ "at": at, "by": end.by.map(peer), "why": end.why });
            describe_as(format!("this instance ends ({}), says {by}", end.why), fields)
        }
        Entry::CalledOff(off) => {
            let (at, by) = (off.at.to_string(), off.by.map_or_else(announced, |by| format!("uid {}", by.uid)));
            describe_as(format!("the end is called off, says {by}"), json!({ "at": at, "by": off.by.map(peer) }))
        }
        Entry::Echo(echo) => {
            let seqs: Vec<u64> = echo.entries.iter().map(|e| e.seq).collect();
            let text = format!("{} entries once more, all but usage behind frame {}", seqs.len(), echo.after);
            describe_as(text, json!({ "after": echo.after, "entries": seqs }))
        }
        Entry::Damaged(damaged) => {
            let (at, through) = (damaged.at.to_string(), damaged.through.to_string());
            let records: Vec<String> = damaged.records.iter().map(|key| names.key(key)).collect();
            let text = format!("entries are lost for good: hours through {through} are held");
            describe_as(text, json!({ "at": at, "through": through, "records": records }))
        }
        Entry::Released(released) => {
            let (by, capped) = (released.by.uid, released.capped.as_ref().map(|record| record.request.quantity));
            let how = capped.map_or_else(String::new, |quantity| format!(" with {quantity} units"));
            let text = format!("{}: uid {by} let it go{how}", names.key(&released.key));
            let more = json!({ "by": peer(released.by), "capped": capped, "carried": released.carried });
            describe_as(text, of_record(&released.key, released.at, names, more))
        }
        Entry::Settled(settled) => {
            let decision = format!("{:?}", settled.decision).to_lowercase();
            let text = format!("{}: uid {} decided {decision}", names.key(&settled.key), settled.by.uid);
            let more = json!({ "decision": decision, "by": peer(settled.by) });
            describe_as(text, of_record(&settled.key, settled.at, names, more))
        }
    }
}

fn described_fate(disposed: &Disposed, names: &Names) -> Described {
    let Disposed { at, by, instance, fate } = disposed;
    let mut fields = json!({ "at": at.to_string(), "by": peer(*by), "instance": instance });
    let (how, more) = match fate {
        Fate::Adopted { seals, carried, open } => {
            let records: Vec<String> = carried.iter().map(|key| names.key(key)).collect();
            let hours: Vec<Value> = seals.iter().map(|seal| described_seal(seal, names).fields).collect();
            ("adopted", json!({ "fate": "adopted", "carried": records, "closed": hours, "open_hours": open }))
        }
        Fate::Discarded { open } => {
            let amount = |(id, amount): &(DimensionId, Amount)| (names.of(*id), json!(amount.to_string()));
            let open: serde_json::Map<_, _> = open.iter().map(amount).collect();
            ("discarded", json!({ "fate": "discarded", "open_hours": open }))
        }
    };
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
    describe_as(format!("uid {}: what {instance} left unsent is {how}", by.uid), fields)
}

fn announced() -> String {
    "instance metadata".to_owned()
}

pub(super) fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted { .. } => "accepted",
        Verdict::NotTaken => "not taken",
        Verdict::Blocked => "blocked",
        Verdict::Ambiguous => "no answer that tells",
        Verdict::Conflict => "conflict",
        Verdict::OutOfBounds { window_passed: true } => "too old",
        Verdict::OutOfBounds { window_passed: false } => "out of bounds",
        Verdict::Refused => "refused",
    }
}

fn peer(peer: Peer) -> Value {
    json!({ "uid": peer.uid, "gid": peer.gid, "pid": peer.pid })
}

/// The fields that name a record, and `more`.
fn of_record(key: &RecordKey, at: Timestamp, names: &Names, more: Value) -> Value {
    let mut fields = json!({ "dimension": names.of(key.dimension), "hour": key.hour.to_string(),
                             "generation": key.times_fixed(), "at": at.to_string() });
    if let Some(account) = key.account() {
        fields["customer_number"] = json!(account.0);
    }
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
    fields
}

fn quantity(millionths: u64) -> String {
    Amount::from_millionths(i128::from(millionths)).to_string()
}

fn described_usage(usage: &Usage, names: &Names) -> Described {
    let mut increments = Vec::new();
    let mut said = Vec::new();
    let mut seq = usage.first_seq;
    let plain = |seq: u64, dimension: DimensionId, hour: Hour, q: u64| json!({ "seq": seq, "dimension": names.of(dimension), "hour": hour.to_string(), "quantity": quantity(q) });
    for run in &usage.runs {
        match run {
            Run::Plain { hour, items } => {
                for group in items.chunk_by(|(a, _), (b, _)| a == b) {
                    let sum: i128 = group.iter().map(|(_, q)| i128::from(*q)).sum();
                    let Some((dimension, _)) = group.first() else { continue };
                    let (name, sum) = (names.of(*dimension), Amount::from_millionths(sum));
                    said.push(format!("{} of {name}, together {sum}, in {hour}", group.len()));
                }
                for (dimension, q) in items {
                    increments.push(plain(seq, *dimension, *hour, *q));
                    seq += 1;
                }
            }
            Run::Customers { hour, items } => {
                let sum: i128 = items.iter().map(|(_, _, q)| i128::from(*q)).sum();
                let sum = Amount::from_millionths(sum);
                said.push(format!("{} of customers, together {sum}, in {hour}", items.len()));
                for (account, dimension, q) in items {
                    let mut fields = plain(seq, *dimension, *hour, *q);
                    fields["customer_number"] = json!(account.0);
                    increments.push(fields);
                    seq += 1;
                }
            }
            Run::Full(i) | Run::Customer(_, i) => {
                said.push(full_text(i, names));
                let mut fields = plain(seq, i.dimension, i.hour, i.quantity);
                if let Run::Customer(account, _) = run {
                    fields["customer_number"] = json!(account.0);
                }
                let tags: serde_json::Map<_, _> = i.tags.iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
                let more = [
                    ("late", json!(i.late)),
                    ("at", json!(i.at.map(|at| at.to_string()))),
                    ("key", json!(i.key)),
                    ("id", json!(i.id)),
                    ("tags", Value::Object(tags)),
                ];
                if let Some(fields) = fields.as_object_mut() {
                    fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
                }
                increments.push(fields);
                seq += 1;
            }
        }
    }
    let last = (usage.first_seq + usage.count()).saturating_sub(1);
    let Peer { uid, gid, pid } = usage.peer;
    let (first, said) = (usage.first_seq, said.join("; "));
    let text = format!("increments {first} to {last} by uid {uid}, gid {gid}, pid {pid}: {said}");
    let fields = json!({ "received": usage.received.to_string(), "by": peer(usage.peer), "increments": increments });
    describe_as(text, fields)
}

fn full_text(i: &Increment, names: &Names) -> String {
    let mut text = format!("{} {} in {}", names.of(i.dimension), quantity(i.quantity), i.hour);
    if let Some(key) = &i.key {
        text += &format!(" key {key:?}");
    }
    if let Some(at) = i.at {
        text += &format!(" at {at}");
    }
    if i.late {
        text += " late";
    }
    i.tags.iter().for_each(|(key, value)| text += &format!(" {key}={value}"));
    text
}

fn described_seal(seal: &Seal, names: &Names) -> Described {
    let mut said = Vec::new();
    let mut dimensions = Vec::new();
    for sealed in &seal.dimensions {
        let name = names.of(sealed.dimension);
        let record = sealed.record.as_ref();
        let quantity = record.map_or("no record".into(), |r| format!("a record of {}", r.request.quantity));
        let remainder: Amount = sealed.kept.remainder.iter().map(|(_, amount)| *amount).sum();
        said.push(format!("{name} {}: {quantity}, remainder {remainder}", sealed.usage));
        dimensions
            .push(json!({ "dimension": name, "usage": sealed.usage.to_string(), "remainder": remainder.to_string(),
                                "rounded": sealed.rounded.to_string(), "included": sealed.included.to_string(), "record": record.map(record_fields) }));
    }
    let through = if seal.through > seal.hour { format!(" through {}", seal.through) } else { String::new() };
    let text = format!("{}{through} is closed: {}", seal.hour, said.join("; "));
    let fields = json!({ "hour": seal.hour.to_string(), "through": seal.through.to_string(), "at": seal.at.to_string(),
                         "covered_seq": seal.covered_seq, "dimensions": dimensions });
    describe_as(text, fields)
}

fn record_fields(record: &Record) -> Value {
    json!({ "quantity": record.request.quantity, "timestamp": record.request.timestamp.to_string(),
            "client_token": record.request.client_token, "carried_in": record.carried_in.to_string(),
            "remainder_in": record.remainder_in.to_string() })
}

fn checkpoint(state: &State, names: &mut Names) -> Described {
    for (id, dimension) in (0..).map(DimensionId).zip(&state.dimensions) {
        names.learn(id, &dimension.rules.name);
    }
    let fresh = state.customers().map_or(0, |customers| customers.fresh_count() as usize);
    let waiting = state.records.len() + fresh;
    let text = format!("all up to here: {} increments, {waiting} records not final", state.accepted_seq);
    let fields = json!({ "accepted_seq": state.accepted_seq, "open_from": state.open_from.to_string(),
                         "records_not_final": waiting, "books": state.books() });
    describe_as(text, fields)
}

fn archived(state: &RecordState) -> Described {
    let request = &state.record.request;
    let (name, hour, phase) = (&request.dimension, state.record.key.hour, state.phase.name());
    let text = format!("{name} {hour}: {} {phase}", request.quantity);
    let fields = json!({ "dimension": name, "hour": hour.to_string(), "state": phase, "record": record_fields(&state.record),
                         "metering_record_id": state.metering_record_id });
    describe_as(text, fields)
}
