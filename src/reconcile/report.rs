//! The seller's usage reports, as AWS Marketplace gives them out (CSV with a heading): the usage dashboard's export, the
//! daily usage data feed, the daily business report, or anything with the same columns. They are by day, not by hour, and
//! have the usage of all buyers and instances.
//!
//! Columns, in any order; capitals, spaces and underlines do not count:
//!
//! | column | other names | read as |
//! | --- | --- | --- |
//! | `usage_date` | Date, Day, Timestamp, Time, Hour | `2026-11-21`, with or without a time, or `Nov 21, 2026`. Where there is no such column each row is of the whole period, which must then be named |
//! | `dimension_key` | Dimension, Usage dimension | the dimension; required |
//! | `usage_quantity` | Usage units, Usage quantity, Quantity, Units | billed units, a decimal; required |
//! | `customer_aws_account_id` | Subscriber AWS account ID, Customer AWS account number, Customer | the buyer. (The data feed's `end_user_account_id` is a hash, and is not read.) |
//! | `product_code` | | other products are passed over |
//! | `usage_feed_id`, `valid_from`, `delete_date` | | of the data feed's rows with one id the newest counts, and none if that was deleted |
//!
//! Every other column is passed over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;

use csv::{ReaderBuilder, StringRecord, Trim};
use serde::Serialize;

use super::{Ours, Period, event};
use crate::decimal::Amount;
use crate::hour::{Hour, Timestamp};

/// What a day's total is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Its first hour; none: the whole period.
    day: Option<Hour>,
    dimension: String,
    customer: Option<String>,
}

/// What a report says, summed by day, dimension and customer.
#[derive(Debug, Default)]
pub struct Report {
    sums: BTreeMap<Key, Amount>,
    has_days: bool,
    has_customers: bool,
    other_products: u64,
}

/// A day of a dimension, from both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Day {
    /// The day; none: the whole period.
    pub day: Option<String>,
    /// The dimension.
    pub dimension: String,
    /// The buyer, where both sides name one.
    pub customer: Option<String>,
    /// Billed units that AWS accepted, says this log.
    pub ours: String,
    /// Billed units in the report.
    pub aws: String,
    /// Whether they are equal.
    pub equal: bool,
}

/// What came of a report.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// Days that are equal, by dimension and customer.
    pub equal: u64,
    /// Those that are not.
    pub different: u64,
    /// Rows of other products.
    pub other_products: u64,
    /// All of them.
    pub days: Vec<Day>,
}

/// Where the columns stand.
struct Columns {
    day: Option<usize>,
    dimension: usize,
    quantity: usize,
    customer: Option<usize>,
    product: Option<usize>,
    feed: Option<usize>,
    valid_from: Option<usize>,
    deleted: Option<usize>,
}

impl Columns {
    fn of(heading: &StringRecord) -> Result<Columns, String> {
        let plain = |name: &str| {
            name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect::<String>()
        };
        let names: Vec<String> = heading.iter().map(plain).collect();
        let find = |known: &[&str]| known.iter().find_map(|wanted| names.iter().position(|name| name == wanted));
        let must = |known: &[&str], what: &str| {
            find(known).ok_or_else(|| {
                let there: Vec<&str> = heading.iter().collect();
                format!("no column {what}; there are: {}", there.join(", "))
            })
        };
        Ok(Columns {
            day: find(&["usagedate", "date", "day", "timestamp", "time", "hour"]),
            dimension: must(&["dimensionkey", "usagedimension", "dimension"], "dimension_key (or Dimension)")?,
            quantity: must(
                &["usagequantity", "usageunits", "quantity", "units"],
                "usage_quantity (or Usage units, Quantity)",
            )?,
            customer: find(&[
                "customerawsaccountid",
                "subscriberawsaccountid",
                "customerawsaccountnumber",
                "customeraccountid",
                "customer",
            ]),
            product: find(&["productcode"]),
            feed: find(&["usagefeedid"]),
            valid_from: find(&["validfrom"]),
            deleted: find(&["deletedate"]),
        })
    }
}

