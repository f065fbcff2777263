//! The JSON lines protocol: one increment (or array) a line, one answer a line. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::engine::{Code, NewIncrement, Refusal, Taken};
use crate::tags::TAGS_MAX;

/// Longest line in bytes, its end not counted.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// One increment.
    One(NewIncrement<'a>),
    /// An array: all or nothing.
    Many(Vec<NewIncrement<'a>>),
}

/// Reads one line (or the body of an HTTP request). Numbers stay text until they are read as decimals.
pub fn parse(line: &[u8]) -> Result<Line<'_>, Refusal> {
    if line.trim_ascii_start().first() != Some(&b'[') {
        return Ok(Line::One(parse_one(line)?));
    }
    // Elements are read one by one, so that an error names its index.
    let elements: Vec<&RawValue> = serde_json::from_slice(line).map_err(|e| bad("an array of increments", &e))?;
    if elements.is_empty() {
        let message = "an empty array; send at least one increment".into();
        return Err(Refusal { code: Code::BadRequest, message, index: None });
    }
    let mut news = Vec::with_capacity(elements.len());
    for (i, element) in elements.iter().enumerate() {
        let new = parse_one(element.get().as_bytes());
        news.push(new.map_err(|refusal| Refusal { index: Some(i), ..refusal })?);
    }
    Ok(Line::Many(news))
}

fn parse_one(json: &[u8]) -> Result<NewIncrement<'_>, Refusal> {
    if json.trim_ascii_start().first() == Some(&b'[') {
        // serde would read the fields by their order.
        let message = "not an increment: an array within an array".into();
        return Err(Refusal { code: Code::BadRequest, message, index: None });
    }
    serde_json::from_slice::<Wire<'_>>(json).map_err(|e| bad("an increment", &e))?.into_new()
}

fn bad(what: &str, error: &serde_json::Error) -> Refusal {
    Refusal { code: Code::BadRequest, message: format!("not {what}: {error}"), index: None }
}

/// An increment as it stands in JSON. serde refuses fields that are unknown or stand twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow)]
    dimension: Text<'a>,
    #[serde(borrow)]
    quantity: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    at: Option<&'a RawValue>,
    tags: Option<TagPairs>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    customer: Option<Text<'a>>,
    #[serde(borrow)]
    license: Option<Text<'a>>,
}

impl<'a> Wire<'a> {
    fn into_new(self) -> Result<NewIncrement<'a>, Refusal> {
        Ok(NewIncrement {
            dimension: self.dimension.0,
            quantity: self.quantity.map(|raw| scalar(raw, Code::BadQuantity, "quantity")).transpose()?,
            key: self.key.map(|t| t.0),
            at: self.at.map(|raw| scalar(raw, Code::BadRequest, "at")).transpose()?,
            tags: self.tags.map(|t| t.0).unwrap_or_default(),
            id: self.id.map(|t| t.0),
            customer: self.customer.map(|t| t.0),
            license: self.license.map(|t| t.0),
        })
    }
}

/// The text of a number or the inside of a string; anything else is refused.
fn scalar<'a>(raw: &'a RawValue, code: Code, name: &str) -> Result<Cow<'a, str>, Refusal> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => Ok(Cow::Borrowed(text)),
        Some(b'"') => serde_json::from_str::<Text<'_>>(text).map(|t| t.0).map_err(|e| e.to_string()),
        _ => Err("it is neither a number nor a string".into()),
    }
    .map_err(|why: String| {
        let shown: String = text.chars().take(40).collect();
        Refusal { code, message: format!("{name} {shown}: {why}"), index: None }
    })
}

/// A string that is borrowed from the line where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// The object of tags, in which no key may stand twice.
struct TagPairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for TagPairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = TagPairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TagPairs, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    // More are refused anyhow, and comparing thousands would hold up the other writers.
                    if pairs.len() <= TAGS_MAX && pairs.iter().any(|(k, _)| *k == key) {
                        return Err(serde::de::Error::custom(format_args!("duplicate field `{key}` in tags")));
                    }
                    pairs.push((key, value));
                }
                Ok(TagPairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// Appends the answer to `out`, as one line.
pub fn write_answer(line_was_array: bool, answer: &Result<Taken, Refusal>, out: &mut Vec<u8>) {
    match answer {
        Ok(taken) => write_ok(line_was_array, taken, out),
        Err(refusal) => write_refusal(refusal, out),
    }
}

fn write_ok(array: bool, taken: &Taken, out: &mut Vec<u8>) {
    out.extend_from_slice(OK_PREFIX);
    push_number(taken.seq, out);
    if array {
        out.extend_from_slice(b",\"count\":");
        push_number(taken.count, out);
        out.extend_from_slice(b",\"duplicates\":");
        push_number(taken.duplicates, out);
    } else if taken.duplicates > 0 {
        out.extend_from_slice(b",\"duplicate\":true");
    }
    out.extend_from_slice(b"}\n");
}

/// How every answer that promises something begins.
pub const OK_PREFIX: &[u8] = b"{\"ok\":true,\"seq\":";

fn push_number(n: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut rest = n;
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or(&[]));
}

/// An error as an object: what the socket says in a line and HTTP in a body.
pub fn refusal_json(refusal: &Refusal) -> serde_json::Value {
    let recorded = refusal.code.retryable();
    let mut object = serde_json::json!({
        "ok": false,
        "error": refusal.code.name(),
        "message": refusal.message,
        "retryable": recorded.is_some(),
    });
    if let Some(fields) = object.as_object_mut() {
        if let Some(recorded) = recorded {
            fields.insert("recorded".into(), recorded.into());
        }
        if let Some(index) = refusal.index {
            fields.insert("index".into(), index.into());
        }
    }
    object
}

/// Appends an error's answer line.
pub fn write_refusal(refusal: &Refusal, out: &mut Vec<u8>) {
    out.extend_from_slice(refusal_json(refusal).to_string().as_bytes());
    out.push(b'\n');
}
