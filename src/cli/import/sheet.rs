//! A table of usage, read and checked row by row without the agent: what is wrong with any of it is known before the first
//! of it is sent. What only the agent can tell (a key that was used for something else, a measure that takes no late value)
//! it says when it is asked.

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use csv::{Position, ReaderBuilder, StringRecord, Trim};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::decimal::Amount;
use crate::hour::Timestamp;
use crate::ingest::protocol;
use crate::tags::Tags;

/// The columns that there are. One more would be usage that nobody bills, so it is refused.
const COLUMNS: [&str; 8] = ["time", "dimension", "quantity", "key", "tags", "id", "customer", "license"];
const ROWS_MAX: usize = 1_000_000;
/// How far back and ahead of its clock the agent takes a time.
const BACK: Duration = Duration::from_secs(7 * 24 * 3600);
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// Of the hash in a key that is made: 128 bits, so that no two rows of the world have the same.
const KEY_HASH_BYTES: usize = 16;

/// A row that can be sent.
#[derive(Debug)]
pub struct Row {
    /// Its line.
    pub line: u64,
    /// As the socket takes it.
    pub json: String,
    /// Its dimension.
    pub dimension: String,
    /// Its quantity; 1 where it has none.
    pub quantity: Amount,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Sheet {
    /// Those that are right.
    pub rows: Vec<Row>,
    /// Lines that are wrong, and why.
    pub wrong: Vec<(u64, String)>,
}

impl Sheet {
    /// Reads a table. `now`: the agent's time.
    ///
    /// # Errors
    /// A sentence, if it is no table with these columns.
    pub fn read(input: impl Read, now: Timestamp, dimensions: &[String]) -> Result<Sheet, String> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).flexible(true).from_reader(input);
        let heading = reader.headers().map_err(|error| error.to_string())?.clone();
        let columns = columns(&heading)?;
        let (mut sheet, mut alike) = (Sheet::default(), HashMap::new());
        for record in reader.records() {
            if sheet.all() == ROWS_MAX {
                return Err(format!("it has more than {ROWS_MAX} rows: split it"));
            }
            let record = record.map_err(|error| error.to_string())?;
            let line = record.position().map_or(0, Position::line);
            if record.iter().any(|cell| cell.contains(char::is_control)) {
                let why = "a cell holds a line end or another control character: is a quote (\") left open there?";
                sheet.wrong.push((line, why.to_owned()));
                continue;
            }
            match row(&record, &columns, line, now, dimensions, &mut alike) {
                Ok(row) => sheet.rows.push(row),
                Err(why) => sheet.wrong.push((line, why)),
            }
        }
        Ok(sheet)
    }

    /// How many rows there are.
    pub fn all(&self) -> usize {
        self.rows.len() + self.wrong.len()
    }
}

/// Which column each cell is of.
fn columns(heading: &StringRecord) -> Result<Vec<&'static str>, String> {
    let mut columns = Vec::new();
    for name in heading {
        let plain = name.trim_start_matches('\u{feff}').trim().to_ascii_lowercase();
        let Some(known) = COLUMNS.into_iter().find(|known| *known == plain) else {
            return Err(format!("line 1: no column is called {name:?}; there are: {}", COLUMNS.join(", ")));
        };
        if columns.contains(&known) {
            return Err(format!("line 1: the column {known} stands twice"));
        }
        columns.push(known);
    }
    match ["time", "dimension"].into_iter().find(|must| !columns.contains(must)) {
        Some(missing) => Err(format!("line 1: no column {missing}; the first line names the columns")),
        None => Ok(columns),
    }
}

