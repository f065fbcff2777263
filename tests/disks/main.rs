//! The real binary on real small file systems: full ones, read-only ones, failing ones, stalled ones, and power cuts. Each test runs in
//! a mount and process namespace of its own, so that nothing of it stays behind however it ends; where root, loop
//! devices or a tool are missing it says so and passes.
//!
//! Power cuts, a hundred on each file system, with what they counted:
//! `METERD_CUTS=100 cargo test --test disks cuts -- --nocapture`. `METERD_BIN` names another build to be tested:
//! `tests/disks/control.sh` builds one that does not sync, which must fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test says what it skips, and shows the agent's log")]
#![allow(clippy::float_arithmetic, reason = "a test's own clock counts no money")]
#![allow(dead_code, reason = "what the agent's tests use of the modules below is more than is used here")]

#[path = "../agent/fake_aws.rs"]
mod fake_aws;
#[path = "../agent/socket.rs"]
mod socket;
#[path = "../agent/world.rs"]
mod world;

mod mounts;

mod cuts;
mod failing;
mod full;
mod readonly;
mod stalled;
mod volatile;
