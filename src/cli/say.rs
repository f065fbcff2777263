//! Words for the terminal. Whoever closes the pipe has heard enough: that is no reason to panic, nor to fail.

/// Prints a line to standard output, if anybody is there.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

/// Prints a line to standard error, if anybody is there.
macro_rules! complain {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

pub(super) use {complain, say};
