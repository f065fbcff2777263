//! The report as one page that needs nothing else: no network, no script to be read, and with it tables that can be
//! searched and sorted.
//!
//! What others wrote (names, customers, AWS's words) is text in it, see `Text`; and a policy in the page lets no script
//! run but its own.

use std::fmt::{self, Display, Write};

use sha2::{Digest, Sha256};

use super::span::date;
use super::{Dimension, Report, Sums, plot, reason};
use crate::decimal::Amount;
use crate::rollup::state::{Phase, RecordState};
use crate::view::RecordView;

/// Most records in the page; more than that no browser shows at ease.
pub const PAGE_RECORDS_MAX: usize = 20_000;
/// A longer table is not printed.
const PRINTED_MAX: usize = 200;

const CSS: &str = include_str!("page/page.css");
const JS: &str = include_str!("page/page.js");

/// Text, with nothing in it that is markup.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // What turns or hides the text around it.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => write!(f, "\\u{:04x}", u32::from(c)),
            c => f.write_char(c),
        })
    }
}

/// Digits in groups of three.
fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let mut text = sign.to_owned();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text + &fraction.map(|fraction| format!(".{fraction}")).unwrap_or_default()
}

fn amount(amount: Amount) -> String {
    grouped(&amount.to_string())
}

fn records_in_words(n: u64) -> String {
    if n == 1 { "1 record".to_owned() } else { format!("{} records", grouped(&n.to_string())) }
}

/// The page.
pub fn html(report: &Report) -> String {
    let mut page = String::new();
    // Writing into a string does not fail.
    let _ = write(report, &mut page);
    page
}

fn write(report: &Report, page: &mut String) -> fmt::Result {
    let title = format!("Metered usage, {}", report.span.words());
    let digest = base64(&Sha256::digest(JS.as_bytes()));
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action \
         'none'\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>{CSS}\
         </style></head><body>\n<header><h1>{}</h1>\n",
        Text(&title),
        Text(&title)
    )?;
    facts(report, page)?;
    verdict(report, page)?;
    page.push_str("</header>\n<main>");
    cards(report, page)?;
    balance(report, page)?;
    for dimension in &report.dimensions {
        plots(report, dimension, page)?;
    }
    amiss(report, page)?;
    let exceptions: Vec<_> = report.exceptions().collect();
    if !exceptions.is_empty() {
        let why = "Records that did not go the plain way: still to be sent, with a person, given up, carried into a later \
                   hour or with what was carried into them, with late usage, or decided by a person.";
        records(page, ("differ", "Why used and billed differ", why), exceptions.into_iter().map(|(_, r)| r))?;
    }
    customers(report, page)?;
    all_records(report, page)?;
    footer(report, page)?;
    write!(page, "</main>\n<script>{JS}</script></body></html>\n")
}

fn facts(report: &Report, page: &mut String) -> fmt::Result {
    write!(page, "<p class=\"facts\">Product {}", Text(&report.product_code))?;
    if let Some(instance) = &report.instance {
        write!(page, " · instance {}", Text(instance))?;
    }
    if let Some(as_of) = report.as_of {
        write!(page, " · as of {as_of}")?;
    }
    page.push_str(" · hours and days in UTC</p>\n");
    Ok(())
}

fn verdict(report: &Report, page: &mut String) -> fmt::Result {
    let of = |phases: &[Phase]| phases.iter().map(|phase| report.records_in(*phase)).sum::<u64>();
    let person = of(&[Phase::Held, Phase::Conflict, Phase::InDoubt]);
    let pending = of(&[Phase::Pending]);
    let lost = of(&[Phase::Expired, Phase::Discarded]);
    let accepted = of(&[Phase::Accepted]);
    let class = match (person + lost, pending) {
        (0, 0) => "fine",
        (0, _) => "waits",
        _ => "person",
    };
    let records = records_in_words;
    write!(page, "<p class=\"verdict {class}\"><strong>AWS accepted {}.</strong>", records(accepted))?;
    if person > 0 {
        write!(page, " {} with a person, not billed until that one decides.", records(person))?;
    }
    if lost > 0 {
        write!(page, " {}: given up, not billed.", records(lost))?;
    }
    if pending > 0 {
        write!(page, " {} still to be sent.", records(pending))?;
    }
    if person + lost + pending == 0 && accepted > 0 {
        page.push_str(" None waits, none was given up.");
    }
    if !report.is_closed() {
        write!(page, " The month is not over: hours from {} on are open.", report.open_from)?;
    }
    page.push_str("</p>\n");
    Ok(())
}

