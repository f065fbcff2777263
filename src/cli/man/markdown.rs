//! As much Markdown as the format documents here are written in, as a man page: headings, paragraphs, bullets, tables of two
//! columns or more, fenced code; within a line `code`, **bold** and [links](…).

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// What a line of text belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Nothing,
    Paragraph,
    Bullet,
}

/// Writes `markdown` behind what `roff` has.
pub fn write(markdown: &str, roff: &mut Roff) {
    let mut within = Within::Nothing;
    // A macro for a new paragraph right behind a heading is one too many.
    let mut is_first = true;
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            roff.control("SH", [heading.to_uppercase().as_str()]);
            (within, is_first) = (Within::Nothing, true);
        } else if line.starts_with("```") {
            part(roff, &mut is_first);
            roff.control("RS", ["4"]);
            roff.control("nf", []);
            for code in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                roff.text([roman(if code.is_empty() { " " } else { code })]);
            }
            roff.control("fi", []);
            roff.control("RE", []);
            within = Within::Nothing;
        } else if line.starts_with('|') {
            // The row of dashes makes the one before it a heading, which a list of terms does not need.
            let is_heading = lines.next_if(|next| next.starts_with("| ---")).is_some();
            if !is_heading {
                row(line, roff);
            }
            (within, is_first) = (Within::Nothing, false);
        } else if let Some(text) = line.strip_prefix("- ") {
            roff.control("IP", ["\u{2022}", "2"]);
            roff.text(inlines(text));
            (within, is_first) = (Within::Bullet, false);
        } else if line.is_empty() {
            within = Within::Nothing;
        } else {
            if within == Within::Nothing {
                part(roff, &mut is_first);
                within = Within::Paragraph;
            }
            roff.text(inlines(line.trim_start()));
        }
    }
}

fn part(roff: &mut Roff, is_first: &mut bool) {
    if !std::mem::take(is_first) {
        roff.control("PP", []);
    }
}

/// A row of a table: what it is about, then the rest.
fn row(line: &str, roff: &mut Roff) {
    let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
    roff.control("TP", []);
    roff.text([bold(cells.next().unwrap_or_default().replace('`', ""))]);
    let rest: Vec<&str> = cells.filter(|cell| !cell.is_empty()).collect();
    roff.text(inlines(&rest.join("; ")));
}

/// A line with its marks: what stands between backticks or double asterisks is bold, of a link the words stay.
fn inlines(text: &str) -> Vec<Inline> {
    let plain = without_links(&text.replace("**", "`"));
    // Code within bold closes what it opened and opens it again: an empty piece, which is left out.
    let pieces = plain.split('`').enumerate().filter(|(_, piece)| !piece.is_empty());
    pieces.map(|(n, piece)| if n % 2 == 1 { bold(piece) } else { roman(piece) }).collect()
}

fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, (words, after))) =
        rest.split_once('[').and_then(|(before, link)| Some((before, link.split_once("](")?)))
    {
        let Some((_, after)) = after.split_once(')') else { break };
        out.push_str(before);
        out.push_str(words);
        rest = after;
    }
    out + rest
}
