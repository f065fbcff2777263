//! One table of the file: takes its entries by key and type, and finds what is of another type or unknown.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Refusal, quoted};
use crate::decimal::Amount;

/// Where something stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The key with its section: `submit.window`.
    pub key: String,
    /// Counted from 1.
    pub line: u32,
}

/// What a key holds.
#[derive(Debug, Clone)]
pub(super) enum Field<T> {
    /// The key is not there.
    Absent,
    /// It is there, with another type, which has been found already: no second error about it.
    Refused,
    /// It is there.
    Given(T, Place),
}

impl<T> Field<T> {
    /// The value, if there is one.
    pub fn given(&self) -> Option<&T> {
        match self {
            Field::Given(value, _) => Some(value),
            Field::Absent | Field::Refused => None,
        }
    }

    /// Where it stands, if it does.
    pub fn place(&self) -> Option<Place> {
        match self {
            Field::Given(_, place) => Some(place.clone()),
            Field::Absent | Field::Refused => None,
        }
    }

    /// What `then` makes of the value, if there is one.
    pub fn and_then<U>(self, then: impl FnOnce(T, Place) -> Field<U>) -> Field<U> {
        match self {
            Field::Given(value, place) => then(value, place),
            Field::Absent => Field::Absent,
            Field::Refused => Field::Refused,
        }
    }
}

/// The mistakes found so far, and what turns an offset into a line.
pub(super) struct Findings<'a> {
    file: &'a str,
    line_ends: Vec<usize>,
    found: Vec<ConfigError>,
}

impl<'a> Findings<'a> {
    pub fn new(text: &str, file: &'a str) -> Self {
        let line_ends = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
        Findings { file, line_ends, found: Vec::new() }
    }

    /// The line that the byte at `offset` lies in.
    pub fn line(&self, offset: usize) -> u32 {
        let before = self.line_ends.partition_point(|end| *end < offset);
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Notes a mistake.
    pub fn add(&mut self, line: u32, what: String, remedy: impl Into<String>) {
        self.found.push(ConfigError { file: self.file.to_owned(), line: Some(line), what, remedy: remedy.into() });
    }

    /// Notes that the value at `place` is refused.
    pub fn refuse(&mut self, place: &Place, refusal: Refusal) {
        self.add(place.line, format!("{} {}", place.key, refusal.what), refusal.remedy);
    }

    pub fn into_found(self) -> Vec<ConfigError> {
        self.found
    }
}

/// A type that a value of the file can have.
pub(super) trait FromToml: Sized {
    /// What is allowed, for errors.
    const ALLOWED: &'static str;

    /// The value, if it has this type.
    fn from_toml(value: &DeValue<'_>) -> Option<Self>;

    /// What to do about a `value` of another type.
    fn remedy(_value: &DeValue<'_>) -> String {
        format!("allowed: {}", Self::ALLOWED)
    }
}

impl FromToml for String {
    const ALLOWED: &'static str = "a string, in quotes";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl FromToml for bool {
    const ALLOWED: &'static str = "true or false";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }
}

/// TOML's integers have 64 bits; `i128` holds whatever a file says, so that bounds are for `check` to judge.
impl FromToml for i128 {
    const ALLOWED: &'static str = "an integer, without quotes";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        let integer = value.as_integer()?;
        i128::from_str_radix(integer.as_str(), integer.radix()).ok()
    }
}

/// A duration, still as text.
#[derive(Debug)]
pub(super) struct RawDuration(pub String);

impl FromToml for RawDuration {
    const ALLOWED: &'static str = super::duration::FORM;

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(|text| RawDuration(text.to_owned()))
    }
}

/// The mode of a file, still as text.
#[derive(Debug)]
pub(super) struct RawMode(pub String);

impl FromToml for RawMode {
    const ALLOWED: &'static str = "four octal digits in a string, such as \"0660\"";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(|text| RawMode(text.to_owned()))
    }
}

/// A decimal, still as text. A TOML float is none: a float between the file and the bill could change the amount.
#[derive(Debug)]
pub(super) struct RawDecimal(pub String);

impl FromToml for RawDecimal {
    const ALLOWED: &'static str = "a decimal in a string, such as \"0.001\", or an integer";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::String(text) => Some(RawDecimal(text.clone().into_owned())),
            DeValue::Integer(_) => i128::from_toml(value).map(|integer| RawDecimal(integer.to_string())),
            _ => None,
        }
    }

    fn remedy(value: &DeValue<'_>) -> String {
        match value.as_float().map(|float| float.as_str()) {
            Some(text) if Amount::parse_quantity(text).is_ok() => format!("write it as a string: \"{text}\""),
            _ => format!("allowed: {}", Self::ALLOWED),
        }
    }
}

/// A user or a group, by name or by number.
#[derive(Debug)]
pub(super) enum RawId {
    Name(String),
    Number(String),
}

impl FromToml for RawId {
    const ALLOWED: &'static str = "a name in a string, or an id";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::String(name) => Some(RawId::Name(name.clone().into_owned())),
            DeValue::Integer(_) => i128::from_toml(value).map(|id| RawId::Number(id.to_string())),
            _ => None,
        }
    }
}

/// What a table is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    /// As in the file: `[submit]`.
    pub title: &'static str,
    /// What its keys begin with in errors: `submit.`.
    pub prefix: &'static str,
}

