//! What the state holds beside the fields whose layout is frozen, and how that stands in a checkpoint: as numbered
//! sections, which a new fact joins without touching the old ones.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::State;
use super::customers::Customers;
use super::customers::register::Register;
use super::foreign::Parting;
use crate::entry::{self, CodecError};
use crate::hour::Timestamp;

/// What is in the state beside the fields of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct More {
    /// Since when something is to be sent and AWS has given no final word on anything; see [`super::waiting`].
    pub waiting_since: Option<Timestamp>,
    /// What stands apart until it is known which instance this is.
    pub parting: Option<Parting>,
    /// What other instances left unsent, by name, each as a state of its own; see [`super::foreign`].
    pub others: BTreeMap<String, State>,
    /// This instance began in the log of another one while the clock was in doubt: its first hour is not known yet.
    pub begun_in_doubt: bool,
    /// Of a SaaS product: its customers.
    pub customers: Option<Box<Customers>>,
    /// Of a SaaS product: who may be billed.
    pub register: Option<Box<Register>>,
}

/// Numbers of sections. A number is never used for anything else, and what stands in it never changes its layout.
mod number {
    pub(super) const WAITING_SINCE: u16 = 1;
    pub(super) const PARTING: u16 = 10;
    pub(super) const OTHERS: u16 = 11;
    pub(super) const BEGUN_IN_DOUBT: u16 = 12;
    pub(super) const CUSTOMERS: u16 = 30;
    pub(super) const REGISTER: u16 = 31;
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
        let More { waiting_since, parting, others, begun_in_doubt, customers, register } = self;
        let mut sections = Vec::new();
        put(&mut sections, number::WAITING_SINCE, waiting_since)?;
        put(&mut sections, number::PARTING, parting)?;
        put(&mut sections, number::OTHERS, others)?;
        put(&mut sections, number::BEGUN_IN_DOUBT, begun_in_doubt)?;
        if let Some(customers) = customers {
            sections.push(Section { number: number::CUSTOMERS, content: entry::encode(&**customers)? });
        }
        if let Some(register) = register {
            sections.push(Section { number: number::REGISTER, content: entry::encode(&**register)? });
        }
        Ok(sections)
    }

    pub(super) fn read(sections: Vec<Section>) -> Result<More, CodecError> {
        let mut more = More::default();
        for Section { number, content } in sections {
            match number {
                number::WAITING_SINCE => more.waiting_since = entry::decode(&content)?,
                number::PARTING => more.parting = entry::decode(&content)?,
                number::OTHERS => more.others = entry::decode(&content)?,
                number::BEGUN_IN_DOUBT => more.begun_in_doubt = entry::decode(&content)?,
                number::CUSTOMERS => more.customers = Some(Box::new(entry::decode::<Customers>(&content)?.whole())),
                number::REGISTER => more.register = Some(entry::decode(&content)?),
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
