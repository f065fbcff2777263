//! What an event of the Metering Service says: which records AWS took, and which it did not.
//!
//! | field | read as |
//! | --- | --- |
//! | `eventSource` | `metering-marketplace.amazonaws.com`, else the event is passed over |
//! | `eventName` | `MeterUsage` or `BatchMeterUsage`, else passed over |
//! | `eventID` | an event that was delivered before says nothing new |
//! | `errorCode` | AWS took nothing; `DryRunOperation` is a dry run that was granted |
//! | `userIdentity` | who called: the instance that `inScopeOf.credentialsIssuedTo` names, else the session in `arn` or `principalId` (an instance's own id, where its profile's role is used), else `accessKeyId` |
//! | `requestParameters` of MeterUsage | `productCode`, `usageDimension`, `usageQuantity` (absent: 0), `timestamp`, `dryRun` |
//! | `responseElements` of MeterUsage | `meteringRecordId` |
//! | `requestParameters` of BatchMeterUsage | `productCode` |
//! | `responseElements` of BatchMeterUsage | `results`: `status`, `meteringRecordId`, and of `usageRecord` the `dimension`, `quantity`, `timestamp`, `customerAWSAccountId` (else `customerIdentifier`), `licenseArn`; `unprocessedRecords` |
//!
//! Names of fields are compared without regard to case. A timestamp is CloudTrail's `Nov 21, 2026 11:59:59 AM` (in UTC),
//! RFC 3339 or seconds since 1970.

use serde_json::{Map, Value};
use time::PrimitiveDateTime;
use time::format_description::parse_borrowed;

use super::{Bucket, QUANTITY_MAX};
use crate::hour::Timestamp;

const SOURCE: &str = "metering-marketplace.amazonaws.com";
const DRY_RUN: &str = "DryRunOperation";

/// An event, as far as it concerns metering.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The event's own id.
    pub id: Option<String>,
    /// When AWS got it.
    pub at: Option<Timestamp>,
    /// Who called.
    pub caller: String,
    /// The product, where the call names one.
    pub product: Option<String>,
    /// What came of it, record by record.
    pub said: Vec<Said>,
}

/// What AWS said to one record, or to a whole call.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// It stands at AWS.
    Taken(Taken),
    /// A dry run: nothing was to be taken.
    DryRun,
    /// AWS did not take it: an exception, or a status of BatchMeterUsage.
    Refused(String),
    /// AWS left it for another call.
    Unprocessed,
    /// It cannot be told.
    Unreadable(String),
}

/// A record that AWS took.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// What it stands for.
    pub bucket: Bucket,
    /// Billed units.
    pub quantity: u32,
    /// AWS's id.
    pub record_id: Option<String>,
}

/// Reads an event; nothing if it is another service's or another call's.
pub fn read(event: &Map<String, Value>) -> Option<Call> {
    let name = text(event, "eventName").filter(|_| text(event, "eventSource").is_none_or(|source| source == SOURCE))?;
    let (request, answer) = (object(event, "requestParameters"), object(event, "responseElements"));
    let error = text(event, "errorCode").filter(|code| !code.is_empty());
    let said = match (name, error) {
        ("MeterUsage" | "BatchMeterUsage", Some(DRY_RUN)) => vec![Said::DryRun],
        ("MeterUsage", None) if field(&request, "dryRun") == Some(&Value::Bool(true)) => vec![Said::DryRun],
        ("MeterUsage" | "BatchMeterUsage", Some(code)) => vec![Said::Refused(code.to_owned())],
        ("MeterUsage", None) => {
            vec![taken(&request, "usageDimension", "usageQuantity", text(&answer, "meteringRecordId"))]
        }
        ("BatchMeterUsage", None) => batch(&answer),
        _ => return None,
    };
    Some(Call {
        id: text(event, "eventID").map(str::to_owned),
        at: text(event, "eventTime").and_then(Timestamp::parse),
        caller: caller(&object(event, "userIdentity")),
        product: text(&request, "productCode").filter(|code| !code.is_empty()).map(str::to_owned),
        said,
    })
}

fn batch(answer: &Map<String, Value>) -> Vec<Said> {
    let list = |name| field(answer, name).and_then(Value::as_array).map(Vec::as_slice);
    let results = list("results");
    let unprocessed = list("unprocessedRecords").unwrap_or_default();
    if results.is_none() && unprocessed.is_empty() {
        return vec![Said::Unreadable("a BatchMeterUsage without results".into())];
    }
    let one = |result: &Value| {
        let Some(result) = result.as_object() else { return Said::Unreadable("a result that is no object".into()) };
        match text(result, "status") {
            None | Some("Success") => {
                taken(&object(result, "usageRecord"), "dimension", "quantity", text(result, "meteringRecordId"))
            }
            Some(status) => Said::Refused(status.to_owned()),
        }
    };
    let results = results.unwrap_or_default().iter().map(one);
    results.chain(unprocessed.iter().map(|_| Said::Unprocessed)).collect()
}

