//! The dimensions: each by itself, and what they say about one another.

use std::collections::BTreeMap;

use super::check::{characters, ids, word};
use super::error::{Refusal, quoted};
use super::raw::{RawDimension, RawIncluded, RawSource};
use super::table::{Field, Findings, Place, RawDecimal};
use super::{Dimension, Included, Measure, ProductKind, Round, Source, limits, names};
use crate::decimal::Amount;

const DECIMAL: &str = "below 10^12 with at most 6 decimals";

/// What a dimension's name means to the `from` of another one.
struct Named {
    line: u32,
    /// None if it was refused.
    measure: Option<Measure>,
    is_made: bool,
    /// The first dimension that is made of it.
    part_of: Option<String>,
}

/// All dimensions, in the order of the file.
pub(super) fn dimensions(
    raw: Field<Vec<RawDimension>>,
    kind: Option<ProductKind>,
    findings: &mut Findings<'_>,
) -> Vec<Dimension> {
    let range = &limits::DIMENSIONS;
    let allowed = format!("allowed: {} to {} [[dimension]] tables", range.start(), range.end());
    let list = match raw {
        Field::Given(list, _) => list,
        Field::Refused => return Vec::new(),
        Field::Absent => Vec::new(),
    };
    if list.len() < *range.start() {
        findings.add(1, "there is no dimension".to_owned(), allowed);
    } else if let Some(first_too_many) = list.get(*range.end()) {
        findings.add(first_too_many.line, format!("there are {} dimensions", list.len()), allowed);
    }
    let known = known_names(&list, findings);
    list.into_iter().map(|raw| dimension(raw, kind, &known, findings)).collect()
}

/// Every name with what others may need to know of it; a name given twice is found here.
fn known_names(list: &[RawDimension], findings: &mut Findings<'_>) -> BTreeMap<String, Named> {
    let mut known: BTreeMap<String, Named> = BTreeMap::new();
    for raw in list {
        let Field::Given(name, place) = &raw.name else { continue };
        if let Some(first) = known.get(name) {
            let what = format!("is {}, as in line {} already", quoted(name), first.line);
            findings.refuse(place, Refusal::new(what, "give every dimension a name of its own"));
            continue;
        }
        let measure = match &raw.measure {
            Field::Absent => Some(Measure::Sum),
            Field::Given(text, _) => word(text).ok(),
            Field::Refused => None,
        };
        let is_made = raw.from.given().is_some_and(|sources| !sources.is_empty());
        known.insert(name.clone(), Named { line: place.line, measure, is_made, part_of: None });
    }
    for (made, source) in list.iter().flat_map(pairs) {
        if let Some(source) = known.get_mut(source) {
            source.part_of.get_or_insert_with(|| made.to_owned());
        }
    }
    known
}

/// Every dimension that is made of others, with each of those.
fn pairs(raw: &RawDimension) -> impl Iterator<Item = (&str, &str)> {
    let sources = raw.from.given().into_iter().flatten();
    raw.name.given().into_iter().flat_map(move |made| {
        sources.clone().filter_map(|source| source.name.given()).map(|source| (made.as_str(), source.as_str()))
    })
}

fn dimension(
    raw: RawDimension,
    kind: Option<ProductKind>,
    known: &BTreeMap<String, Named>,
    findings: &mut Findings<'_>,
) -> Dimension {
    let name = name(raw.name, raw.line, kind, findings);
    let measure_place = raw.measure.place();
    // None where it was refused: what depends on it is then not judged.
    let measure = match raw.measure {
        Field::Absent => Some(Measure::Sum),
        given => findings.or(given, None, |text| word(&text).map(Some)),
    };
    if let (Some(place), Some(Measure::Uptime), Some(ProductKind::Saas)) = (&measure_place, measure, kind) {
        let what = "is \"uptime\", which is this agent's own running time and no customer's";
        findings.refuse(place, Refusal::new(what, "report a sum of seconds for each customer"));
    }
    let sticky_place = raw.sticky.place();
    let sticky = findings.or(raw.sticky, false, Ok);
    if let (true, Some(place), Some(other)) = (sticky, sticky_place, measure.filter(|m| *m != Measure::Last)) {
        let what = format!("is true for measure \"{other}\"");
        findings.refuse(&place, Refusal::new(what, "allowed: only with measure = \"last\""));
    }
    let from = match raw.from {
        Field::Given(sources, place) if !sources.is_empty() => {
            if let Some(other) = measure.filter(|m| *m != Measure::Sum) {
                let place = measure_place.unwrap_or(place);
                let what = format!("is \"{other}\" with a `from`");
                findings.refuse(&place, Refusal::new(what, "allowed: only measure = \"sum\", the sum of its sources"));
            }
            sources_of(sources, &name, known, findings)
        }
        _ => Vec::new(),
    };
    let measure = measure.unwrap_or(Measure::Sum);
    let places = [raw.unit.place(), raw.round.place(), raw.hold_above.place(), raw.included.place()];
    let dimension = Dimension {
        measure,
        sticky,
        unit: findings.or(raw.unit, Amount::from_units(1), above_zero),
        round: findings.or(raw.round, default_round(measure), |text| word(&text)),
        hold_above: findings.maybe(raw.hold_above, not_negative),
        included: match raw.included {
            Field::Given(included, _) => self::included(included, findings),
            Field::Absent | Field::Refused => None,
        },
        price: findings.maybe(raw.price, not_negative),
        allow_users: ids(raw.allow_users, names::Kind::User, findings),
        from,
        name,
    };
    if let Some(made) = known.get(&dimension.name).and_then(|named| named.part_of.as_deref()) {
        refuse_what_a_part_ignores(&dimension, made, places, findings);
    }
    dimension
}

