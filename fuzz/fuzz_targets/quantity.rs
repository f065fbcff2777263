//! A quantity of anything: what is read is shown, and what is shown is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meterd::decimal::Amount;
use meterd::hour::Timestamp;

fuzz_target!(|text: &str| {
    if let Ok(amount) = Amount::parse_quantity(text) {
        assert!(!amount.is_negative());
        assert_eq!(Amount::parse_quantity(&amount.to_string()), Ok(amount));
    }
    if let Some(moment) = Timestamp::parse(text) {
        let _ = moment.hour().to_string();
    }
});
