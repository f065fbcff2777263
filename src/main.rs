//! The binary `meterd`.

fn main() {}
