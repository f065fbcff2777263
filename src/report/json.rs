//! The report for programs. Amounts are decimals in strings, in usage units; `units` are billed ones.

use serde_json::{Map, Value, json};

use super::span::date;
use super::{Report, Sums};
use crate::rollup::state::Phase;
use crate::view::RecordView;

/// One object.
pub fn json(report: &Report) -> Value {
    let dimensions: Vec<Value> = report.dimensions.iter().map(|dimension| of_dimension(report, dimension)).collect();
    let records: Vec<RecordView> = report
        .records
        .iter()
        .map(|(instance, record)| RecordView { instance: instance.clone(), ..RecordView::from(record) })
        .collect();
    let outages = report.outages.iter().map(|outage| {
        json!({ "from": outage.from.to_string(), "until": outage.until.to_string(), "records": outage.records })
    });
    let away = report.away.iter().map(|(from, until)| json!({ "from": from.to_string(), "until": until.to_string() }));
    let in_all: Map<String, Value> =
        Phase::ALL.into_iter().map(|phase| (phase.name().to_owned(), json!(report.records_in(phase)))).collect();
    json!({
        "month": report.span.name,
        "from": report.span.first.to_string(),
        "until": report.span.end.to_string(),
        "product_code": report.product_code,
        "instance_id": report.instance,
        "as_of": report.as_of.map(|at| at.to_string()),
        "open_from": report.open_from.to_string(),
        "closed": report.is_closed(),
        "records_by_state": in_all,
        "dimensions": dimensions,
        "customers": report.customers.as_ref().map(|customers| {
            let each = customers.largest.iter().map(|c| {
                let mut row = sums(&c.sums, true);
                row.insert("customer".into(), json!(c.buyer));
                row.insert("dimension".into(), json!(c.dimension));
                Value::Object(row)
            });
            let rest = customers.rest.iter().map(|(dimension, of)| {
                let mut row = sums(of, true);
                row.insert("dimension".into(), json!(dimension));
                Value::Object(row)
            });
            json!({ "largest": each.collect::<Vec<_>>(), "others": customers.others, "rest": rest.collect::<Vec<_>>() })
        }),
        "outages": outages.collect::<Vec<_>>(),
        "away": away.collect::<Vec<_>>(),
        "records": records,
        "records_left_out": report.left_out,
        "books": report.books,
        "notes": report.notes,
    })
}

fn of_dimension(report: &Report, dimension: &super::Dimension) -> Value {
    let with_remainders = report.customers.is_none();
    let days = dimension.days().into_iter().map(|(day, of)| {
        let mut row = sums(&of, with_remainders);
        row.insert("day".into(), json!(date(day)));
        Value::Object(row)
    });
    let billing = dimension.billing.as_ref();
    json!({
        "dimension": dimension.name,
        "measure": billing.map(|b| b.measure.to_string()),
        "unit": billing.map(|b| b.unit.to_string()),
        "total": sums(&dimension.total, true),
        "dayless": dimension.dayless.to_string(),
        "balanced": dimension.total.balanced(),
        "days": days.collect::<Vec<_>>(),
    })
}

/// `with_remainders`: whether what is handed from hour to hour is known; of many customers it is in total only.
fn sums(of: &Sums, with_remainders: bool) -> Map<String, Value> {
    let shown = of.columns().into_iter().filter(|(name, _)| with_remainders || !name.starts_with("remainder"));
    let mut row: Map<String, Value> =
        shown.map(|(name, amount)| (name.to_owned(), json!(amount.to_string()))).collect();
    let by_phase = |what: fn(super::sums::Of) -> u64| -> Map<String, Value> {
        let each = Phase::ALL.into_iter().map(|phase| (phase, what(of.of(phase)))).filter(|(_, n)| *n > 0);
        each.map(|(phase, n)| (phase.name().to_owned(), json!(n))).collect()
    };
    row.insert("billed_units".into(), json!(of.units()));
    row.insert("units".into(), Value::Object(by_phase(|of| of.units)));
    row.insert("records".into(), Value::Object(by_phase(|of| of.records)));
    row
}
