//! Taking increments: checked, placed in their hour, known keys told apart from new ones.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::code::Code;
use super::keys;
use super::{Building, Engine};
use crate::config::Measure;
use crate::decimal::{Amount, NotAQuantity};
use crate::disk::Disk;
use crate::entry::{AccountId, Entry, Increment, Peer};
use crate::hour::{Hour, Timestamp};
use crate::index::{KeyHash, Known, NotNow, Secret};
use crate::tags::Tags;
use crate::wal::LogError;
use crate::wal::frame::PAYLOAD_MAX;
use crate::wal::spares::Need;

/// How far back an `at` may lie.
pub const AT_BACK_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far ahead an `at` may lie.
pub const AT_AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// Bytes that an increment with a key may well take in the log.
const KEYED_COST: usize = 1024;
/// Longest `id` in bytes.
pub const ID_BYTES_MAX: usize = 256;

/// An increment as a writer put it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewIncrement<'a> {
    /// The dimension's name.
    pub dimension: Cow<'a, str>,
    /// The quantity's digits, as written.
    pub quantity: Option<Cow<'a, str>>,
    /// The caller's idempotency key.
    pub key: Option<Cow<'a, str>>,
    /// When it happened.
    pub at: Option<Cow<'a, str>>,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// What is counted, for `unique`.
    pub id: Option<Cow<'a, str>>,
    /// For SaaS products.
    pub customer: Option<Cow<'a, str>>,
    /// For SaaS products.
    pub license: Option<Cow<'a, str>>,
}

/// Increments taken into the batch; they count once `commit` has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The number of the last one.
    pub seq: u64,
    /// How many.
    pub count: u64,
    /// How many of them were known by their key.
    pub duplicates: u64,
}

/// Why increments were not taken. Nothing of them was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error's name on the socket.
    pub code: Code,
    /// What is wrong and what is allowed.
    pub message: String,
    /// Which one of an array.
    pub index: Option<usize>,
}

/// An increment that passed every check, with what its key says.
struct Checked {
    /// Of a SaaS product: whose usage it is.
    account: Option<AccountId>,
    increment: Increment,
    key: Option<(KeyHash, Known)>,
    /// Of a `unique` dimension: the id in its hour, unless the hour has it already.
    id: Option<(KeyHash, Known)>,
}

impl<D: Disk> Engine<D> {
    /// Takes one increment.
    pub fn take(&mut self, peer: Peer, new: &NewIncrement<'_>, now: Timestamp) -> Result<Taken, Refusal> {
        let taken = self.take_one(peer, new, now);
        self.remember_misnamed(peer, std::slice::from_ref(new), &taken, now);
        self.or_full(peer, taken, now)
    }

