//! Ingest: from bytes on the socket to increments in the engine, and answers back.
//!
//! [`protocol`] is the JSON lines protocol as a pure function (described in [`protocol_document`]); [`connection`] one client's buffers and limits;
//! [`taker`] whoever takes its lines; [`listener`] the socket and who is on its other end; [`allow`] what they may. The loop that reads every ready connection, commits once and
//! answers is [`crate::agent`]'s.
//!
//! Invariant: an answer that says `ok` is written only after the commit that made its increments durable.

pub mod allow;
pub mod connection;
pub mod listener;
pub mod protocol;
pub mod taker;

#[doc = include_str!("PROTOCOL.md")]
pub mod protocol_document {}
