//! meterd makes reported usage durable before it says `ok`, rolls it up by the hour, and sends each hour's records to
//! AWS Marketplace until AWS has answered for every one of them.
//!
//! What `ok` means: that usage is on disk. It survives `kill -9`, a reboot, a power cut and a full disk, and it ends in
//! exactly one place; the [books](rollup::books) balance at any moment. What `ok` does not mean: that AWS has it.
//! Not a goal: to defend against root on the machine, to know prices, to be a general metrics pipeline.
//!
//! # The way from the socket to AWS
//!
//! ```text
//! application ── Unix socket ──> ingest ──> engine ──> wal (append, one sync for many, then `ok`)
//!                                             │
//!                                             ▼  at the top of the hour
//!                                          rollup: seal the hour, fix its records in the log
//!                                             │
//!                                             ▼  oldest first
//!                                          submit ──> AWS Marketplace Metering ──> outcome back into the log
//! ```
//!
//! | module | what it does | what it never does |
//! | --- | --- | --- |
//! | [`ingest`] | lines on the socket, answers back | see AWS; answer before the commit |
//! | [`engine`] | the one owner of the log: takes increments, seals, hands out requests | ask the time |
//! | [`wal`] | the log: checksummed segments, group commit, recovery | read a payload |
//! | [`entry`] | what the log's frames carry, and the codec | |
//! | [`rollup`] | the state as a pure fold over the entries; seals; the books | ask the time, touch the disk |
//! | [`submit`] | what to send next, what an answer means, the door to AWS | see the socket; change a request |
//! | [`index`] | keys and history in sled, derived from the log | decide what may be deleted |
//! | [`audit`] | the log judged from outside, and shown entry by entry | change anything; use the fold's own sums |
//! | [`report`] | what a month came to, and what the next hour's seal would send | change anything; close an hour in its own way |
//! | [`agent`] | the wiring: threads, socket, signals | know a rule of metering |
//! | [`attribution`] | how AWS credits the seller with what this instance uses | hold up metering; overwrite another partner's tag |
//! | [`doctor`] | what has to be right before the first record, checked one by one | meter anything; go another way than the agent |
//! | [`gate`] | whether applications should go on while metering fails | refuse usage |
//! | [`status`], [`metrics`], [`view`] | what people and programs are shown | |
//! | [`reconcile`] | this log's records against AWS's own books | decide what became of a record |
//! | [`evidence`] | a month in one file, chained by hash | keep anything of its own |
//! | [`bench`](mod@bench) | what this disk can do, and the agent on it | touch a state that is not its own |
//! | [`cli`] | a file a command; the only place that prints | |
//! | [`simulate`] | a Metering Service that keeps AWS's rules, for tries and tests | |
//!
//! Below them the vocabulary ([`decimal`], [`hour`], [`tags`], [`histogram`], [`config`]) and the narrow doors to the outside:
//! [`disk`], [`clock`] and [`submit::aws`]. Arrows point one way, from the bottom of this table's order to the top; a
//! test (`tests/tidy.rs`) reads the `use` lines and fails with file and line.
//!
//! # Invariants
//!
//! 1. Every fact enters through one function, which appends it to the log and folds it into the state; what is told to
//!    the outside leaves only after the commit that made it durable.
//! 2. The state is a pure fold: the same log gives the same records, byte for byte, whenever and however often.
//! 3. A request is fixed when its hour is sealed, its attempt is in the log before its first byte leaves, and a retry is
//!    the same request.
//! 4. After a failed sync nothing more is acknowledged; a restart goes through recovery.

pub mod decimal;
pub mod histogram;
pub mod hour;
pub mod tags;

pub mod clock;
pub mod config;
pub mod disk;

pub mod entry;
pub mod index;
pub mod rollup;
pub mod wal;

pub mod engine;
pub mod ingest;
pub mod submit;

pub mod agent;
pub mod attribution;
pub mod audit;
pub mod bench;
pub mod cli;
pub mod doctor;
pub mod evidence;
pub mod gate;
pub mod metrics;
pub mod reconcile;
pub mod report;
pub mod simulate;
pub mod status;
pub mod view;
