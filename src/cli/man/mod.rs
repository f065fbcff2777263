//! `meterd man`: the man pages, from the definitions of the command line and the document of the configuration. The
//! packages' build runs it.

mod markdown;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_mangen::roff::{Roff, bold, roman};

use super::exit;
use super::lessons::{Group, Lesson, of};
use super::say::complain;
use crate::clock::{Clock, SystemClock};
use crate::hour::Timestamp;

/// Write the man pages into a directory
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct Man {
    /// Where meterd.1, a page for each command and meterd.toml.5 go; made if it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Writes them; returns the exit code.
pub fn run(args: &Man) -> u8 {
    match write_all(&args.dir) {
        Ok(()) => exit::FINE,
        Err(error) => {
            let dir = args.dir.display();
            complain!("meterd: writing man pages into {dir}: {error}; name a directory that this user may write");
            exit::REFUSED
        }
    }
}

fn write_all(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut command = super::command();
    // Gives each subcommand its full name.
    command.build();
    fs::write(dir.join("meterd.1"), main_page(&command)?)?;
    fs::write(dir.join("meterd.toml.5"), configuration_page()?)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        if let Some(lesson) = of(verb.get_name()) {
            fs::write(dir.join(format!("meterd-{}.1", verb.get_name())), page(verb, lesson)?)?;
        }
    }
    Ok(())
}

fn main_page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = head(command)?;
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for group in Group::ALL {
        roff.control("SS", [group.heading()]);
        for verb in command.get_subcommands() {
            if of(verb.get_name()).is_some_and(|lesson| lesson.group == group) {
                roff.control("TP", []);
                roff.text([bold(format!("meterd-{}(1)", verb.get_name()))]);
                roff.text([roman(verb.get_about().unwrap_or_default().to_string())]);
            }
        }
    }
    see_also(&mut roff, &["meterd.toml(5)"]);
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn see_also(roff: &mut Roff, pages: &[&str]) {
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(pages.join(", "))]);
}

/// The one document of the configuration, as a page.
fn configuration_page() -> io::Result<Vec<u8>> {
    let mut roff = title("meterd.toml", "5");
    roff.control("SH", ["NAME"]);
    roff.text([roman("meterd.toml - the configuration of meterd")]);
    roff.control("SH", ["DESCRIPTION"]);
    markdown::write(include_str!("../../config/CONFIG.md"), &mut roff);
    see_also(&mut roff, &["meterd(1)", "meterd-check-config(1)", "meterd-doctor(1)"]);
    let mut page = Vec::new();
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn page(verb: &clap::Command, lesson: &Lesson) -> io::Result<Vec<u8>> {
    let mut page = head(verb)?;
    let mut roff = Roff::new();
    let mut list = |heading: &str, items: &[(String, &str)]| {
        roff.control("SH", [heading]);
        for (term, words) in items {
            roff.control("TP", []);
            roff.text([bold(term.clone())]);
            roff.text([roman(*words)]);
        }
    };
    list("EXIT STATUS", &lesson.all_exits().map(|(code, words)| (code.to_string(), words)).collect::<Vec<_>>());
    if !lesson.files.is_empty() {
        list("FILES", &lesson.files.iter().map(|(path, words)| ((*path).to_owned(), *words)).collect::<Vec<_>>());
    }
    roff.control("SH", ["EXAMPLES"]);
    for (n, (words, line)) in lesson.examples.iter().enumerate() {
        if n > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(format!("{words}:"))]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        roff.text([bold(*line)]);
        roff.control("fi", []);
        roff.control("RE", []);
    }
    see_also(&mut roff, &["meterd(1)", "meterd.toml(5)"]);
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// Title to options. (The rest of what the library would write is the help's last part as one block of text.)
fn head(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    title(name, "1").to_writer(&mut page)?;
    let man = clap_mangen::Man::new(command.clone());
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    // To mandoc the empty line that the library leaves before possible values is a paragraph between two breaks.
    Ok(String::from_utf8_lossy(&page).replace(".br\n\n.br\n", ".br\n").into_bytes())
}

fn title(name: &str, section: &str) -> Roff {
    let source = format!("meterd {}", env!("CARGO_PKG_VERSION"));
    let mut roff = Roff::new();
    roff.control("TH", [name.to_uppercase().as_str(), section, date().as_str(), source.as_str(), "meterd"]);
    roff
}

/// Today, or what a build that can be repeated says it is.
fn date() -> String {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| Timestamp::parse(&seconds));
    let mut date = told.unwrap_or_else(|| SystemClock::default().now()).to_string();
    date.truncate("2026-11-21".len());
    date
}
