//! What the answer to a dry run tells, and how a dimension that AWS does not know may be spelt. Pure.

use std::time::Duration;

use crate::entry::{Request, Verdict};
use crate::submit::answer::{self, Outcome, Reply};

/// What the answer means for a record. The moment and the window of a dry run decide nothing here.
pub(super) fn verdict(reply: &Reply) -> Verdict {
    let nothing = Request {
        product_code: String::new(),
        dimension: String::new(),
        timestamp: reply.aws_time.unwrap_or_default(),
        quantity: 0,
        allocations: Vec::new(),
        client_token: String::new(),
    };
    answer::judge(reply, &nothing, Duration::MAX)
}

/// AWS's code of the error, if it is one.
pub(super) fn code(reply: &Reply) -> &str {
    match &reply.outcome {
        Outcome::Error { code, .. } => code,
        _ => "",
    }
}

/// Whether a dry run of another dimension would be answered the same, or not at all.
pub(super) fn speaks_for_all(reply: &Reply) -> bool {
    matches!(verdict(reply), Verdict::Blocked)
        || matches!(code(reply), "InvalidProductCode" | "CustomerNotEntitled" | "InvalidEndpointRegion")
        || is_unanswered(reply)
}

/// Whether nobody answered.
pub(super) fn is_unanswered(reply: &Reply) -> bool {
    matches!(reply.outcome, Outcome::NotSent | Outcome::NoAnswer)
}

/// Whether AWS took it: both forms of success, and a record's id in case it should answer with one.
pub(super) fn is_taken(reply: &Reply) -> bool {
    matches!(reply.outcome, Outcome::DryRunPassed | Outcome::Accepted { .. })
}

/// Whether AWS knows no dimension of that name.
pub(super) fn is_misspelt(reply: &Reply) -> bool {
    code(reply) == "InvalidUsageDimension"
}

/// How else `name` may be published, for AWS does not tell: capitals and plurals are what people get wrong.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let small = name.to_ascii_lowercase();
    let other_number = |name: &str| name.strip_suffix('s').map_or_else(|| format!("{name}s"), str::to_owned);
    let mut all = vec![small.clone(), other_number(name), other_number(&small)];
    all.dedup();
    all.retain(|spelling| spelling != name && !spelling.is_empty());
    all
}

/// A name in AWS's words that is close to `name`. AWS need not name any.
pub(super) fn named_like<'a>(name: &str, words: &'a str) -> Option<&'a str> {
    let words = words.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| *word != name);
    let near = words.map(|word| (strsim::damerau_levenshtein(word, name), word));
    let close = |(distance, word): &(usize, &str)| *distance <= 1 + word.len() / 5 && *distance < word.len();
    near.filter(close).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}
