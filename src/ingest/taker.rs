//! Who takes what writers send: the engine, or, while no log is open, one who says so.

use super::allow::Writer;
use super::protocol::{self, Line};
use crate::disk::Disk;
use crate::engine::{Code, Engine, Refusal, Taken, Tally};
use crate::entry::Peer;
use crate::hour::Timestamp;

/// Takes increments into a batch, or says why not.
pub trait Taker {
    /// Takes all that a line asks for, or nothing. It counts once the batch is durable.
    fn take_line(&mut self, peer: Peer, line: &Line<'_>, now: Timestamp) -> Result<Taken, Refusal>;

    /// Where is counted what writers were told.
    fn tally(&mut self) -> &mut Tally;
}

impl<D: Disk> Taker for Engine<D> {
    fn take_line(&mut self, peer: Peer, line: &Line<'_>, now: Timestamp) -> Result<Taken, Refusal> {
        match line {
            Line::One(new) => self.take(peer, new, now),
            Line::Many(news) => self.take_all(peer, news, now),
        }
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// Takes nothing: every increment is refused, to be sent again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// Which error writers get.
    pub code: Code,
    /// Why, for people.
    pub message: String,
    /// How often.
    pub tally: Tally,
}

impl Taker for NotReady {
    fn take_line(&mut self, _: Peer, _: &Line<'_>, _: Timestamp) -> Result<Taken, Refusal> {
        Err(Refusal { code: self.code, message: self.message.clone(), index: None })
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// Reads a line, or the body of a request, and takes it; whether it was an array, and what became of it. What `writer`
/// may not write is refused before anything is said about it.
pub fn take(taker: &mut impl Taker, writer: &Writer, bytes: &[u8], now: Timestamp) -> (bool, Result<Taken, Refusal>) {
    let (array, answer) = match writer.may_write().and_then(|()| protocol::parse(bytes)) {
        Ok(line) => {
            let allowed = writer.may_write_all(&line);
            (matches!(line, Line::Many(_)), allowed.and_then(|()| taker.take_line(writer.peer, &line, now)))
        }
        Err(refusal) => (false, Err(refusal)),
    };
    match &answer {
        Ok(taken) => taker.tally().duplicates += taken.duplicates,
        Err(refusal) => taker.tally().refuse(refusal.code),
    }
    (array, answer)
}