/// Columns of which any dimension has something.
fn shown(report: &Report) -> Vec<&'static str> {
    let names = Sums::default().columns().map(|(name, _)| name);
    let is_shown = |name: &&str| {
        let some = report.dimensions.iter().any(|d| d.total.columns().iter().any(|(n, a)| n == name && !a.is_zero()));
        some || matches!(*name, "received" | "accepted" | "remainder")
    };
    names.into_iter().filter(is_shown).collect()
}

fn words(column: &str) -> &str {
    match column {
        "remainder_in" => "left over before",
        "carried_in" => "carried in",
        "rounded" => "by rounding",
        "in_doubt" => "in doubt",
        "carried" => "carried on",
        "remainder" => "left over",
        "late" => "of it late",
        plain => plain,
    }
}

fn cards(report: &Report, page: &mut String) -> fmt::Result {
    if report.dimensions.is_empty() {
        page.push_str("<p>Nothing was reported in this time.</p>");
        return Ok(());
    }
    page.push_str("<div class=\"cards\">");
    for dimension in &report.dimensions {
        let total = &dimension.total;
        let units = grouped(&total.of(Phase::Accepted).units.to_string());
        write!(
            page,
            "<div class=\"card\"><span class=\"name\">{}</span><b>{units}</b><span class=\"soft\">billed units accepted\
             </span><ul>",
            Text(&dimension.name)
        )?;
        if let Some(unit) = dimension.billing.as_ref().map(|b| b.unit).filter(|unit| *unit != Amount::from_units(1)) {
            write!(page, "<li><span>one unit is</span><span>{}</span></li>", amount(unit))?;
        }
        let always = ["received", "accepted"];
        let some = total.columns().into_iter().filter(|(name, a)| always.contains(name) || !a.is_zero());
        for (name, value) in some {
            write!(page, "<li><span>{}</span><span>{}</span></li>", words(name), amount(value))?;
        }
        page.push_str("</ul></div>");
    }
    page.push_str("</div>\n");
    Ok(())
}

fn head(page: &mut String, names: &[&str]) -> fmt::Result {
    names.iter().try_for_each(|name| write!(page, "<th class=\"n\">{}", words(name)))
}

fn cells(page: &mut String, sums: &Sums, names: &[&str]) -> fmt::Result {
    let columns = sums.columns();
    for name in names {
        let value = columns.iter().find(|(n, _)| n == name).map(|(_, value)| *value).unwrap_or_default();
        write!(page, "<td class=\"n\">{}", if value.is_zero() { "–".to_owned() } else { amount(value) })?;
    }
    Ok(())
}

fn balance(report: &Report, page: &mut String) -> fmt::Result {
    if report.dimensions.is_empty() {
        return Ok(());
    }
    let names = shown(report);
    page.push_str(
        "<h2>Where every unit is</h2>\n<p class=\"soft\">In usage units. What came in (received, left over before, carried \
         in, by rounding) is what the other columns add up to.</p>\n<div class=\"scroll\"><table><thead><tr><th>dimension",
    );
    head(page, &names)?;
    page.push_str("<th>adds up</thead><tbody>");
    for dimension in &report.dimensions {
        write!(page, "<tr><td>{}", Text(&dimension.name))?;
        cells(page, &dimension.total, &names)?;
        page.push_str(match dimension.total.balanced() {
            true => "<td class=\"ok\">✓",
            false => "<td class=\"bad\">no, see the notes",
        });
    }
    page.push_str("</tbody></table></div>\n");
    Ok(())
}