impl Report {
    /// Reads a file, and adds it to what was read before. `product`: the code of ours.
    ///
    /// # Errors
    /// A sentence with the line, if a column is missing or a value cannot be read.
    pub fn read(&mut self, input: impl Read, product: Option<&str>) -> Result<(), String> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(input);
        let heading = reader.headers().map_err(|error| error.to_string())?.clone();
        // A spreadsheet's byte order mark is no part of the first name: `of` passes over whatever is no letter or digit.
        let columns = Columns::of(&heading)?;
        let mut versions: HashMap<String, (String, Option<(Key, Amount)>)> = HashMap::new();
        for row in reader.records() {
            let row = row.map_err(|error| error.to_string())?;
            let line = row.position().map_or(0, csv::Position::line);
            let at = |column: Option<usize>| column.and_then(|at| row.get(at)).filter(|text| !text.is_empty());
            let wrong = |what: String| format!("line {line}: {what}");
            if let (Some(ours), Some(its)) = (product, at(columns.product))
                && ours != its
            {
                self.other_products += 1;
                continue;
            }
            let day = match (columns.day, at(columns.day)) {
                (None, _) => None,
                (Some(_), Some(text)) => Some(day(text).ok_or_else(|| wrong(format!("{text:?} is no day")))?),
                (Some(_), None) => return Err(wrong("no day".into())),
            };
            let dimension = at(Some(columns.dimension)).ok_or_else(|| wrong("no dimension".into()))?.to_owned();
            let quantity = at(Some(columns.quantity)).ok_or_else(|| wrong("no quantity".into()))?;
            // As spreadsheets show them: 1,234.00.
            let quantity = Amount::parse_quantity(&quantity.replace(',', ""))
                .map_err(|error| wrong(format!("the quantity {quantity:?}: {error}")))?;
            let key = Key { day, dimension, customer: at(columns.customer).map(str::to_owned) };
            match at(columns.feed) {
                None => self.add(key, quantity),
                Some(id) => {
                    let valid_from = at(columns.valid_from).unwrap_or_default().to_owned();
                    let value = at(columns.deleted).is_none().then_some((key, quantity));
                    let known = versions.entry(id.to_owned()).or_default();
                    if valid_from >= known.0 {
                        *known = (valid_from, value);
                    }
                }
            }
        }
        self.has_days |= columns.day.is_some();
        self.has_customers |= columns.customer.is_some();
        for (key, quantity) in versions.into_values().filter_map(|(_, value)| value) {
            self.add(key, quantity);
        }
        Ok(())
    }

    fn add(&mut self, key: Key, quantity: Amount) {
        *self.sums.entry(key).or_default() += quantity;
    }

    /// Holds it against what this log says AWS accepted. Without a period it is the days that the report has.
    ///
    /// # Errors
    /// A sentence, if it needs a period and none is named.
    pub fn compare(self, ours: &Ours, period: Option<Period>) -> Result<Compared, String> {
        let days: BTreeSet<Hour> = self.sums.keys().filter_map(|key| key.day).collect();
        let in_days = days
            .first()
            .zip(days.last())
            .map(|(first, last)| Period { from: *first, to: Hour::from_index(last.index().saturating_add(24)) });
        let Some(period) = period.or(in_days) else {
            return Err("the report has no column with a day: say which month it is with --month".into());
        };
        // An AMI's log does not know its buyer: then all rows count, or those that `of_customer` left.
        let by_customer = self.has_customers && ours.records.keys().any(|bucket| bucket.customer.is_some());
        let mut both: BTreeMap<Key, (Amount, Amount)> = BTreeMap::new();
        for (key, quantity) in self.sums {
            if key.day.is_none_or(|day| period.has(day)) {
                let customer = key.customer.filter(|_| by_customer);
                both.entry(Key { customer, ..key }).or_default().1 += quantity;
            }
        }
        for (bucket, own) in ours.records.iter().filter(|(bucket, own)| own.is_accepted() && period.has(bucket.hour)) {
            let day = self.has_days.then(|| day_of(bucket.hour));
            let customer = bucket.customer.clone().filter(|_| by_customer);
            let key = Key { day, dimension: bucket.dimension.clone(), customer };
            both.entry(key).or_default().0 += Amount::from_units(i64::from(own.quantity));
        }
        let days = both.into_iter().map(|(key, (ours, aws))| Day {
            day: key.day.map(|day| day.to_string().chars().take(10).collect()),
            dimension: key.dimension,
            customer: key.customer,
            ours: ours.to_string(),
            aws: aws.to_string(),
            equal: ours == aws,
        });
        let days: Vec<Day> = days.filter(|day| !day.equal || day.ours != "0").collect();
        let equal = days.iter().filter(|day| day.equal).count() as u64;
        Ok(Compared { equal, different: days.len() as u64 - equal, other_products: self.other_products, days })
    }

    /// Only this buyer's rows.
    pub fn of_customer(mut self, account: &str) -> Report {
        self.sums.retain(|key, _| key.customer.as_deref() == Some(account));
        self
    }
}

fn day_of(hour: Hour) -> Hour {
    Hour::from_index(hour.index() / 24 * 24)
}

/// The first hour of a day.
fn day(text: &str) -> Option<Hour> {
    let date: String = text.chars().take(10).collect();
    let moment = Timestamp::parse(&format!("{date}T00:00:00Z"));
    let in_words = || event::in_words(&format!("{text} 12:00:00 AM"));
    moment.or_else(in_words).map(|moment| day_of(moment.hour()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(csv: &str) -> Result<Vec<(Option<String>, String, String)>, String> {
        let mut report = Report::default();
        report.read(csv.as_bytes(), Some("prod"))?;
        let row =
            |(key, sum): (&Key, &Amount)| (key.day.map(|d| d.to_string()), key.dimension.clone(), sum.to_string());
        Ok(report.sums.iter().map(row).collect())
    }

    #[test]
    fn columns_are_found_by_any_of_their_names() {
        let day = Some("2026-11-21T00:00:00Z".to_owned());
        let one = Ok(vec![(day, "requests".to_owned(), "1234".to_owned())]);
        assert_eq!(sums("Usage date,Dimension key,Usage units\n2026-11-21,requests,\"1,234.00\"\n"), one);
        assert_eq!(sums("\u{feff}Units,Day,Dimension\n1234,\"Nov 21, 2026\",requests\n"), one);
        // The data feed: the newest version of a row counts, a deleted one does not.
        let feed = "usage_feed_id,valid_from,delete_date,usage_date,dimension_key,usage_quantity\n\
                    a,2026-11-23,,2026-11-21 00:00:00,requests,1234\na,2026-11-22,,2026-11-21,requests,7\n\
                    b,2026-11-22,,2026-11-21,requests,9\nb,2026-11-24,2026-11-24,2026-11-21,requests,9\n";
        assert_eq!(sums(feed), one);
        assert_eq!(sums("day,product_code,dimension,units\n2026-11-21,other,requests,1\n"), Ok(vec![]));
        assert!(sums("day,units\n").unwrap_err().contains("no column dimension_key"));
        assert_eq!(sums("day,dimension,units\nx,requests,1\n").unwrap_err(), "line 2: \"x\" is no day");
        assert!(sums("day,dimension,units\n2026-11-21,requests,-1\n").unwrap_err().starts_with("line 2: the quantity"));
    }
}
