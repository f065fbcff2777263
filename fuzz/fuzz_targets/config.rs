//! A configuration of anything: a configuration that shows and reads as itself, or errors that each name the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meterd::config::Config;

fuzz_target!(|text: &str| {
    match Config::parse(text, "f.toml") {
        Ok(config) => assert_eq!(Config::parse(&config.to_toml(), "f.toml").as_ref(), Ok(&config)),
        Err(errors) => assert!(errors.iter().all(|e| e.file == "f.toml")),
    }
});
