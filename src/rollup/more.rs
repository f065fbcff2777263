//! What the state holds beside the fields whose layout is frozen, and how that stands in a checkpoint: as numbered
//! sections, which a new fact joins without touching the old ones.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::entry::{self, CodecError};
use crate::hour::Timestamp;

/// What is in the state beside the fields of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct More {
    /// Since when AWS has given a final word on none of the records offered to it: the first such attempt.
    pub failing_since: Option<Timestamp>,
}

/// Numbers of sections. A number is never used for anything else, and what stands in it never changes its layout.
mod number {
    pub(super) const FAILING_SINCE: u16 = 1;
}

/// As it stands in a checkpoint.
#[derive(Serialize, Deserialize)]
pub(super) struct Section {
    number: u16,
    content: Vec<u8>,
}

impl More {
    pub(super) fn sections(&self) -> Result<Vec<Section>, CodecError> {
        // All of them by name, so that a new one cannot be forgotten here.
        let More { failing_since } = self;
        let mut sections = Vec::new();
        put(&mut sections, number::FAILING_SINCE, failing_since)?;
        Ok(sections)
    }

    pub(super) fn read(sections: Vec<Section>) -> Result<More, CodecError> {
        let mut more = More::default();
        for Section { number, content } in sections {
            match number {
                number::FAILING_SINCE => more.failing_since = entry::decode(&content)?,
                other => return Err(CodecError::Section(other)),
            }
        }
        Ok(more)
    }
}

/// What says nothing is left out.
fn put<T: Serialize + DeserializeOwned + Default + PartialEq>(
    sections: &mut Vec<Section>,
    number: u16,
    value: &T,
) -> Result<(), CodecError> {
    if *value != T::default() {
        sections.push(Section { number, content: entry::encode(value)? });
    }
    Ok(())
}
