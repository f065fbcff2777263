//! CloudTrail as it is delivered, told event by event: one event is in memory at a time, however large the file.
//!
//! | form | where it comes from |
//! | --- | --- |
//! | `{"Records":[EVENT, …]}` | the files that a trail delivers |
//! | `{"Events":[{"CloudTrailEvent":"EVENT as a string"}, …]}` | `aws cloudtrail lookup-events` |
//! | `[EVENT, …]`, or one `EVENT` behind another | tools that took one of these apart; `meterd simulate-aws --cloudtrail` |
//! | `{"detail":EVENT}` | EventBridge |
//!
//! Any of them, several in one file, plain or compressed by gzip. What is not an event of the Metering Service is passed over.

use std::io::{BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// An event's fields.
pub type Event = Map<String, Value>;

/// Tells every event of a file; whether it was in a form of CloudTrail's at all.
///
/// # Errors
/// A sentence, if it is not JSON to its end.
pub fn read(input: impl Read, tell: &mut dyn FnMut(Event)) -> Result<bool, String> {
    let mut input = BufReader::new(input);
    let compressed = input.fill_buf().map_err(|error| error.to_string())?.starts_with(&GZIP);
    if compressed { stream(BufReader::new(MultiGzDecoder::new(input)), tell) } else { stream(input, tell) }
}

fn stream(input: impl BufRead, tell: &mut dyn FnMut(Event)) -> Result<bool, String> {
    let mut json = serde_json::Deserializer::from_reader(input);
    let mut known = false;
    loop {
        match json.end() {
            Ok(()) => return Ok(known),
            Err(error) if error.is_io() => return Err(error.to_string()),
            // There is more.
            Err(_) => {
                let top = Top { tell, known: &mut known };
                top.deserialize(&mut json).map_err(|error| error.to_string())?;
            }
        }
    }
}

/// A value that stands by itself, or in a list of such.
struct Top<'a> {
    tell: &'a mut dyn FnMut(Event),
    known: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CloudTrail's events: an object or a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        *self.known = true;
        while list.next_element_seed(Top { tell: self.tell, known: self.known })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut fields = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if name == "Records" || name == "Events" {
                members.next_value_seed(Top { tell: self.tell, known: self.known })?;
            } else {
                fields.insert(name, members.next_value()?);
            }
        }
        let event = match (fields.remove("CloudTrailEvent"), fields.remove("detail")) {
            (Some(Value::String(text)), _) => serde_json::from_str(&text).map_err(serde::de::Error::custom)?,
            (_, Some(Value::Object(detail))) => detail,
            _ => fields,
        };
        if event.contains_key("eventName") {
            *self.known = true;
            (self.tell)(event);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(bytes: &[u8]) -> Result<(bool, Vec<String>), String> {
        let mut names = Vec::new();
        let known = read(bytes, &mut |event| names.push(event["eventName"].as_str().unwrap().to_owned()))?;
        Ok((known, names))
    }

    #[test]
    fn every_form_is_read_and_several_in_one_file() {
        let (a, b) = (r#"{"eventName":"A"}"#, r#"{"eventName":"B"}"#);
        let looked_up = serde_json::json!({ "Events": [{ "EventId": "1", "CloudTrailEvent": b }], "NextToken": "x" });
        for (text, expected) in [
            (format!(r#"{{"Records":[{a},{b}]}}"#), vec!["A", "B"]),
            (looked_up.to_string(), vec!["B"]),
            (format!("[{a},{b}]"), vec!["A", "B"]),
            (format!("{a}\n{b}\n"), vec!["A", "B"]),
            (format!(r#"{{"version":"0","detail":{a}}}"#), vec!["A"]),
            (format!(r#" {{"Records":[{a}]}} {{"Records":[]}} {looked_up} "#), vec!["A", "B"]),
        ] {
            assert_eq!(names(text.as_bytes()).unwrap(), (true, expected.iter().map(|n| (*n).to_owned()).collect()));
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            let gzip = gzip.finish().unwrap();
            assert_eq!(names(&gzip).unwrap().1, expected);
            // Half of a file is not passed off as the whole of it.
            assert!(names(&gzip[..gzip.len() - 9]).is_err());
            assert!(names(&text.trim_end().as_bytes()[..text.trim_end().len() - 1]).is_err(), "{text}");
        }
        assert_eq!(names(b"{\"some\":\"json\"}").unwrap(), (false, vec![]));
        assert_eq!(names(b"").unwrap(), (false, vec![]));
        assert!(names(b"hour,dimension\n").is_err());
    }
}