fn plots(report: &Report, dimension: &Dimension, page: &mut String) -> fmt::Result {
    write!(page, "<section><h2>{}</h2>\n<h3>By day</h3>\n", Text(&dimension.name))?;
    page.push_str(&plot::by_day(report, dimension));
    page.push_str(
        "<div class=\"key\"><span><i class=\"used\"></i>received</span><span><i class=\"accepted\"></i>accepted</span><span>\
         <i class=\"waits\"></i>to be sent</span><span><i class=\"person\"></i>with a person</span><span><i class=\"lost\"></i>\
         given up</span></div>\n<h3>By hour</h3>\n",
    );
    page.push_str(&plot::by_hour(report, dimension));
    page.push_str(
        "<div class=\"key\"><span><i class=\"used\"></i>received</span><span><i class=\"accepted\"></i>accepted, carried units \
         included</span><span><i class=\"outage\"></i>AWS took no records</span><span><i class=\"away\"></i>no agent ran</span>\
         </div>\n<details><summary>The days in figures</summary><div class=\"scroll\"><table><thead><tr><th>day",
    );
    let mut names = shown(report);
    names.retain(|name| report.customers.is_none() || !name.starts_with("remainder"));
    head(page, &names)?;
    page.push_str("<th class=\"n\">accepted units</thead><tbody>");
    for (day, sums) in dimension.days() {
        write!(page, "<tr><td class=\"when\">{}", date(day))?;
        cells(page, &sums, &names)?;
        write!(page, "<td class=\"n\">{}", grouped(&sums.of(Phase::Accepted).units.to_string()))?;
    }
    page.push_str("</tbody></table></div></details></section>\n");
    Ok(())
}

fn amiss(report: &Report, page: &mut String) -> fmt::Result {
    if report.outages.is_empty() && report.away.is_empty() {
        return Ok(());
    }
    page.push_str("<h2>Outages and gaps</h2>\n<table><thead><tr><th>from<th>until<th>lasted<th>what</thead><tbody>");
    let mut row = |from: crate::hour::Timestamp, until: crate::hour::Timestamp, what: String| {
        let lasted = crate::hour::span(until.since(from));
        write!(page, "<tr><td class=\"when\">{from}<td class=\"when\">{until}<td>{lasted}<td>{what}")
    };
    for outage in &report.outages {
        row(
            outage.from,
            outage.until,
            format!("AWS did not take records; {} waited", records_in_words(outage.records)),
        )?;
    }
    for (from, until) in &report.away {
        row(*from, *until, "no agent ran; what was reported meanwhile waited with its writers".to_owned())?;
    }
    page.push_str("</tbody></table>\n");
    Ok(())
}

fn customers(report: &Report, page: &mut String) -> fmt::Result {
    let Some(customers) = &report.customers else { return Ok(()) };
    let names = ["received", "included", "accepted", "pending", "held", "conflict", "in_doubt", "expired", "remainder"];
    page.push_str("<h2>By customer</h2>\n");
    begin_list(page, "customers", customers.largest.len(), "customer, licence or dimension")?;
    page.push_str("<thead><tr><th>customer<th>dimension<th class=\"n\">accepted units");
    head(page, &names)?;
    page.push_str("</thead><tbody>");
    for c in &customers.largest {
        let units = c.sums.of(Phase::Accepted).units;
        write!(page, "<tr><td>{}<td>{}<td class=\"n\">{units}", Text(&c.buyer), Text(&c.dimension))?;
        cells(page, &c.sums, &names)?;
    }
    page.push_str("</tbody>");
    if customers.others > 0 {
        page.push_str("<tfoot>");
        for (dimension, sums) in &customers.rest {
            let units = sums.of(Phase::Accepted).units;
            write!(page, "<tr><td>all others<td>{}<td class=\"n\">{units}", Text(dimension))?;
            cells(page, sums, &names)?;
        }
        page.push_str("</tfoot>");
    }
    page.push_str("</table></div></section>\n");
    Ok(())
}