fn taken(record: &Map<String, Value>, dimension: &str, quantity: &str, id: Option<&str>) -> Said {
    let read = || -> Result<Taken, String> {
        let dimension = text(record, dimension).ok_or_else(|| format!("no {dimension}"))?;
        let quantity = match field(record, quantity) {
            None | Some(Value::Null) => 0,
            Some(value) => whole(value).ok_or_else(|| format!("{quantity} is {value}, no whole number of units"))?,
        };
        let at = field(record, "timestamp").ok_or("no timestamp")?;
        let at = moment(at).ok_or_else(|| format!("timestamp is {at}"))?;
        let customer = text(record, "customerAWSAccountId").or_else(|| text(record, "customerIdentifier"));
        let bucket = Bucket {
            hour: at.hour(),
            dimension: dimension.to_owned(),
            customer: customer.map(str::to_owned),
            license: text(record, "licenseArn").map(str::to_owned),
        };
        Ok(Taken { bucket, quantity, record_id: id.map(str::to_owned) })
    };
    read().map_or_else(Said::Unreadable, Said::Taken)
}

/// Billed units are integers, and never pass through a float.
fn whole(value: &Value) -> Option<u32> {
    let read = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u32::try_from(read).ok().filter(|quantity| *quantity <= QUANTITY_MAX)
}

fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(seconds) => Timestamp::parse(&seconds.to_string()),
        Value::String(text) => Timestamp::parse(text).or_else(|| in_words(text)),
        _ => None,
    }
}

/// `Nov 21, 2026 11:59:59 AM`, in UTC. Newer versions of what writes it have a narrow space before the last word.
pub(super) fn in_words(text: &str) -> Option<Timestamp> {
    const FORM: &str =
        "[month repr:short] [day padding:none] [year] [hour repr:12 padding:none]:[minute]:[second] [period]";
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).collect();
    let form = parse_borrowed::<2>(FORM).ok()?;
    let moment = PrimitiveDateTime::parse(&words.join(" "), &form).ok()?;
    Some(Timestamp::from_seconds(moment.assume_utc().unix_timestamp()))
}

/// The instance or session that called; empty where the event says nothing of it.
fn caller(identity: &Map<String, Value>) -> String {
    let last = |text: &str, at: char| text.rsplit(at).next().unwrap_or(text).to_owned();
    let issued_to = object(identity, "inScopeOf");
    if let Some(instance) = text(&issued_to, "credentialsIssuedTo").filter(|arn| arn.contains(":instance/")) {
        return last(instance, '/');
    }
    let session = text(identity, "arn").filter(|arn| arn.contains(":assumed-role/")).map(|arn| last(arn, '/'));
    let principal = || text(identity, "principalId").filter(|id| id.contains(':')).map(|id| last(id, ':'));
    let key = || text(identity, "accessKeyId").filter(|key| !key.is_empty()).map(str::to_owned);
    session.or_else(principal).or_else(key).unwrap_or_default()
}

fn field<'a>(of: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    of.get(name).or_else(|| of.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

fn text<'a>(of: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    field(of, name)?.as_str()
}

/// Empty where there is none, or null.
fn object(of: &Map<String, Value>, name: &str) -> Map<String, Value> {
    field(of, name).and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloudtrails_way_to_write_a_moment() {
        let expected = Timestamp::parse("2018-04-19T16:32:50Z");
        for text in ["Apr 19, 2018 4:32:50 PM", "Apr 19, 2018, 4:32:50\u{202f}PM", "Apr 19, 2018 04:32:50 PM"] {
            assert_eq!(in_words(text), expected, "{text}");
        }
        assert_eq!(in_words("Nov 1, 2026 12:00:00 AM"), Timestamp::parse("2026-11-01T00:00:00Z"));
        assert_eq!(in_words("Nov 31, 2026 12:00:00 AM"), None);
        assert_eq!(moment(&serde_json::json!(1_795_262_399)), Timestamp::parse("2026-11-21T11:59:59Z"));
    }

    #[test]
    fn units_are_whole() {
        use serde_json::json;
        assert_eq!(whole(&json!(7)), Some(7));
        assert_eq!(whole(&json!("7")), Some(7));
        assert_eq!(whole(&json!(2_147_483_647)), Some(QUANTITY_MAX));
        for wrong in [json!(7.5), json!(7.0), json!(-1), json!(2_147_483_648_u64), json!("7.0"), json!(null)] {
            assert_eq!(whole(&wrong), None, "{wrong}");
        }
    }
}
