#![doc = include_str!("CONFIG.md")]
//!
//! # In code
//! Two kinds of type keep the file and the agent apart: `raw` holds what stands in the file with the line of every
//! value, the types here hold what was checked. A [`Config`] that came through [`Config::parse`] or [`Config::load`] is
//! within every bound of [`limits`]; nothing later checks again, and nothing ever adjusts a value.

mod check;
mod check_dimension;
pub mod duration;
mod endpoint;
mod error;
pub mod limits;
mod names;
mod not_built;
mod overrides;
mod raw;
pub mod reload;
mod show;
mod table;
mod words;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use crate::decimal::Amount;
pub use error::{ConfigError, ConfigErrors};
pub use overrides::{DEFAULT_PATH, Overrides};
pub use words::{Credentials, Late, Measure, Period, ProductKind, Round, Word, ZeroRecords};

/// The checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What is sold.
    pub product: Product,
    /// What is measured; 1 to 24, their names unique.
    pub dimensions: Vec<Dimension>,
    /// Where usage is reported, and who may.
    pub socket: Socket,
    /// Who is told when something needs attention.
    pub alert: Alert,
    /// Where the log lies.
    pub state: State,
    /// How records go to AWS.
    pub submit: Submit,
    /// Which instance this is.
    pub instance: Instance,
    /// When an hour ends.
    pub hour: HourRules,
    /// What applications are told when metering fails.
    pub gate: Gate,
}

/// What is sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// AWS's product code: 1 to 255 of `[-a-zA-Z0-9/=:_.@]`.
    pub code: String,
    /// Which API operation its records go to.
    pub kind: ProductKind,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimension {
    /// As published in the listing: 1 to 15 of `[A-Za-z0-9_]`, for SaaS products up to 255.
    pub name: String,
    /// How an hour's increments become its usage.
    pub measure: Measure,
    /// An hour without a report repeats the hour before; only with [`Measure::Last`].
    pub sticky: bool,
    /// Usage units in one billed unit; above 0.
    pub unit: Amount,
    /// What becomes of usage below one billed unit.
    pub round: Round,
    /// A record above this many billed units waits for a person.
    pub hold_above: Option<Amount>,
    /// Usage covered by the base price.
    pub included: Option<Included>,
    /// Price of a billed unit, for previews only; in the listing's currency.
    pub price: Option<Amount>,
    /// Uids that may write this dimension; empty: as for the socket.
    pub allow_users: Vec<u32>,
    /// The dimensions this one is made of, themselves not billed; empty: reported as itself. With sources the measure
    /// is [`Measure::Sum`].
    pub from: Vec<Source>,
}

/// Usage covered by the base price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Included {
    /// Usage units; 0 or more.
    pub quantity: Amount,
    /// How often it is renewed.
    pub per: Period,
}

/// One source of a dimension that is made of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Another dimension, with measure sum or count and no sources itself.
    pub name: String,
    /// Usage units that one of the source's makes; above 0.
    pub weight: Amount,
}

/// Where usage is reported, and who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Absolute, up to 107 bytes, and not `admin.sock`, which lies beside it.
    pub path: PathBuf,
    /// Permission bits, up to 0o777.
    pub mode: u32,
    /// Uids that may write; with `allow_groups` also empty: whoever the mode lets in.
    pub allow_users: Vec<u32>,
    /// Gids whose members may write.
    pub allow_groups: Vec<u32>,
    /// Uids that may read status, records and metrics; empty: as for writing.
    pub allow_read_users: Vec<u32>,
}

/// Who is told when something needs attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// An absolute path and its arguments, called with the message as one more; empty: nobody.
    pub command: Vec<String>,
}

/// Where the log lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Absolute.
    pub dir: PathBuf,
    /// Bytes of one segment of the log: 1 MiB to 1 GiB, a multiple of 4096.
    pub segment_bytes: u32,
    /// Days that segments are kept after all in them is settled: 1 to 3650.
    pub retain_days: u32,
    /// Whether `dir` may lie where a reboot empties it.
    pub allow_volatile: bool,
}

/// How records go to AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submit {
    /// `[a-z0-9-]{1,64}`; none: the instance's.
    pub region: Option<String>,
    /// An http(s) URL of a host, http only for a loopback host; none: AWS's own.
    pub endpoint_url: Option<String>,
    /// Where credentials come from.
    pub credentials: Credentials,
    /// The profile of the default chain, 1 to 64 of `[A-Za-z0-9._-]`; none: as the environment says. Only with
    /// [`Credentials::Environment`].
    pub profile: Option<String>,
    /// The role that calls are made as, by its ARN; none: whoever the credentials are of. Only with
    /// [`Credentials::Environment`].
    pub role_arn: Option<String>,
    /// When in the hour records are sent.
    pub offset: Offset,
    /// How far back AWS accepts a record: 1 h to 24 h, for SaaS products to 30 days.
    pub window: Duration,
    /// What becomes of a record past its window.
    pub late: Late,
    /// Whether hours without usage are reported.
    pub zero_records: ZeroRecords,
    /// Calls with customers' records that may be under way at once, and so in doubt after an outage: 1 to 4.
    pub calls_in_flight: u32,
}

