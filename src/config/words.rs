//! Values that are one word out of a few. Each word stands once, in the table that both reading and showing use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One word out of a few.
pub trait Word: Copy + PartialEq + 'static {
    /// Every value with its word in the configuration.
    const WORDS: &'static [(Self, &'static str)];

    /// The word in the configuration.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(value, _)| *value == self).map_or("", |(_, word)| *word)
    }

    /// The value with this word.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, known)| *known == word).map(|(value, _)| *value)
    }
}

macro_rules! words {
    ($name:ident: $($variant:ident $word:literal),+) => {
        impl Word for $name {
            const WORDS: &'static [(Self, &'static str)] = &[$(($name::$variant, $word)),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

/// What kind of product it is, and with it the API operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProductKind {
    /// Runs on the buyer's instance: MeterUsage.
    Ami,
    /// Runs on the seller's: BatchMeterUsage.
    Saas,
}
words!(ProductKind: Ami "ami", Saas "saas");

/// How an hour's increments become its usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Their total.
    Sum,
    /// How many there were.
    Count,
    /// The largest.
    Max,
    /// The latest.
    Last,
    /// How many different ids they named.
    Unique,
    /// Seconds the agent ran; metered by the agent itself.
    Uptime,
}
words!(Measure: Sum "sum", Count "count", Max "max", Last "last", Unique "unique", Uptime "uptime");

/// What becomes of usage below one billed unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Round {
    /// It is carried to the next hour.
    Carry,
    /// It is billed as a whole unit.
    Up,
    /// It is not billed.
    Down,
}
words!(Round: Carry "carry", Up "up", Down "down");

/// What an included quantity is renewed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Every hour.
    Hour,
    /// Every UTC calendar month.
    Month,
}
words!(Period: Hour "hour", Month "month");

/// Where credentials come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// Instance metadata and nothing else: only the instance's role counts for MeterUsage.
    Instance,
    /// The SDK's default chain.
    Environment,
}
words!(Credentials: Instance "instance", Environment "environment");

/// What becomes of a record whose window has passed.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// Its billed units go out with a later hour's record.
    #[default]
    CarryForward,
    /// It is closed as `expired`.
    Expire,
}
words!(Late: CarryForward "carry_forward", Expire "expire");

/// What becomes of usage of customers whom the register does not know.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownCustomers {
    /// It waits, as soon as the register has somebody in it; until then it is sent.
    #[default]
    Auto,
    /// It waits.
    Wait,
    /// It is sent.
    Send,
}
words!(UnknownCustomers: Auto "auto", Wait "wait", Send "send");

/// Whether hours without usage are reported.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroRecords {
    /// They are not.
    #[default]
    Off,
    /// Every completed hour of every dimension is, of a SaaS product for every active customer.
    All,
}
words!(ZeroRecords: Off "off", All "all");