    /// Takes all increments of an array, or none.
    pub fn take_all(&mut self, peer: Peer, news: &[NewIncrement<'_>], now: Timestamp) -> Result<Taken, Refusal> {
        let taken = self.take_each(peer, news, now);
        self.remember_misnamed(peer, news, &taken, now);
        self.or_full(peer, taken, now)
    }

    /// An index that cannot be opened is the lesser news where the disk is full: that is what to mend.
    fn or_full(&mut self, peer: Peer, taken: Result<Taken, Refusal>, now: Timestamp) -> Result<Taken, Refusal> {
        match taken {
            Err(refusal) if refusal.code == Code::NotReady => {
                let room = self.make_way(peer, KEYED_COST, now);
                Err(room.err().map_or(refusal.clone(), |full| Refusal { index: refusal.index, ..full }))
            }
            taken => taken,
        }
    }

    fn take_one(&mut self, peer: Peer, new: &NewIncrement<'_>, now: Timestamp) -> Result<Taken, Refusal> {
        self.index.look();
        let now = self.placing(now);
        let account = self.account(new, now)?;
        let checked = self.check(peer, account, new, now)?;
        if let Some(known) = self.known(&checked)? {
            return Ok(Taken { seq: known.seq, count: 1, duplicates: 1 });
        }
        self.refuse_at_the_end()?;
        self.refuse_ended(account)?;
        self.room_for_key(&checked)?;
        let cost = Building::cost(&checked.increment);
        self.make_way(peer, cost, now)?;
        Ok(Taken { seq: self.push(peer, checked, now), count: 1, duplicates: 0 })
    }

    fn take_each(&mut self, peer: Peer, news: &[NewIncrement<'_>], now: Timestamp) -> Result<Taken, Refusal> {
        self.index.look();
        let now = self.placing(now);
        let mut fresh: Vec<Checked> = Vec::with_capacity(news.len());
        let mut in_array: HashMap<KeyHash, (usize, u64)> = HashMap::new();
        let mut ids_in_array: HashSet<KeyHash> = HashSet::new();
        let (mut duplicates, mut seq) = (0, 0);
        for (i, new) in news.iter().enumerate() {
            let mut one = || -> Result<(), Refusal> {
                let account = self.account(new, now)?;
                let checked = self.check(peer, account, new, now)?;
                let earlier = checked.key.and_then(|(hash, known)| {
                    let (at, content) = in_array.get(&hash)?;
                    Some((*at, *content == known.content))
                });
                match earlier {
                    Some((_, false)) => return Err(conflict(&checked)),
                    Some((at, true)) => {
                        duplicates += 1;
                        seq = self.next_seq() + at as u64;
                    }
                    None => match self.known(&checked)? {
                        Some(known) => {
                            duplicates += 1;
                            seq = known.seq;
                        }
                        None => {
                            self.refuse_at_the_end()?;
                            self.refuse_ended(account)?;
                            self.room_for_key(&checked)?;
                            seq = self.next_seq() + fresh.len() as u64;
                            let checked = once_in(&mut ids_in_array, checked);
                            in_array.extend(checked.key.map(|(hash, known)| (hash, (fresh.len(), known.content))));
                            fresh.push(checked);
                        }
                    },
                }
                Ok(())
            };
            one().map_err(|refusal| Refusal { index: Some(i), ..refusal })?;
        }
        // All of one array is one entry, and an entry is all or nothing.
        let cost = fresh.iter().map(|c| Building::cost(&c.increment)).sum();
        self.make_way(peer, cost, now)?;
        for checked in fresh {
            self.push(peer, checked, now);
        }
        Ok(Taken { seq, count: news.len() as u64, duplicates })
    }

    fn next_seq(&self) -> u64 {
        self.state.accepted_seq + self.building.count() + 1
    }

    fn push(&mut self, peer: Peer, checked: Checked, now: Timestamp) -> u64 {
        let seq = self.next_seq();
        if let Some((hash, known)) = checked.key {
            self.index.add_key(hash, Known { seq, ..known });
        }
        if let Some((hash, known)) = checked.id {
            self.index.add_key(hash, Known { seq, ..known });
        }
        let i = checked.increment;
        let is_plain = i.key.is_none() && i.id.is_none() && i.at.is_none() && i.tags.is_empty() && !i.late;
        match checked.account {
            None if is_plain => self.building.push_plain(peer, i.dimension, i.hour, i.quantity, now),
            Some(of) if is_plain => self.building.push_customer(peer, of, (i.dimension, i.hour, i.quantity), now),
            account => self.building.push(peer, account, i, now),
        }
        seq
    }

    /// Sees to it that `cost` more bytes of `peer` can follow in one entry, and that the log has room for them.
    pub(super) fn make_way(&mut self, peer: Peer, cost: usize, now: Timestamp) -> Result<(), Refusal> {
        let failed = |error: LogError| match error {
            LogError::Full(why) => {
                refuse(Code::DiskFull, format!("{why}; free some space on the state directory's disk"))
            }
            LogError::Poisoned(why) => refuse(Code::NotDurable, format!("{why}; the agent restarts to recover")),
        };
        if !self.building.is_empty() && (!self.building.is_of(peer) || self.building.bytes() + cost > PAYLOAD_MAX) {
            self.flush_building(now).map_err(failed)?;
        }
        let room = self.log.ensure_room(self.building.bytes() + cost, Need::Usage);
        self.full = matches!(room, Err(LogError::Full(_)));
        room.map_err(failed)
    }

    /// Writes the increments that gathered into the log's batch.
    pub(super) fn flush_building(&mut self, now: Timestamp) -> Result<(), LogError> {
        if self.building.is_empty() {
            return Ok(());
        }
        let usage = self.building.finish(self.state.accepted_seq + 1);
        // Room was made sure of when the increments were taken; should something have used it since, the reserve stands
        // in. If that is gone too the batch must fail as a whole: its writers are about to be told `ok`.
        let recorded = self.record(&Entry::Usage(usage), Need::Control, now);
        recorded.map_err(|error| self.log.poison(&format!("increments that were taken cannot be written: {error}")))
    }

    /// `now`: when it counts as received, see `placing`.
    fn check(
        &self,
        peer: Peer,
        account: Option<AccountId>,
        new: &NewIncrement<'_>,
        now: Timestamp,
    ) -> Result<Checked, Refusal> {
        let Some(dimension) = self.names.get(new.dimension.as_ref()) else {
            let message = format!("no dimension {:?}; configured: {}", new.dimension, self.listed);
            return Err(refuse(Code::UnknownDimension, message));
        };
        let (id, measure) = (dimension.id, dimension.measure);
        if let Some(why) = &dimension.not_reported {
            return Err(refuse(Code::BadRequest, format!("dimension {:?} {why}", new.dimension)));
        }
        let counted = counted_id(measure, new)?;
        if counted.is_some() && self.is_lost_in_time() {
            // Ids belong to their hour for good: which one it is must be known.
            let message = "this machine's clock is in doubt, and with it the hour; see `meterd status`";
            return Err(refuse(Code::NotReady, message.into()));
        }
        let quantity = self.quantity(measure, new)?;
        let at = new.at.as_deref().map(|text| self.read_at(text, now)).transpose()?;
        let tags = if new.tags.is_empty() { Tags::default() } else { self.tags(measure, new)? };
        let placed = self.state.place(account, measure, at, now);
        let hour = placed.map_or(Hour::default(), |p| p.hour);
        let mut increment = Increment {
            dimension: id,
            hour,
            late: placed.is_some_and(|p| p.late),
            quantity,
            at,
            key: new.key.as_deref().map(str::to_owned),
            tags,
            id: counted.map(str::to_owned),
        };
        new.key.as_deref().map_or(Ok(()), keys::check_key)?;
        let (mut key, mut id) = (None, None);
        if increment.key.is_some() || increment.id.is_some() {
            let secret = self.secret()?;
            key = keys::key_of(secret, peer, account, &increment, now);
            id = keys::id_of(secret, account, &increment, now);
        }
        if let Some((hash, _)) = &id
            && placed.is_some()
            && self.index_knows(*hash)?.is_some()
        {
            (id, increment.quantity) = (None, 0);
        }
        let checked = Checked { account, increment, key, id };
        // A retry whose increment was taken while its hour was open needs no hour any more.
        if placed.is_none() && self.known(&checked)?.is_none() {
            let message =
                "its hour is sealed, and a max, last or unique cannot be moved into another hour; leave out \"at\"";
            return Err(refuse(Code::HourClosed, message.into()));
        }
        Ok(checked)
    }

    fn quantity(&self, measure: Measure, new: &NewIncrement<'_>) -> Result<u64, Refusal> {
        let bad = |message: String| refuse(Code::BadQuantity, message);
        let Some(text) = new.quantity.as_deref() else {
            return match measure {
                Measure::Count | Measure::Unique => Ok(1_000_000),
                _ => Err(bad(format!("dimension {:?} needs a quantity, e.g. 1 or \"0.25\"", new.dimension))),
            };
        };
        if measure == Measure::Unique {
            return Err(bad(format!("dimension {:?} counts distinct ids: leave quantity out", new.dimension)));
        }
        let allowed = "a quantity is a non-negative number below 10^12 with at most 6 decimals";
        let amount = Amount::parse_quantity(text).map_err(|why: NotAQuantity| {
            let shown: String = text.chars().take(40).collect();
            bad(format!("quantity {shown}: {why}; {allowed}"))
        })?;
        if measure == Measure::Count && amount != Amount::from_units(1) {
            return Err(bad(format!("dimension {:?} counts increments: leave quantity out, or 1", new.dimension)));
        }
        u64::try_from(amount.millionths()).map_err(|_| bad(allowed.into()))
    }

    fn tags(&self, measure: Measure, new: &NewIncrement<'_>) -> Result<Tags, Refusal> {
        if !matches!(measure, Measure::Sum | Measure::Count) {
            let message = format!("tags are for sum and count; dimension {:?} has another measure", new.dimension);
            return Err(refuse(Code::BadTags, message));
        }
        Tags::new(new.tags.clone()).map_err(|why| refuse(Code::BadTags, why.to_string()))
    }

    fn read_at(&self, text: &str, now: Timestamp) -> Result<Timestamp, Refusal> {
        let Some(at) = Timestamp::parse(text) else {
            let shown: String = text.chars().take(40).collect();
            let message = format!("at {shown:?} is neither RFC 3339 nor Unix seconds, e.g. \"2026-11-21T09:00:00Z\"");
            return Err(refuse(Code::BadRequest, message));
        };
        if at >= now.minus(AT_BACK_MAX) && at <= now.plus(AT_AHEAD_MAX) {
            return Ok(at);
        }
        if self.is_lost_in_time() {
            let message = format!("at {at} is far from this machine's clock, {now}, which is in doubt itself");
            return Err(refuse(Code::NotReady, message));
        }
        let message = format!("at {at} is more than 7 days back or 5 minutes ahead of {now}");
        Err(refuse(Code::TimeOutOfRange, message))
    }

    /// What the index knows of a key or an id.
    fn index_knows(&self, hash: KeyHash) -> Result<Option<Known>, Refusal> {
        self.index.key(hash).map_err(not_now)
    }

    /// What keys are hashed with.
    fn secret(&self) -> Result<Secret, Refusal> {
        self.index.secret().map_err(not_now)
    }

    /// Whether a new key or id can be remembered: what cannot be told apart from its retry is not taken.
    fn room_for_key(&self, checked: &Checked) -> Result<(), Refusal> {
        let (held, most) = self.index.fill();
        if held < most || (checked.key.is_none() && checked.id.is_none()) {
            return Ok(());
        }
        let message = format!(
            "{held} keys and ids are remembered, and there is room for {most}; new ones are taken when some are \
             forgotten (after a day or more), increments without key and id now"
        );
        Err(refuse(Code::Overloaded, message))
    }

    /// What the log knows of this key; an error if it was used with other content.
    fn known(&self, checked: &Checked) -> Result<Option<Known>, Refusal> {
        let Some((hash, new)) = &checked.key else { return Ok(None) };
        let known = self.index_knows(*hash)?;
        // A key is forgotten by hours; one that has expired is as good as forgotten.
        let known = known.filter(|k| k.expires >= self.state.open_from.previous());
        match known {
            Some(known) if known.content != new.content => Err(conflict(checked)),
            known => Ok(known),
        }
    }
}

fn not_now(NotNow(behind): NotNow) -> Refusal {
    refuse(Code::NotReady, format!("{behind}; until it can be asked only increments without key and id are taken"))
}

pub(super) fn refuse(code: Code, message: String) -> Refusal {
    Refusal { code, message, index: None }
}

/// The id to be counted: needed for `unique`, and only there.
fn counted_id<'a>(measure: Measure, new: &'a NewIncrement<'_>) -> Result<Option<&'a str>, Refusal> {
    let bad = |message: String| Err(refuse(Code::BadRequest, message));
    match (measure == Measure::Unique, new.id.as_deref()) {
        (false, None) => Ok(None),
        (false, Some(_)) => {
            bad(format!("id is for dimensions with measure \"unique\"; {:?} is not one", new.dimension))
        }
        (true, None) => bad(format!("dimension {:?} counts distinct ids: say which, \"id\":\"…\"", new.dimension)),
        (true, Some(id)) if id.is_empty() || id.len() > ID_BYTES_MAX => {
            bad(format!("an id has 1-{ID_BYTES_MAX} bytes, this one has {}", id.len()))
        }
        (true, id) => Ok(id),
    }
}

/// An id that stands twice in one array counts once.
fn once_in(array: &mut HashSet<KeyHash>, mut checked: Checked) -> Checked {
    if let Some((hash, _)) = &checked.id
        && !array.insert(*hash)
    {
        (checked.id, checked.increment.quantity) = (None, 0);
    }
    checked
}

fn conflict(checked: &Checked) -> Refusal {
    let key = checked.increment.key.as_deref().unwrap_or_default();
    let message = format!("key {key:?} was used with other content; a new increment needs a new key");
    refuse(Code::KeyConflict, message)
}