/// A table whose entries are taken one by one.
#[derive(Debug)]
pub(super) struct Table<'t> {
    name: Name,
    /// Its heading's line; 1 where there is none.
    pub line: u32,
    /// A table that is not there has no entries; of one that was refused nothing is known.
    entries: Field<&'t DeTable<'t>>,
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    pub fn new(name: Name, line: u32, entries: Field<&'t DeTable<'t>>) -> Self {
        Table { name, line, entries, known: Vec::new() }
    }

    fn entry(&mut self, key: &'static str, findings: &Findings<'_>) -> Field<&'t DeValue<'t>> {
        self.known.push(key);
        let prefix = self.name.prefix;
        self.entries.clone().and_then(|entries, _| match entries.get_key_value(key) {
            None => Field::Absent,
            Some((name, value)) => {
                let line = findings.line(name.span().start);
                Field::Given(value.get_ref(), Place { key: format!("{prefix}{key}"), line })
            }
        })
    }

    /// What `key` holds, as a `T`.
    pub fn take<T: FromToml>(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Field<T> {
        self.entry(key, findings).and_then(|value, place| read(value, place, findings))
    }

    /// What `key` holds, as a list of `T`; every item is judged by itself.
    pub fn list<T: FromToml>(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Field<Vec<Field<T>>> {
        self.entry(key, findings).and_then(|value, place| {
            let Some(items) = value.as_array() else {
                return wrong_type(value, &place, format!("allowed: a list, each item {}", T::ALLOWED), findings);
            };
            let read_item = |item: &Spanned<DeValue<'_>>| {
                let at = Place { key: format!("{}, one item,", place.key), line: findings.line(item.span().start) };
                read(item.get_ref(), at, findings)
            };
            let items = items.iter().map(read_item).collect();
            Field::Given(items, place)
        })
    }

    /// The table under `key`: `[key]` in the file, or `key = { … }`.
    pub fn table(&mut self, key: &'static str, name: Name, findings: &mut Findings<'_>) -> Field<Table<'t>> {
        self.entry(key, findings).and_then(|value, place| match value.as_table() {
            Some(entries) => {
                let table = Table::new(name, place.line, Field::Given(entries, place.clone()));
                Field::Given(table, place)
            }
            None => wrong_type(value, &place, format!("allowed: a table, {}", name.title), findings),
        })
    }

    /// The tables under `key`: `[[key]]` in the file, or `key = [{ … }]`; those that are no tables are left out.
    pub fn tables(&mut self, key: &'static str, name: Name, findings: &mut Findings<'_>) -> Field<Vec<Table<'t>>> {
        self.entry(key, findings).and_then(|value, place| {
            let remedy = format!("allowed: a list of tables, {}", name.title);
            let Some(items) = value.as_array() else {
                return wrong_type(value, &place, remedy, findings);
            };
            let mut tables = Vec::new();
            for item in items {
                let at = Place { key: place.key.clone(), line: findings.line(item.span().start) };
                match item.get_ref().as_table() {
                    Some(entries) => tables.push(Table::new(name, at.line, Field::Given(entries, at))),
                    None => drop(wrong_type::<()>(item.get_ref(), &at, remedy.clone(), findings)),
                }
            }
            Field::Given(tables, place)
        })
    }

    /// Finds every key that nobody asked for.
    pub fn finish(self, findings: &mut Findings<'_>) {
        let entries = self.entries.given().into_iter().flat_map(|table| table.keys());
        for key in entries.filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let line = findings.line(key.span().start);
            let what = format!("unknown key {} in {}", quoted(key.get_ref()), self.name.title);
            findings.add(line, what, self.known_keys(key.get_ref()));
        }
    }

    fn known_keys(&self, key: &str) -> String {
        let distance = |known: &str| strsim::damerau_levenshtein(known, key);
        let begins = |known: &str| key.len() >= PREFIX_CHARS && known.starts_with(key);
        let close = |known: &&&str| begins(known) || distance(known) <= 1 + known.len() / 5;
        let allowed = format!("allowed: {}", self.known.join(", "));
        match self.known.iter().filter(close).min_by_key(|known| distance(known)) {
            Some(known) => format!("did you mean \"{known}\"? ({allowed})"),
            None => allowed,
        }
    }
}

/// So many characters of a key's beginning are enough to guess it.
const PREFIX_CHARS: usize = 3;

fn read<T: FromToml>(value: &DeValue<'_>, place: Place, findings: &mut Findings<'_>) -> Field<T> {
    match T::from_toml(value) {
        Some(read) => Field::Given(read, place),
        None => wrong_type(value, &place, T::remedy(value), findings),
    }
}

fn wrong_type<T>(value: &DeValue<'_>, place: &Place, remedy: String, findings: &mut Findings<'_>) -> Field<T> {
    let what = match value {
        DeValue::String(text) => format!("is the string {}", quoted(text)),
        DeValue::Integer(integer) => format!("is the integer {integer}"),
        DeValue::Float(float) => format!("is the float {float}"),
        DeValue::Boolean(value) => format!("is {value}"),
        DeValue::Datetime(moment) => format!("is the date-time {moment}"),
        DeValue::Array(_) => "is a list".to_owned(),
        DeValue::Table(_) => "is a table".to_owned(),
    };
    findings.refuse(place, Refusal::new(what, remedy));
    Field::Refused
}
