//! What stands in the file, key by key, each value with its line and none of them judged yet.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::table::{Field, Findings, Name, Place, RawDecimal, RawDuration, RawId, RawMode, Table};

pub(super) type Items<T> = Field<Vec<Field<T>>>;

pub(super) struct Raw {
    pub product: RawProduct,
    pub dimensions: Field<Vec<RawDimension>>,
    pub socket: RawSocket,
    pub alert_command: Items<String>,
    pub state: RawState,
    pub submit: RawSubmit,
    pub instance_id: Field<String>,
    pub grace: Field<RawDuration>,
    pub warn_after: Field<RawDuration>,
    pub close_after: Field<RawDuration>,
}

pub(super) struct RawProduct {
    /// Of its heading: where a missing key is missed.
    pub line: u32,
    pub code: Field<String>,
    pub kind: Field<String>,
}

pub(super) struct RawDimension {
    /// Of its heading.
    pub line: u32,
    pub name: Field<String>,
    pub measure: Field<String>,
    pub sticky: Field<bool>,
    pub unit: Field<RawDecimal>,
    pub round: Field<String>,
    pub hold_above: Field<RawDecimal>,
    pub included: Field<RawIncluded>,
    pub price: Field<RawDecimal>,
    pub allow_users: Items<RawId>,
    pub from: Field<Vec<RawSource>>,
}

pub(super) struct RawIncluded {
    pub line: u32,
    pub quantity: Field<RawDecimal>,
    pub per: Field<String>,
}

pub(super) struct RawSource {
    pub line: u32,
    pub name: Field<String>,
    pub weight: Field<RawDecimal>,
}

pub(super) struct RawSocket {
    pub path: Field<String>,
    pub mode: Field<RawMode>,
    pub allow_users: Items<RawId>,
    pub allow_groups: Items<RawId>,
    pub allow_read_users: Items<RawId>,
}

pub(super) struct RawState {
    pub dir: Field<String>,
    pub segment_bytes: Field<i128>,
    pub retain_days: Field<i128>,
    pub allow_volatile: Field<bool>,
}

pub(super) struct RawSubmit {
    pub region: Field<String>,
    pub endpoint_url: Field<String>,
    pub credentials: Field<String>,
    pub profile: Field<String>,
    pub role_arn: Field<String>,
    pub offset: Field<RawDuration>,
    pub window: Field<RawDuration>,
    pub late: Field<String>,
    pub zero_records: Field<String>,
    pub calls_in_flight: Field<i128>,
}

/// Reads every key of the file. Wrong types and unknown keys go to `findings`.
pub(super) fn read(document: &DeTable<'_>, findings: &mut Findings<'_>) -> Raw {
    let mut top = Table::new(name("the file", ""), 1, Field::Given(document, Place { key: String::new(), line: 1 }));
    let product = section(&mut top, "product", name("[product]", "product."), findings, |t, f| RawProduct {
        line: t.line,
        code: t.take("code", f),
        kind: t.take("kind", f),
    });
    let dimensions =
        top.tables("dimension", name("[[dimension]]", "dimension."), findings).and_then(|tables, place| {
            Field::Given(tables.into_iter().map(|table| dimension(table, findings)).collect(), place)
        });
    let socket = section(&mut top, "socket", name("[socket]", "socket."), findings, |t, f| RawSocket {
        path: t.take("path", f),
        mode: t.take("mode", f),
        allow_users: t.list("allow_users", f),
        allow_groups: t.list("allow_groups", f),
        allow_read_users: t.list("allow_read_users", f),
    });
    let alert_command = section(&mut top, "alert", name("[alert]", "alert."), findings, |t, f| t.list("command", f));
    let state = section(&mut top, "state", name("[state]", "state."), findings, |t, f| RawState {
        dir: t.take("dir", f),
        segment_bytes: t.take("segment_bytes", f),
        retain_days: t.take("retain_days", f),
        allow_volatile: t.take("allow_volatile", f),
    });
    let submit = section(&mut top, "submit", name("[submit]", "submit."), findings, |t, f| RawSubmit {
        region: t.take("region", f),
        endpoint_url: t.take("endpoint_url", f),
        credentials: t.take("credentials", f),
        profile: t.take("profile", f),
        role_arn: t.take("role_arn", f),
        offset: t.take("offset", f),
        window: t.take("window", f),
        late: t.take("late", f),
        zero_records: t.take("zero_records", f),
        calls_in_flight: t.take("calls_in_flight", f),
    });
    let instance_id = section(&mut top, "instance", name("[instance]", "instance."), findings, |t, f| t.take("id", f));
    let grace = section(&mut top, "hour", name("[hour]", "hour."), findings, |t, f| t.take("grace", f));
    let (warn_after, close_after) = section(&mut top, "gate", name("[gate]", "gate."), findings, |t, f| {
        (t.take("warn_after", f), t.take("close_after", f))
    });
    top.finish(findings);
    Raw { product, dimensions, socket, alert_command, state, submit, instance_id, grace, warn_after, close_after }
}

