//! The state as the bytes of a checkpoint: the fields of version 1, whose layout is frozen, and behind them the sections
//! of what the state has learnt to hold since.
//!
//! A section that this version does not know is a fact about money that it would forget, so such a checkpoint is not
//! read. The first builds of version 1 wrote no sections at all: their checkpoints say nothing of what a fold over the
//! same entries finds today, and are compared without it.

use super::State;
use super::more::More;
use crate::entry::{self, CodecError};

/// A checkpoint, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The state at its place in the log.
    pub state: State,
    /// Whether it says anything beyond the fields of version 1.
    has_sections: bool,
}

impl Checkpoint {
    /// The bytes of a checkpoint of `state`.
    pub fn encode(state: &State) -> Result<Vec<u8>, CodecError> {
        let mut bytes = entry::encode(state)?;
        // In two steps, so that what the sections are made of is gone by then: of many customers it is long.
        let sections = entry::encode(&state.more.sections()?)?;
        bytes.extend(sections);
        Ok(bytes)
    }

    /// Reads one. Only for bytes whose checksum held.
    pub fn decode(bytes: &[u8]) -> Result<Checkpoint, CodecError> {
        let (mut state, rest) = entry::decode_first::<State>(bytes)?;
        let has_sections = !rest.is_empty();
        if has_sections {
            state.more = More::read(entry::decode(rest)?)?;
        }
        Ok(Checkpoint { state, has_sections })
    }

    /// Whether this is what the entries before it come to, as far as it says.
    pub fn agrees_with(&self, folded: &State) -> bool {
        if self.has_sections {
            return self.state == *folded;
        }
        self.state == State { more: More::default(), ..folded.clone() }
    }
}
