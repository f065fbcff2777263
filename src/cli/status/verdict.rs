//! The first line: whether metering works, in plain words.

use super::look::Status;
use super::words::moment;
use crate::cli::terminal::Paint;

/// What a thing that needs a person means for metering. The worst stands first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    /// Nobody is there to take usage.
    NoAgent,
    /// The agent may not be asked, or is not understood.
    Unknown,
    /// The disk is full: usage is refused.
    Full,
    /// The log cannot be opened.
    NotReady,
    /// The log takes nothing more.
    Poisoned,
    /// The instance ends: usage is refused.
    Ending,
    /// The sums do not agree.
    Books,
    /// The clock is not believed: usage is kept, no hour is closed.
    Clock,
    /// Usage is kept, and does not get to AWS.
    NotSent,
    /// The clock is wrong: a little, and AWS takes usage all the same, or so much that usage waits.
    Skew,
    /// Some usage is refused.
    PartlyRefused,
    /// Some records have waited for longer than they should.
    Late,
    /// Some usage waits for a person's word.
    WithPerson,
    /// Nothing yet.
    Look,
}

impl Harm {
    fn of(code: &str) -> Harm {
        match code {
            "no_agent" => Harm::NoAgent,
            "not_allowed" | "unreadable" => Harm::Unknown,
            "disk_full" => Harm::Full,
            "log_poisoned" => Harm::Poisoned,
            "not_ready" => Harm::NotReady,
            "ending" => Harm::Ending,
            "books_unbalanced" => Harm::Books,
            "aws_blocked" | "aws_unreachable" | "instance_unknown" | "check_instance" | "check_region"
            | "check_role" | "check_network" | "check_product_code" => Harm::NotSent,
            "clock_doubt" => Harm::Clock,
            "clock_skew" | "check_clock" => Harm::Skew,
            "unknown_dimension" | "keys_full" | "index_failed" | "index_rebuilding" | "check_socket" => {
                Harm::PartlyRefused
            }
            "deadline" | "aws_unknown_answer" | "check_dimension" => Harm::Late,
            "held" | "spike" | "damaged" | "conflict" | "in_doubt" | "other_instance" => Harm::WithPerson,
            _ => Harm::Look,
        }
    }

    fn words(self) -> (Paint, &'static str) {
        match self {
            Harm::NoAgent => (Paint::Bad, "no agent answers"),
            Harm::Unknown => (Paint::Bad, "whether metering works cannot be told"),
            Harm::Full => (Paint::Bad, "usage is NOT being taken: the disk is full"),
            Harm::NotReady => (Paint::Bad, "usage is NOT being taken: the log cannot be opened"),
            Harm::Poisoned => (Paint::Bad, "usage is NOT being taken: the disk failed"),
            Harm::Ending => (Paint::Bad, "usage is NOT being taken: this instance ends"),
            Harm::Books => (Paint::Bad, "usage is taken, but the books do NOT balance"),
            Harm::NotSent => (Paint::Bad, "usage is taken and kept, but does NOT get to AWS"),
            Harm::Clock => (Paint::Bad, "usage is taken and kept, but no hour is closed: the clock is in doubt"),
            Harm::Skew => (Paint::Bad, "usage is taken and kept, but this machine's clock is wrong"),
            Harm::PartlyRefused => (Paint::Doubtful, "metering works, but some usage is refused"),
            Harm::Late => (Paint::Doubtful, "metering works, but AWS does not take all of it"),
            Harm::WithPerson => (Paint::Doubtful, "metering works, but some usage waits for your word"),
            Harm::Look => (Paint::Doubtful, "metering works, and something needs a look"),
        }
    }
}

/// The line and its colour.
pub fn verdict(status: &Status) -> (Paint, String) {
    let harms = status.attention.iter().map(|item| Harm::of(&item.code));
    let worst = harms.min().or((!status.ready).then_some(Harm::NotReady));
    match (worst, status.aws.consecutive_failures) {
        (Some(Harm::NoAgent), _) => {
            let since =
                status.attention.iter().find_map(|item| item.since.as_ref().filter(|_| item.code == "no_agent"));
            let since = since.map_or_else(String::new, |at| format!(" since {}", moment(at, &status.now)));
            (Paint::Bad, format!("no agent answers{since}: usage is NOT being taken"))
        }
        (Some(harm), _) => {
            let (paint, words) = harm.words();
            (paint, words.to_owned())
        }
        (None, 0) => (Paint::Good, "metering works".to_owned()),
        (None, failed) => {
            let calls = if failed == 1 { "the last call".to_owned() } else { format!("{failed} calls in a row") };
            (Paint::Good, format!("metering works; {calls} to AWS failed, which is tried again by itself"))
        }
    }
}
