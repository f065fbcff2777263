//! One call of the alert command: no shell, an environment of its own (none of the agent's credentials), its time limited.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

use super::change::{ALERT_FAILED, Change};
use crate::status::Status;

/// How long the command may take, by the machine's clock, before it and all that it started are killed.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked after.
const LOOK_AFTER: Duration = Duration::from_millis(20);
/// Bytes of the message; all of it stands on standard input.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes kept of what it says.
const SAID_BYTES_MAX: usize = 300;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be told, and to whom.
pub(super) struct Call {
    command: Vec<String>,
    message: String,
    document: Vec<u8>,
    environment: [(&'static str, String); 5],
}

impl Call {
    pub(super) fn new(command: &[String], status: &Status, change: &Change) -> Call {
        let all: Vec<_> = status.attention.iter().filter(|item| item.code != ALERT_FAILED).collect();
        let message = message(status, change);
        let document = json!({
            "version": status.version,
            "at": status.now,
            "instance_id": status.instance_id,
            "product_code": status.product_code,
            "message": message,
            "raised": change.raised,
            "gone": change.gone,
            "attention": all,
        });
        let environment = [
            ("PATH", PATH.to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("METERD_ALERT_RAISED", change.raised.join(" ")),
            ("METERD_ALERT_GONE", change.gone.join(" ")),
            ("METERD_ALERT_COUNT", all.len().to_string()),
        ];
        let document = format!("{document}\n").into_bytes();
        Call { command: command.to_vec(), message: shortened(message), document, environment }
    }

    /// Runs the command to its end. The error says why nobody may have been told.
    pub(super) fn run(self, limit: Duration, stop: &AtomicBool) -> Result<(), String> {
        let program = self.command.first().cloned().unwrap_or_default();
        let failed = |why: String| format!("{program}: {why}");
        let (mut wire, mut child) = self.start().map_err(|error| failed(error.to_string()))?;
        let started = Instant::now();
        let (mut unread, mut said) = (self.document.as_slice(), Vec::new());
        loop {
            feed(&mut wire, &mut unread);
            // Looked for before the last words are read: nothing of them is missed then.
            let ended = child.try_wait().map_err(|error| failed(error.to_string()))?;
            hear(&mut wire, &mut said);
            match ended {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(failed(format!("{status}{}", last_words(&said)))),
                None => {}
            }
            let stopped = stop.load(Ordering::Relaxed);
            if stopped || started.elapsed() >= limit {
                kill(&mut child);
                let too_long = format!("killed after {} s{}", limit.as_secs(), last_words(&said));
                return Err(failed(if stopped { "killed, for the agent stops".to_owned() } else { too_long }));
            }
            sleep(LOOK_AFTER);
        }
    }

    /// Starts it, with a wire from which it reads the document and on which it says what is wrong.
    fn start(&self) -> io::Result<(UnixStream, Child)> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (wire, theirs) = UnixStream::pair()?;
        // So that neither can hold up the other.
        wire.set_nonblocking(true)?;
        let theirs = OwnedFd::from(theirs);
        let child = Command::new(program)
            .args(arguments)
            .arg(&self.message)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::from(theirs.try_clone()?))
            .stdout(Stdio::null())
            .stderr(Stdio::from(theirs))
            // What it starts is killed with it.
            .process_group(0)
            .spawn()?;
        Ok((wire, child))
    }
}

/// Writes what fits, and closes behind the last byte. A command that does not read it does not have to.
fn feed(wire: &mut UnixStream, unread: &mut &[u8]) {
    while !unread.is_empty() {
        match wire.write(unread) {
            Ok(n) => *unread = unread.get(n..).unwrap_or(&[]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => *unread = &[],
        }
        if unread.is_empty() {
            let _ = wire.shutdown(Shutdown::Write);
        }
    }
}

/// Reads what it has said, and keeps the end of it.
fn hear(wire: &mut UnixStream, said: &mut Vec<u8>) {
    let mut chunk = [0u8; 4096];
    // So many at once, that a chatterbox does not outlive its time.
    for _ in 0..64 {
        match wire.read(&mut chunk) {
            Ok(n) if n > 0 => {
                said.extend_from_slice(chunk.get(..n).unwrap_or(&[]));
                said.drain(..said.len().saturating_sub(SAID_BYTES_MAX));
            }
            _ => return,
        }
    }
}

fn last_words(said: &[u8]) -> String {
    let text = plain(String::from_utf8_lossy(said).trim());
    if text.is_empty() { text } else { format!(": {text}") }
}

fn kill(child: &mut Child) {
    // A group that is gone needs no killing.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

/// What is new with what to do, what is over, and how many there are: one line, the instance first.
fn message(status: &Status, change: &Change) -> String {
    let mut parts: Vec<String> = Vec::new();
    for item in status.attention.iter().filter(|item| change.raised.iter().any(|code| code == item.code)) {
        parts.push(format!("{}: {}; do: {}", item.code, item.message, item.remedy));
    }
    let is_there = |code: &&String| status.attention.iter().any(|item| item.code == code.as_str());
    parts.extend(
        change.raised.iter().filter(|code| !is_there(code)).map(|code| format!("{code}: just now, and gone again")),
    );
    if !change.gone.is_empty() {
        parts.push(format!("over: {}", change.gone.join(", ")));
    }
    let others: Vec<&str> =
        status.attention.iter().map(|item| item.code).filter(|code| *code != ALERT_FAILED).collect();
    match others.len() {
        0 => parts.push("nothing needs attention".to_owned()),
        n if n > parts.len() || parts.is_empty() => parts.push(format!("in all: {}", others.join(", "))),
        _ => {}
    }
    plain(&format!("{}: {}", status.instance_id.as_deref().unwrap_or("meterd"), parts.join(" | ")))
}

/// One line, whatever was in it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push_str("… (all of it on standard input)");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, document: Vec<u8>) -> Call {
        let command = ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec();
        let environment = Default::default();
        Call { command, message: "a; b $(c)".to_owned(), document, environment }
    }

    fn run(script: &str, document: Vec<u8>) -> Result<(), String> {
        sh(script, document).run(Duration::from_secs(60), &AtomicBool::new(false))
    }

    #[test]
    fn the_message_is_one_argument_and_the_document_comes_whole() {
        run("test \"$1\" = 'a; b $(c)' && test $# = 1", Vec::new()).unwrap();
        // Far more than a pipe or a socket holds.
        let document = vec![b'x'; 3 << 20];
        run(&format!("test $(wc -c) = {}", document.len()), document.clone()).unwrap();
        // Whoever does not read it need not.
        run("true", document).unwrap();
    }

    #[test]
    fn its_last_words_say_why() {
        let why = run("seq 200000 >&2; echo 'no\tway' >&2; exit 3", Vec::new()).unwrap_err();
        assert!(why.starts_with("/bin/sh: exit status: 3: ") && why.ends_with(" no way"), "{why}");
        assert!(why.len() < 2 * SAID_BYTES_MAX, "{why}");
        let nowhere = Call { command: vec!["/nowhere/at/all".to_owned()], ..sh("", Vec::new()) };
        let why = nowhere.run(CALL_TIMEOUT, &AtomicBool::new(false)).unwrap_err();
        assert!(why.contains("/nowhere/at/all: No such file"), "{why}");
    }

    /// With everything that it started.
    #[test]
    fn what_takes_too_long_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", note.display());
        let why = sh(&script, Vec::new()).run(Duration::from_secs(1), &AtomicBool::new(false)).unwrap_err();
        assert!(why.contains("killed after 1 s"), "{why}");
        let pid = std::fs::read_to_string(&note).unwrap().trim().to_owned();
        let status = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        while !status().is_empty() && !status().contains("State:\tZ") {
            sleep(LOOK_AFTER);
        }
        // And so is what runs while the agent stops.
        let why = sh("sleep 1000", Vec::new()).run(CALL_TIMEOUT, &AtomicBool::new(true)).unwrap_err();
        assert!(why.contains("the agent stops"), "{why}");
    }
}
