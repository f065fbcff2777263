//! Where words are shown: how wide it is, whether it takes colour, and how words are made to fit.

use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

/// Nothing is shown wider than this.
pub const COLUMNS_MAX: usize = 80;
/// Nor is anything made to fit less.
const COLUMNS_MIN: usize = 20;

/// Colours, by what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// As it should not be.
    Bad,
    /// A heading.
    Strong,
}

/// What standard output is.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// How many characters a line takes.
    pub columns: usize,
    /// How many lines there are; none where they only go by.
    pub rows: Option<usize>,
    colour: bool,
}

impl Terminal {
    /// Looks at standard output: a terminal tells its size, for anything else `COLUMNS` may.
    pub fn look() -> Terminal {
        let stdout = io::stdout();
        let size = tcgetwinsize(&stdout).ok().filter(|size| size.ws_col > 0);
        let told = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let columns = size.map(|size| usize::from(size.ws_col)).or_else(told).unwrap_or(COLUMNS_MAX);
        Terminal {
            columns: columns.clamp(COLUMNS_MIN, COLUMNS_MAX),
            rows: size.map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0),
            colour: is_coloured(&stdout),
        }
    }

    /// Text in colour where there is any.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Good => "32",
            Paint::Doubtful => "33",
            Paint::Bad => "1;31",
            Paint::Strong => "1",
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn is_coloured(stdout: &io::Stdout) -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    stdout.is_terminal() && wanted && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints lines that are harmless already, and may be in colour.
pub fn print(lines: &[String]) {
    // Whoever closes the pipe has seen enough.
    let _ = write_out(&format!("{}\n", lines.join("\n")));
}

/// Writes all of it at once.
pub fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// The words of `text` on lines of at most `columns` characters, each behind `indent` spaces. A word that is longer than a
/// line goes on in the next one.
pub fn wrapped(text: &str, indent: usize, columns: usize) -> Vec<String> {
    let room = columns.saturating_sub(indent).max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        while !rest.is_empty() {
            let line = lines.last().map_or(0, |line| line.chars().count());
            let gap = usize::from(line > 0);
            if line + gap + rest.len() <= room || line == 0 {
                let taken = rest.len().min(room - line);
                let part: String = rest.drain(..taken).collect();
                if let Some(last) = lines.last_mut() {
                    last.push_str(if gap > 0 { " " } else { "" });
                    last.push_str(&part);
                }
            }
            if !rest.is_empty() {
                lines.push(String::new());
            }
        }
    }
    lines.into_iter().filter(|line| !line.is_empty()).map(|line| format!("{:indent$}{line}", "")).collect()
}

/// A shell's command on lines of at most `columns` characters, if its words allow, so that all of them together can be
/// copied: between two words it goes on behind a backslash, and within quoted JSON behind a comma, where a line end
/// changes nothing.
pub fn command_lines(command: &str, indent: usize, columns: usize) -> Vec<String> {
    let mut lines = vec![format!("{:indent$}", "")];
    for (piece, joint) in pieces(command) {
        let fits = |line: &String| line.chars().count() + piece.chars().count() + joint.len() + 2 <= columns;
        let begins = lines.len() == 1 && lines.iter().all(|line| line.len() == indent);
        let Some(last) = lines.last_mut() else { continue };
        if begins || fits(last) {
            last.push_str(if begins { "" } else { joint });
            last.push_str(&piece);
        } else {
            last.push_str(if joint == " " { " \\" } else { "" });
            lines.push(format!("{:width$}{piece}", "", width = indent + 2));
        }
    }
    lines
}

/// What a command may be broken into, each piece with what joins it to the one before.
fn pieces(command: &str) -> Vec<(String, &'static str)> {
    let (mut pieces, mut quoted) = (vec![(String::new(), "")], false);
    for c in command.chars() {
        quoted ^= c == '\'';
        match (c, quoted, pieces.last_mut()) {
            (' ', false, _) => pieces.push((String::new(), " ")),
            (c, _, Some((piece, _))) => {
                piece.push(c);
                if quoted && c == ',' {
                    pieces.push((String::new(), ""));
                }
            }
            (_, _, None) => {}
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_long_ones_broken() {
        assert_eq!(wrapped("one two  three", 2, 9), ["  one two", "  three"]);
        assert_eq!(wrapped("a abcdefghij b", 0, 4), ["a", "abcd", "efgh", "ij b"]);
        assert_eq!(wrapped(" ", 0, 4), Vec::<String>::new());
    }

    #[test]
    fn a_command_stays_a_command() {
        assert_eq!(command_lines("meterd doctor", 4, 80), ["    meterd doctor"]);
        let put = "aws put --policy '{\"A\":\"b c\",\"Statement\":[{\"D\":\"e\",\"F\":1}]}' last";
        for columns in [30, 40, 60, 80] {
            let lines = command_lines(put, 2, columns);
            assert!(lines.iter().all(|line| line.chars().count() <= columns), "{columns}: {lines:#?}");
            let script = format!("printf '%s\\n' {}", lines.join("\n"));
            let ran = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            let words = String::from_utf8(ran.stdout).unwrap();
            let json = words.split_once("--policy\n").unwrap().1.rsplit_once("last").unwrap().0;
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(json["Statement"][0]["F"], 1, "{words}");
        }
    }
}