fn begin_list(page: &mut String, id: &str, rows: usize, what: &str) -> fmt::Result {
    let long = if rows > PRINTED_MAX { " class=\"long\"" } else { "" };
    if rows > PRINTED_MAX {
        page.push_str(
            "<p class=\"printed\">Too long to be printed: see it on the screen, or in the file of --csv.</p>",
        );
    }
    write!(
        page,
        "<section{long}><div class=\"controls\"><input type=\"search\" data-for=\"{id}\" placeholder=\"{what}\" \
         aria-label=\"search\"><output class=\"count\" data-for=\"{id}\"></output></div>\n<div class=\"scroll\"><table \
         class=\"list\" id=\"{id}\">"
    )
}

fn records<'a>(
    page: &mut String,
    (id, title, why): (&str, &str, &str),
    records: impl Iterator<Item = &'a RecordState>,
) -> fmt::Result {
    let records: Vec<&RecordState> = records.take(PAGE_RECORDS_MAX).collect();
    let saas = records.iter().any(|r| r.record.key.account().is_some());
    write!(page, "<h2>{title}</h2>\n<p class=\"soft\">{why}</p>\n")?;
    begin_list(page, id, records.len(), "day, dimension, state, record id …")?;
    let customer = if saas { "<th>customer" } else { "" };
    write!(
        page,
        "<thead><tr><th>hour<th>dimension{customer}<th class=\"n\">units<th class=\"n\">usage<th>state<th>AWS's record id\
         <th>why</thead><tbody>"
    )?;
    for r in records {
        let view = RecordView::from(r);
        write!(page, "<tr><td class=\"when\">{}<td>{}", view.hour, Text(&view.dimension))?;
        if saas {
            write!(page, "<td>{}", Text(&view.customer.unwrap_or_default()))?;
        }
        write!(
            page,
            "<td class=\"n\">{}<td class=\"n\">{}<td><span class=\"state {}\">{}</span><td class=\"id\">{}<td>{}",
            grouped(&view.quantity.to_string()),
            grouped(&view.usage),
            view.state,
            words(&view.state),
            Text(&view.metering_record_id.unwrap_or_default()),
            Text(&reason(r))
        )?;
    }
    page.push_str("</tbody></table></div></section>\n");
    Ok(())
}

fn all_records(report: &Report, page: &mut String) -> fmt::Result {
    let listed = report.records.len().min(PAGE_RECORDS_MAX);
    let missing = (report.records.len() - listed) as u64 + report.left_out;
    let why = match missing {
        0 => "Every record as it was sealed, with AWS's id for those that it accepted.".to_owned(),
        n => format!(
            "The first {listed} records; {n} more are in the sums, and in the file of --csv as far as it lists them."
        ),
    };
    records(page, ("records", "All records", &why), report.records.iter().map(|(_, r)| r))
}

fn footer(report: &Report, page: &mut String) -> fmt::Result {
    page.push_str("<footer>");
    if !report.notes.is_empty() {
        page.push_str("<h3>Notes</h3><ul>");
        for note in &report.notes {
            write!(page, "<li>{}", Text(note))?;
        }
        page.push_str("</ul>");
    }
    page.push_str(
        "<p>Received is what applications reported and the agent acknowledged. A record is one hour of a dimension as AWS is \
         sent it, in whole billed units; what is below one unit is left over for the next hour. Carried units could no longer be \
         sent with their own hour and went out with a later one. Included usage is covered by the base price. Made by \
         meterd report.</p></footer>",
    );
    Ok(())
}

/// As a policy wants a digest.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * n) & 63) as usize).copied().map_or('=', char::from);
            text.push(if n <= chunk.len() { digit } else { '=' });
        }
    }
    text
}