/// A part of another dimension is not billed itself. A line about money that is ignored is a wrong bill.
fn refuse_what_a_part_ignores(
    part: &Dimension,
    made: &str,
    [unit, round, hold_above, included]: [Option<Place>; 4],
    findings: &mut Findings<'_>,
) {
    let said = [
        (part.unit != Amount::from_units(1), unit),
        (part.round != default_round(part.measure), round),
        (part.hold_above.is_some(), hold_above),
        (part.included.is_some(), included),
    ];
    for place in said.into_iter().filter_map(|(said, place)| place.filter(|_| said)) {
        let what = format!("is given for a part of {}, which is billed instead", quoted(made));
        findings.refuse(&place, Refusal::new(what, format!("write it at {}", quoted(made))));
    }
}

fn name(raw: Field<String>, line: u32, kind: Option<ProductKind>, findings: &mut Findings<'_>) -> String {
    // A kind that was refused is judged as the wider one.
    let range = match kind {
        Some(ProductKind::Ami) => &limits::DIMENSION_NAME_CHARS_AMI,
        Some(ProductKind::Saas) | None => &limits::DIMENSION_NAME_CHARS_SAAS,
    };
    let remedy = "write the dimension's name as published in the listing";
    let checked = findings.required(raw, ("dimension.name", line), remedy, |name| {
        characters(name, range, "A-Z a-z 0-9 _", |c| c.is_ascii_alphanumeric() || c == '_')
    });
    checked.unwrap_or_default()
}

/// Totals lose nothing by carrying; a peak or a head count below one unit would never be billed by it.
fn default_round(measure: Measure) -> Round {
    match measure {
        Measure::Sum | Measure::Count => Round::Carry,
        Measure::Max | Measure::Last | Measure::Unique | Measure::Uptime => Round::Up,
    }
}

fn included(raw: RawIncluded, findings: &mut Findings<'_>) -> Option<Included> {
    let remedy = "write quantity = \"1000\", in usage units";
    let quantity = findings.required(raw.quantity, ("dimension.included.quantity", raw.line), remedy, not_negative);
    let remedy = "write per = \"hour\" or per = \"month\"";
    let per = findings.required(raw.per, ("dimension.included.per", raw.line), remedy, |text| word(&text));
    Some(Included { quantity: quantity?, per: per? })
}

fn sources_of(
    sources: Vec<RawSource>,
    made: &str,
    known: &BTreeMap<String, Named>,
    findings: &mut Findings<'_>,
) -> Vec<Source> {
    let mut taken: Vec<Source> = Vec::new();
    for raw in sources {
        let remedy = "name another dimension";
        let name = findings.required(raw.name, ("dimension.from.name", raw.line), remedy, |name| {
            source_name(name, made, known, &taken)
        });
        let remedy = "write how many units of this dimension one of the source makes: weight = \"1\"";
        let weight = findings.required(raw.weight, ("dimension.from.weight", raw.line), remedy, weight);
        if let (Some(name), Some(weight)) = (name, weight) {
            taken.push(Source { name, weight });
        }
    }
    taken
}

fn source_name(name: String, made: &str, known: &BTreeMap<String, Named>, taken: &[Source]) -> Result<String, Refusal> {
    let refuse = |why: &str, remedy: String| Err(Refusal::new(format!("is {}{why}", quoted(&name)), remedy));
    if name == made {
        return refuse(", the dimension itself", "name another dimension".to_owned());
    }
    let Some(source) = known.get(&name) else {
        let others: Vec<&str> = known.keys().map(String::as_str).filter(|other| *other != made).collect();
        return refuse(", but there is no such dimension", format!("add it, or name one of: {}", others.join(", ")));
    };
    if source.is_made {
        return refuse(", which has a `from` itself", "name what that one is made from".to_owned());
    }
    if let Some(other) = source.measure.filter(|m| !matches!(m, Measure::Sum | Measure::Count)) {
        return refuse(
            &format!(", whose measure is \"{other}\""),
            "allowed: measures \"sum\" and \"count\"".to_owned(),
        );
    }
    if let Some(other) = source.part_of.as_ref().filter(|other| *other != made) {
        return refuse(
            &format!(", which {} is made of already", quoted(other)),
            "what is reported is billed once".to_owned(),
        );
    }
    if taken.iter().any(|earlier| earlier.name == name) {
        return refuse(" a second time", "name each source once, with the sum of its weights".to_owned());
    }
    Ok(name)
}

fn not_negative(RawDecimal(text): RawDecimal) -> Result<Amount, Refusal> {
    Amount::parse_quantity(&text)
        .map_err(|why| Refusal::new(format!("is {}: {why}", quoted(&text)), format!("allowed: 0 or more, {DECIMAL}")))
}

fn weight(raw: RawDecimal) -> Result<Amount, Refusal> {
    let most = limits::WEIGHT_MAX;
    let RawDecimal(text) = &raw;
    let too_large =
        Refusal::new(format!("is {}", quoted(text)), format!("allowed: above 0, up to {most}, at most 6 decimals"));
    match above_zero(raw)? {
        weight if weight > Amount::from_units(most) => Err(too_large),
        weight => Ok(weight),
    }
}

fn above_zero(RawDecimal(text): RawDecimal) -> Result<Amount, Refusal> {
    let refuse =
        |why: String| Refusal::new(format!("is {}{why}", quoted(&text)), format!("allowed: above 0, {DECIMAL}"));
    match Amount::parse_quantity(&text) {
        Ok(amount) if amount > Amount::ZERO => Ok(amount),
        Ok(_) => Err(refuse(String::new())),
        Err(why) => Err(refuse(format!(": {why}"))),
    }
}