impl Submit {
    /// Whether records go to this machine itself, and so to no real AWS.
    pub fn is_loopback(&self) -> bool {
        self.endpoint_url.as_deref().is_some_and(endpoint::is_loopback)
    }
}

/// When in the hour records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset {
    /// Between two and twelve minutes after the hour, by instance.
    Auto,
    /// So long after the hour, for all: 0 s to 50 min.
    Fixed(Duration),
}

/// Which instance this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// A fixed name, 1 to 64 of `[A-Za-z0-9._-]`; none: found out on the machine.
    pub id: Option<String>,
}

/// When an hour ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourRules {
    /// How long after the hour its `at`-stamped usage is still taken: 0 s to 15 min.
    pub grace: Duration,
}

/// What applications are told when metering fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// How long metering fails before `warn`: 1 min or more.
    pub warn_after: Duration,
    /// How long before `closed`: 2 h or more, and no less than `warn_after`; none: never.
    pub close_after: Option<Duration>,
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        let file_name = path.display().to_string();
        Config::parse(&read(path, &file_name)?, &file_name)
    }

    /// Checks `text`; errors call it `file_name`. User and group names are looked up on this machine.
    pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
        parse_with_lines(text, file_name).map(|(config, _)| config)
    }

    /// Like [`Config::load`], with the environment's overrides, and refuses what this version cannot do yet: what `run`
    /// starts from and `check-config` judges by.
    pub fn load_for_run(path: &Path, overrides: &Overrides) -> Result<Config, ConfigErrors> {
        Config::load_with_lines(path, overrides).map(|(config, _)| config)
    }

    fn load_with_lines(path: &Path, overrides: &Overrides) -> Result<(Config, raw::KeyLines), ConfigErrors> {
        let file_name = path.display().to_string();
        let (mut config, lines) = parse_with_lines(&read(path, &file_name)?, &file_name)?;
        ConfigErrors::unless_any(not_built::not_built(&config, &file_name, &lines), ())?;
        overrides.apply(&mut config);
        Ok((config, lines))
    }
}

fn parse_with_lines(text: &str, file_name: &str) -> Result<(Config, raw::KeyLines), ConfigErrors> {
    let mut findings = table::Findings::new(text, file_name);
    let document = match DeTable::parse(text) {
        Ok(document) => document.into_inner(),
        Err(error) => {
            let line = findings.line(error.span().map_or(0, |span| span.start));
            // The parser has nothing to suggest where it expects "nothing".
            let message = error.message().trim_end_matches(", expected nothing");
            let what = format!("not TOML: {}", message.replace('\n', ", "));
            let remedy = "mend the line; the rest is checked after that".to_owned();
            return Err(ConfigError { file: file_name.to_owned(), line: Some(line), what, remedy }.into());
        }
    };
    let lines = raw::lines(&document, &findings);
    let config = check::check(raw::read(&document, &mut findings), &mut findings);
    ConfigErrors::unless_any(findings.into_found(), (config, lines))
}

/// The whole text of the file, which has to be a modest one.
fn read(path: &Path, file: &str) -> Result<String, ConfigErrors> {
    let refuse = |line, what: String, remedy: &str| {
        ConfigErrors::from(ConfigError { file: file.to_owned(), line, what, remedy: remedy.to_owned() })
    };
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(limits::FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refuse(
            None,
            "there is no such file".to_owned(),
            "write one with [product] code = \"…\" and a [[dimension]] with its name, or name another with --config or \
             METERD_CONFIG",
        ),
        io::ErrorKind::PermissionDenied => {
            refuse(None, format!("cannot be read: {error}"), "let the agent's user read it, and enter its directory")
        }
        _ => refuse(None, format!("cannot be read: {error}"), "name a readable file"),
    })?;
    if bytes.len() as u64 > limits::FILE_BYTES_MAX {
        let what = format!("is larger than {} bytes", limits::FILE_BYTES_MAX);
        return Err(refuse(None, what, "name the configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or(&[]);
        let line = memchr::memchr_iter(b'\n', good).count() + 1;
        refuse(u32::try_from(line).ok(), "not UTF-8".to_owned(), "save the file in UTF-8")
    })
}