fn row(
    record: &StringRecord,
    columns: &[&'static str],
    line: u64,
    now: Timestamp,
    dimensions: &[String],
    alike: &mut HashMap<[u8; 32], u64>,
) -> Result<Row, String> {
    if record.len() != columns.len() {
        return Err(format!("it has {} cells, the first line has {}", record.len(), columns.len()));
    }
    let cell = |name: &str| {
        let at = columns.iter().position(|column| *column == name)?;
        record.get(at).filter(|text| !text.is_empty())
    };
    let text = cell("time").ok_or("no time")?;
    let at =
        Timestamp::parse(text).ok_or_else(|| format!("time {text:?}: write 2026-11-21T09:00:00Z or Unix seconds"))?;
    if at < now.minus(BACK) || at > now.plus(AHEAD) {
        return Err(format!("time_out_of_range: {at} is more than 7 days before or 5 minutes after {now}"));
    }
    let dimension = cell("dimension").ok_or("no dimension")?;
    if !dimensions.iter().any(|known| known == dimension) {
        return Err(format!("unknown_dimension: no dimension {dimension:?}; configured: {}", dimensions.join(", ")));
    }
    let quantity =
        cell("quantity").map(Amount::parse_quantity).transpose().map_err(|why| format!("quantity: {why}"))?;
    let tags = cell("tags").map(tags).transpose()?.unwrap_or_default();
    let checked = Tags::new(tags.clone()).map_err(|why| why.to_string())?;
    if let Some(customer) = cell("customer")
        && !(customer.len() == 12 && customer.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(format!("customer {customer:?} is no 12-digit account id"));
    }
    let key = match cell("key") {
        Some(key) if key.len() <= 128 => key.to_owned(),
        Some(_) => return Err("the key has more than 128 bytes".into()),
        None => {
            let said = [Some(dimension), cell("id"), cell("customer"), cell("license")];
            derived_key(at, quantity, &checked, &said, alike)
        }
    };
    let mut increment = Map::new();
    increment.insert("dimension".into(), json!(dimension));
    increment.extend(quantity.map(|quantity| ("quantity".to_owned(), json!(quantity.to_string()))));
    increment.insert("key".into(), json!(key));
    increment.insert("at".into(), json!(text));
    if !tags.is_empty() {
        let tags: Map<String, Value> = tags.into_iter().map(|(name, value)| (name, json!(value))).collect();
        increment.insert("tags".into(), Value::Object(tags));
    }
    for name in ["id", "customer", "license"] {
        increment.extend(cell(name).map(|value| (name.to_owned(), json!(value))));
    }
    let json = Value::Object(increment).to_string();
    if json.len() + 3 > protocol::LINE_BYTES_MAX {
        return Err(format!("it is longer than a line of the socket may be ({} bytes)", protocol::LINE_BYTES_MAX));
    }
    protocol::parse(json.as_bytes()).map_err(|refusal| refusal.message)?;
    Ok(Row { line, json, dimension: dimension.to_owned(), quantity: quantity.unwrap_or(Amount::from_units(1)) })
}

/// `team=blue;env=prod`: no tag of AWS's has a semicolon in it.
fn tags(text: &str) -> Result<Vec<(String, String)>, String> {
    let one = |part: &str| {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("tags: {part:?} is not NAME=VALUE"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    text.split(';').filter(|part| !part.trim().is_empty()).map(one).collect()
}

/// A key for a row that has none: a hash of what it says, by value and not by how it is written, and how many rows before it
/// say the same. Not of the file: a file that is mended, sorted or continued still has the keys of the rows that stayed.
fn derived_key(
    at: Timestamp,
    quantity: Option<Amount>,
    tags: &Tags,
    said: &[Option<&str>],
    alike: &mut HashMap<[u8; 32], u64>,
) -> String {
    let mut hash = Sha256::new();
    // Each part with its length before it, so that no two rows run into one another.
    let mut part = |bytes: Option<&[u8]>| {
        hash.update(bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    part(Some(&at.millis().to_le_bytes()));
    // A dimension that counts takes no quantity for one.
    part(Some(&quantity.unwrap_or(Amount::from_units(1)).millionths().to_le_bytes()));
    said.iter().for_each(|text| part(text.map(str::as_bytes)));
    tags.iter().for_each(|(name, value)| {
        part(Some(name.as_bytes()));
        part(Some(value.as_bytes()));
    });
    let digest: [u8; 32] = hash.finalize().into();
    let before = alike.entry(digest).or_default();
    let hex: String = digest.iter().take(KEY_HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let key = format!("import-{hex}-{before}");
    *before += 1;
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_262_400);

    fn read(text: &str) -> Result<Sheet, String> {
        Sheet::read(text.as_bytes(), NOW, &["requests".to_owned(), "gigabytes".to_owned()])
    }

    fn keys(text: &str) -> Vec<String> {
        let sheet = read(text).unwrap();
        assert!(sheet.wrong.is_empty(), "{:?}", sheet.wrong);
        let key = |row: &Row| serde_json::from_str::<Value>(&row.json).unwrap()["key"].as_str().unwrap().to_owned();
        sheet.rows.iter().map(key).collect()
    }

    #[test]
    fn a_row_has_the_same_key_however_it_is_written_and_wherever_it_stands() {
        let a = keys(
            "time,dimension,quantity,tags\n2026-11-21T11:00:00Z,requests,1.50,b=2;a=1\n2026-11-21T11:00:00Z,requests,1.50,a=1;b=2\n",
        );
        assert_ne!(a[0], a[1], "two rows that say the same are two increments");
        let b = keys(
            "dimension,tags,quantity,time\ngigabytes,,2,1795258800\nrequests,a=1; b=2,1.5,2026-11-21T12:00:00+01:00\n",
        );
        assert_eq!(b[1], a[0]);
        let c = keys("time,dimension,quantity\n2026-11-21T11:00:00Z,requests,15\n2026-11-21T11:00:00Z,requests,1.5\n");
        assert!(!a.contains(&c[0]) && !a.contains(&c[1]) && c[0] != c[1]);
        // Of a dimension that counts, one without a number is one.
        let d = keys("time,dimension,quantity\n2026-11-21T11:00:00Z,requests,1\n");
        assert_eq!(d, keys("time,dimension\n2026-11-21T11:00:00Z,requests\n"));
    }

    #[test]
    fn a_quote_that_is_left_open_swallows_no_rows() {
        let sheet = read(
            "time,dimension,quantity,key\n2026-11-21T11:00:00Z,requests,1,\"a\n2026-11-21T11:00:00Z,requests,500,b\n",
        );
        let sheet = sheet.unwrap();
        assert_eq!((sheet.rows.len(), sheet.wrong.len()), (0, 1));
    }

    #[test]
    fn every_wrong_line_is_named() {
        let text = "time,dimension,quantity,key,tags,customer\n\
                    2026-11-21T11:00:00Z,requests,1,,,\n\
                    2026-11-21T11:00:00Z,requets,1,,,\n\
                    2026-11-01T11:00:00Z,requests,1,,,\n\
                    2026-11-21T11:00:00Z,requests,-1,,,\n\
                    yesterday,requests,1,,,\n\
                    2026-11-21T11:00:00Z,requests,1,,team,\n\
                    2026-11-21T11:00:00Z,requests,1\n\
                    2026-11-21T11:00:00Z,requests,1,,,12\n\
                    ,requests,1,,,\n\
                    2026-11-21T11:00:00Z,requests,0.0000001,,,\n";
        let sheet = read(text).unwrap();
        assert_eq!(sheet.wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), (3..=11).collect::<Vec<_>>());
        assert_eq!(sheet.rows.len(), 1);
        assert!(read("time,dimension,quantity,price\n").unwrap_err().contains("no column is called \"price\""));
        assert!(read("dimension,quantity\n").unwrap_err().contains("no column time"));
    }
}
