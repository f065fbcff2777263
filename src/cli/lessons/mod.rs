//! What `--help` and the man pages teach beyond the flags: what an exit code means, an example that works, the files.
//!
//! [`verbs::LESSONS`] is the one list; tests hold it against the commands that there are and run every example.

mod verbs;

use std::fmt::Write;

pub use verbs::LESSONS;

use super::exit;

/// What a verb is for; `meterd --help` shows them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// For a look without an AWS account.
    Trying,
    /// The agent itself, and what applications do with it.
    Agent,
    /// What is, and what was.
    Asking,
    /// A person's decisions.
    Operating,
    /// Checks before the first record.
    BeforeGoingLive,
    /// A state directory without its agent.
    Offline,
    /// The rest.
    Shell,
}

impl Group {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Group; 7] = [
        Group::Trying,
        Group::Agent,
        Group::Asking,
        Group::Operating,
        Group::BeforeGoingLive,
        Group::Offline,
        Group::Shell,
    ];

    /// Its heading.
    pub fn heading(self) -> &'static str {
        match self {
            Group::Trying => "Trying",
            Group::Agent => "The agent",
            Group::Asking => "Asking",
            Group::Operating => "Operating",
            Group::BeforeGoingLive => "Before going live",
            Group::Offline => "Offline",
            Group::Shell => "Your shell",
        }
    }
}

/// What there is to know about a verb.
#[derive(Debug)]
pub struct Lesson {
    /// The verb, as it is typed.
    pub verb: &'static str,
    /// Where `meterd --help` shows it.
    pub group: Group,
    /// Exit codes and what they mean, without [`USAGE`].
    pub exits: &'static [(u8, &'static str)],
    /// What for, and what to type.
    pub examples: &'static [(&'static str, &'static str)],
    /// Files and what they are to this verb.
    pub files: &'static [(&'static str, &'static str)],
}

/// Every verb's.
const USAGE: (u8, &str) = (exit::USAGE, "the command line is wrong");

impl Lesson {
    /// All exit codes and what they mean, in order.
    pub fn all_exits(&self) -> impl Iterator<Item = (u8, &'static str)> {
        let own = |part: fn(u8) -> bool| self.exits.iter().copied().filter(move |(code, _)| part(*code));
        own(|code| code < exit::USAGE).chain([USAGE]).chain(own(|code| code > exit::USAGE))
    }
}

/// The lesson of a verb.
pub fn of(verb: &str) -> Option<&'static Lesson> {
    LESSONS.iter().find(|lesson| lesson.verb == verb)
}

const BEGIN: &str = "\
To begin with:
  meterd demo       the main job before your eyes, in about a minute; needs no AWS account
  meterd run --dev  the agent with a simulated AWS in the process, to play with
  meterd doctor     where the product will run: what would keep the first record from AWS";

const MORE: &str = "\
meterd COMMAND --help says what a command does, its exit codes, examples and files.";

/// `command` with all of this in its help.
pub(super) fn taught(command: clap::Command) -> clap::Command {
    let groups = grouped(&command);
    let template = format!(
        "{{name}} {{version}}: {{about}}\n\n{{usage-heading}} {{usage}}\n\n{BEGIN}\n\n{groups}Options:\n{{options}}\n\n{MORE}\n"
    );
    LESSONS.iter().fold(command.help_template(template), |command, lesson| {
        // A name that is no command would make one: a test holds the list against the commands.
        command.mut_subcommand(lesson.verb, |verb| verb.after_long_help(lesson.to_string()))
    })
}

/// The commands by what they are for.
fn grouped(command: &clap::Command) -> String {
    let width = LESSONS.iter().map(|lesson| lesson.verb.len()).max().unwrap_or(0);
    let mut text = String::new();
    for group in Group::ALL {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{}:", group.heading());
        for lesson in LESSONS.iter().filter(|lesson| lesson.group == group) {
            let about = command.find_subcommand(lesson.verb).and_then(clap::Command::get_about);
            let _ = writeln!(text, "  {:<width$}  {}", lesson.verb, about.cloned().unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

impl std::fmt::Display for Lesson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exit codes:\n")?;
        for (code, words) in self.all_exits() {
            writeln!(f, "  {code:<3} {words}")?;
        }
        f.write_str("\nExamples:\n")?;
        for (words, line) in self.examples {
            writeln!(f, "  {words}:\n      {line}")?;
        }
        if !self.files.is_empty() {
            let width = self.files.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
            f.write_str("\nFiles:\n")?;
            for (path, words) in self.files {
                writeln!(f, "  {path:<width$}  {words}")?;
            }
        }
        Ok(())
    }
}