const fn name(title: &'static str, prefix: &'static str) -> Name {
    Name { title, prefix }
}

/// Reads one section with `take`. A section that is not there has no keys.
fn section<'t, T>(
    top: &mut Table<'t>,
    key: &'static str,
    name: Name,
    findings: &mut Findings<'_>,
    take: impl FnOnce(&mut Table<'t>, &mut Findings<'_>) -> T,
) -> T {
    let mut table = match top.table(key, name, findings) {
        Field::Given(table, _) => table,
        Field::Absent => Table::new(name, 1, Field::Absent),
        Field::Refused => Table::new(name, 1, Field::Refused),
    };
    let taken = take(&mut table, findings);
    table.finish(findings);
    taken
}

fn dimension(mut table: Table<'_>, findings: &mut Findings<'_>) -> RawDimension {
    let dimension = RawDimension {
        line: table.line,
        name: table.take("name", findings),
        measure: table.take("measure", findings),
        sticky: table.take("sticky", findings),
        unit: table.take("unit", findings),
        round: table.take("round", findings),
        hold_above: table.take("hold_above", findings),
        included: included(&mut table, findings),
        price: table.take("price", findings),
        allow_users: table.list("allow_users", findings),
        from: sources(&mut table, findings),
    };
    table.finish(findings);
    dimension
}

fn included(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Field<RawIncluded> {
    let name = name("included = { … }", "dimension.included.");
    table.table("included", name, findings).and_then(|mut inner, place| {
        let quantity = inner.take("quantity", findings);
        let included = RawIncluded { line: inner.line, quantity, per: inner.take("per", findings) };
        inner.finish(findings);
        Field::Given(included, place)
    })
}

fn sources(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Field<Vec<RawSource>> {
    let name = name("from = [{ … }]", "dimension.from.");
    table.tables("from", name, findings).and_then(|sources, place| {
        let read = |mut inner: Table<'_>| {
            let name = inner.take("name", findings);
            let source = RawSource { line: inner.line, name, weight: inner.take("weight", findings) };
            inner.finish(findings);
            source
        };
        Field::Given(sources.into_iter().map(read).collect(), place)
    })
}

/// The line of every key in the file, by its path: `submit.window`, `dimension[1].unit`.
pub(super) type KeyLines = BTreeMap<String, u32>;

/// Where every key stands, for what is judged after the values were checked.
pub(super) fn lines(document: &DeTable<'_>, findings: &Findings<'_>) -> KeyLines {
    let mut lines = KeyLines::new();
    collect(document, "", findings, &mut lines);
    lines
}

fn collect(table: &DeTable<'_>, prefix: &str, findings: &Findings<'_>, lines: &mut KeyLines) {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        lines.insert(path.clone(), findings.line(key.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => collect(inner, &format!("{path}."), findings, lines),
            DeValue::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    if let Some(inner) = item.get_ref().as_table() {
                        collect(inner, &format!("{path}[{n}]."), findings, lines);
                    }
                }
            }
            _ => {}
        }
    }
}
