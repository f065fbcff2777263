//! Exit codes, most of them sysexits'. systemd does not restart on 73 and 78.

/// All is well.
pub const FINE: u8 = 0;
/// Something was found or refused.
pub const REFUSED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// No agent answers.
pub const UNREACHABLE: u8 = 69;
/// The state directory is in use, or not for this user.
pub const IN_USE: u8 = 73;
/// The disk failed while running, or the answer could not be written.
pub const DISK: u8 = 74;
/// A retry makes sense.
pub const RETRY: u8 = 75;
/// The log cannot be read, or could not be made safe.
pub const UNSAFE_LOG: u8 = 76;
/// The configuration is wrong.
pub const CONFIG: u8 = 78;
/// Somebody pressed Ctrl-C: what a shell makes of SIGINT.
pub const INTERRUPTED: u8 = 130;
