//! The configuration with defaults filled in: as TOML, which reads back as the same configuration, and as JSON.

use serde_json::{Map, Value as Json};
use toml::Value;

use super::{Config, Dimension, Offset, duration};

/// A key and what it holds.
type Entry = (&'static str, Shown);

/// What a key holds.
enum Shown {
    Value(Value),
    /// Nothing, which means what these words say.
    Unset(&'static str),
}

impl Config {
    /// As TOML. [`Config::parse`] makes the same configuration of it.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        write_section(&mut text, "[product]", product(self));
        for dimension in &self.dimensions {
            write_section(&mut text, "[[dimension]]", self::dimension(dimension));
        }
        for (name, entries) in sections(self) {
            write_section(&mut text, &format!("[{name}]"), entries);
        }
        text
    }

    /// As JSON: the sections and keys of the file, `null` for what is not set.
    pub fn to_json(&self) -> Json {
        let mut json = Map::new();
        json.insert("product".to_owned(), object(product(self)));
        let dimensions = self.dimensions.iter().map(|each| object(dimension(each))).collect();
        json.insert("dimension".to_owned(), Json::Array(dimensions));
        for (name, entries) in sections(self) {
            json.insert(name.to_owned(), object(entries));
        }
        Json::Object(json)
    }
}

fn product(config: &Config) -> Vec<Entry> {
    vec![("code", value(&*config.product.code)), ("kind", word(config.product.kind))]
}

fn dimension(dimension: &Dimension) -> Vec<Entry> {
    let included = dimension.included.as_ref().map(|included| {
        let [quantity, per] = [included.quantity.to_string(), included.per.to_string()];
        Value::Table([("quantity".to_owned(), quantity.into()), ("per".to_owned(), per.into())].into_iter().collect())
    });
    let sources = dimension.from.iter().map(|source| {
        let [name, weight] = [source.name.clone(), source.weight.to_string()];
        Value::Table([("name".to_owned(), name.into()), ("weight".to_owned(), weight.into())].into_iter().collect())
    });
    vec![
        ("name", value(&*dimension.name)),
        ("measure", word(dimension.measure)),
        ("sticky", value(dimension.sticky)),
        ("unit", word(dimension.unit)),
        ("round", word(dimension.round)),
        ("hold_above", unset_or(dimension.hold_above.map(|amount| amount.to_string()), "none")),
        ("included", unset_or(included, "none")),
        ("price", unset_or(dimension.price.map(|amount| amount.to_string()), "none")),
        ("allow_users", ids(&dimension.allow_users)),
        ("from", value(sources.collect::<Vec<Value>>())),
    ]
}

/// All but the product and the dimensions, in the order of the reference.
fn sections(config: &Config) -> Vec<(&'static str, Vec<Entry>)> {
    let Config { socket, alert, state, submit, instance, hour, gate, product: _, dimensions: _ } = config;
    let offset = match submit.offset {
        Offset::Auto => "auto".to_owned(),
        Offset::Fixed(offset) => duration::text(offset),
    };
    let close_after = gate.close_after.map_or("never".to_owned(), duration::text);
    vec![
        (
            "socket",
            vec![
                ("path", word(socket.path.display())),
                ("mode", value(format!("{:04o}", socket.mode))),
                ("allow_users", ids(&socket.allow_users)),
                ("allow_groups", ids(&socket.allow_groups)),
                ("allow_read_users", ids(&socket.allow_read_users)),
            ],
        ),
        ("alert", vec![("command", value(alert.command.clone()))]),
        (
            "state",
            vec![
                ("dir", word(state.dir.display())),
                ("segment_bytes", value(i64::from(state.segment_bytes))),
                ("retain_days", value(i64::from(state.retain_days))),
                ("allow_volatile", value(state.allow_volatile)),
            ],
        ),
        (
            "submit",
            vec![
                ("region", unset_or(submit.region.clone(), "the instance's")),
                ("endpoint_url", unset_or(submit.endpoint_url.clone(), "AWS")),
                ("credentials", word(submit.credentials)),
                ("profile", unset_or(submit.profile.clone(), "as the environment says")),
                ("role_arn", unset_or(submit.role_arn.clone(), "none is assumed")),
                ("offset", value(offset)),
                ("window", value(duration::text(submit.window))),
                ("late", word(submit.late)),
                ("zero_records", word(submit.zero_records)),
                ("calls_in_flight", value(i64::from(submit.calls_in_flight))),
            ],
        ),
        ("instance", vec![("id", value(instance.id.as_deref().unwrap_or("auto")))]),
        ("hour", vec![("grace", value(duration::text(hour.grace)))]),
        ("gate", vec![("warn_after", value(duration::text(gate.warn_after))), ("close_after", value(close_after))]),
    ]
}

fn value(value: impl Into<Value>) -> Shown {
    Shown::Value(value.into())
}

fn word(word: impl ToString) -> Shown {
    value(word.to_string())
}

fn unset_or(set: Option<impl Into<Value>>, meaning: &'static str) -> Shown {
    set.map_or(Shown::Unset(meaning), value)
}

fn ids(ids: &[u32]) -> Shown {
    value(ids.iter().map(|id| i64::from(*id)).collect::<Vec<i64>>())
}

fn write_section(text: &mut String, heading: &str, entries: Vec<Entry>) {
    if !text.is_empty() {
        text.push('\n');
    }
    *text += heading;
    text.push('\n');
    for (key, shown) in entries {
        *text += &match shown {
            Shown::Value(value) => format!("{key} = {value}\n"),
            Shown::Unset(meaning) => format!("# {key}: {meaning}\n"),
        };
    }
}

fn object(entries: Vec<Entry>) -> Json {
    let pairs = entries.into_iter().map(|(key, shown)| match shown {
        Shown::Value(value) => (key.to_owned(), json(value)),
        Shown::Unset(_) => (key.to_owned(), Json::Null),
    });
    Json::Object(pairs.collect())
}

/// The configuration holds no other values: see `sections`.
fn json(value: Value) -> Json {
    match value {
        Value::Integer(integer) => integer.into(),
        Value::Boolean(boolean) => boolean.into(),
        Value::Array(items) => items.into_iter().map(json).collect(),
        Value::Table(table) => table.into_iter().map(|(key, inner)| (key, json(inner))).collect::<Map<_, _>>().into(),
        Value::String(text) => text.into(),
        other @ (Value::Float(_) | Value::Datetime(_)) => other.to_string().into(),
    }
}
