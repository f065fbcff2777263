//! What goes wrong on purpose, when, and how often.

use std::io;
use std::net::TcpStream;

use meterd::simulate::script::{parse_runtime_faults, parse_script};
use meterd::simulate::{Options, Outage};
use serde_json::{Value, json};

use crate::client::{
    Answer, Aws, ELEVEN_59_59, NOON_THIRTY, PATIENCE, aws, aws_playing, headers, http, receive, request, send,
    wait_until,
};

/// The status and code of each of `n` calls, each for a dimension of its own; (0, "") for no answer.
fn outcomes(aws: &Aws, n: usize) -> Vec<(u16, String)> {
    (0..n)
        .map(|i| {
            let body = request(json!({ "UsageDimension": format!("d{i}") })).to_string();
            match aws.post(&headers(), body.as_bytes()) {
                None => (0, String::new()),
                Some(answer) => (answer.status, answer.code()),
            }
        })
        .collect()
}

fn post(aws: &Aws, members: Value) -> Option<Answer> {
    aws.post(&headers(), request(members).to_string().as_bytes())
}

fn add(aws: &Aws, faults: Value) -> Answer {
    http(aws.simulation.addr(), "POST", "/faults", &[], faults.to_string().as_bytes()).unwrap().unwrap()
}

#[test]
fn a_lost_reply_is_recorded_and_the_retry_finds_it() {
    let aws = aws_playing("[[fault]]\nkind = \"accept_and_lose_reply\"\nnth = 1");
    assert_eq!(post(&aws, json!({ "ClientToken": "t" })), None);
    assert_eq!(aws.ledger()["totals"]["requests"], json!(25));
    let id = post(&aws, json!({ "ClientToken": "t" })).unwrap().record_id();
    let ledger = aws.ledger();
    assert_eq!(ledger["records"][0]["metering_record_id"], json!(id));
    assert_eq!(ledger["records"][0]["calls"], json!(2));
    assert_eq!((&ledger["unanswered"], &ledger["calls"]), (&json!(1), &json!(2)));
    assert_eq!(ledger["faults"], json!({ "accept_and_lose_reply": 1 }));
}

#[test]
fn each_kind_of_error_answers_as_aws_would_and_records_nothing() {
    for (fault, status, code) in [
        ("kind = \"throttle\"", 400, "ThrottlingException"),
        ("kind = \"service_unavailable\"", 503, "ServiceUnavailableException"),
        ("kind = \"internal_error\"", 500, "InternalServiceErrorException"),
        ("kind = \"denied\"", 400, "AccessDeniedException"),
        ("kind = \"expired_token\"", 400, "ExpiredTokenException"),
        ("kind = \"error\"\ncode = \"CustomerNotEntitledException\"", 400, "CustomerNotEntitledException"),
        ("kind = \"error\"\ncode = \"Strange\"\nstatus = 599", 599, "Strange"),
    ] {
        let aws = aws_playing(&format!("[[fault]]\n{fault}\ntimes = 1"));
        let answer = aws.call(json!({}));
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
        assert_eq!(aws.ledger()["records"], json!([]), "{fault}");
        assert_eq!(aws.ledger()["rejected"], json!({ code: 1 }));
        aws.call(json!({})).record_id();
    }
}

#[test]
fn throttling_can_say_when_to_come_back() {
    let aws = aws_playing("[[fault]]\nkind = \"throttle\"\nretry_after_s = 7");
    assert_eq!(aws.call(json!({})).header("retry-after"), Some("7"));
}

#[test]
fn answers_that_are_none_may_hide_a_record() {
    for (kind, body) in [("garbage", "<html><body>It works!</body></html>"), ("empty", "")] {
        for (recorded, records) in [("", 0), ("recorded = true", 1)] {
            let aws = aws_playing(&format!("[[fault]]\nkind = \"{kind}\"\n{recorded}"));
            let answer = aws.call(json!({}));
            assert_eq!((answer.status, answer.body.as_str()), (200, body));
            assert_eq!(aws.simulation.ledger().records.len(), records);
        }
    }
    let aws = aws_playing("[[fault]]\nkind = \"internal_error\"\nrecorded = true");
    assert_eq!(aws.call(json!({})).status, 500);
    assert_eq!(aws.simulation.ledger().records.len(), 1);
}

#[test]
fn a_hang_is_read_but_never_answered() {
    let aws = aws_playing("[[fault]]\nkind = \"hang\"\nnth = 1");
    let mut stream = TcpStream::connect(aws.simulation.addr()).unwrap();
    send(&mut stream, "POST", "/", &headers(), request(json!({})).to_string().as_bytes()).unwrap();
    wait_until("the call has been read", || aws.simulation.ledger().calls == 1);
    stream.set_nonblocking(true).unwrap();
    assert_eq!(receive(&mut stream).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(aws.simulation.ledger().records.is_empty());
}

#[test]
fn a_slow_answer_is_recorded_before_it_arrives() {
    let aws = aws_playing("[[fault]]\nkind = \"slow\"\ndelay_ms = 60000\nnth = 1");
    let mut stream = TcpStream::connect(aws.simulation.addr()).unwrap();
    send(&mut stream, "POST", "/", &headers(), request(json!({})).to_string().as_bytes()).unwrap();
    wait_until("the record stands", || aws.simulation.ledger().records.len() == 1);
    stream.set_nonblocking(true).unwrap();
    assert_eq!(receive(&mut stream).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let aws = aws_playing("[[fault]]\nkind = \"slow\"\ndelay_ms = 1");
    aws.call(json!({})).record_id();
}

#[test]
fn a_wrong_clock_shows_in_the_date_and_judges_by_it() {
    let aws = aws_playing("[[fault]]\nkind = \"wrong_clock\"\nshift_s = 25200\nnth = 1");
    let answer = aws.call(json!({}));
    assert_eq!(answer.code(), "TimestampOutOfBoundsException");
    assert_eq!(answer.header("date"), Some("Sat, 21 Nov 2026 19:30:00 GMT"));
    let aws = aws_playing("[[fault]]\nkind = \"wrong_clock\"\nshift_s = -25200\nnth = 1");
    assert_eq!(aws.refusal(json!({})), "TimestampOutOfBoundsException");
    aws.call(json!({})).record_id();
}

#[test]
fn another_quantity_that_stands_already_is_a_duplicate_for_ever() {
    let aws = aws_playing("[[fault]]\nkind = \"other_quantity\"\nnth = 1");
    assert_eq!(aws.refusal(json!({})), "DuplicateRequestException");
    assert_eq!(aws.refusal(json!({})), "DuplicateRequestException");
    let ledger = aws.ledger();
    assert_eq!((&ledger["records"][0]["planted"], &ledger["records"][0]["quantity"]), (&json!(true), &json!(24)));
    assert_eq!(ledger["totals"], json!({}), "nobody sent it");
}

#[test]
fn nth_counts_the_calls_that_the_other_keys_let_through() {
    let aws = aws_playing("[[fault]]\nkind = \"close\"\nnth = 2\ntimes = 2\ndimension = \"requests\"");
    let answered = |members: Value| post(&aws, members).is_some();
    assert!(answered(json!({ "UsageDimension": "other" })));
    assert!(answered(json!({})));
    assert!(!answered(json!({})));
    assert!(answered(json!({ "UsageDimension": "other" })));
    assert!(!answered(json!({})));
    assert!(answered(json!({})));
}

#[test]
fn the_first_fault_that_fires_decides_and_all_of_them_count() {
    let aws = aws_playing(
        "[[fault]]\nkind = \"throttle\"\nnth = 1\n[[fault]]\nkind = \"internal_error\"\nnth = 2\n[[fault]]\nkind = \
         \"close\"\nnth = 2",
    );
    let statuses: Vec<u16> = outcomes(&aws, 3).into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, [400, 500, 0], "the third fault was passed over at 2 and still has its turn");
}

#[test]
fn dry_runs_can_be_told_apart() {
    let aws = aws_playing("[[fault]]\nkind = \"throttle\"\ndry_run = false\nnth = 1");
    assert_eq!(aws.refusal(json!({ "DryRun": true })), "DryRunOperation");
    assert_eq!(aws.refusal(json!({})), "ThrottlingException");
}

#[test]
fn times_of_day_and_offsets_bound_a_fault() {
    let aws = aws_playing(
        "[[fault]]\nkind = \"denied\"\nfrom = \"+1h\"\nuntil = \"+1h30m\"\n[[fault]]\nkind = \"expired_token\"\nfrom = \
         \"2026-11-21T15:00:00Z\"",
    );
    for (minutes, expected) in [
        (0, ""),
        (59, ""),
        (60, "AccessDeniedException"),
        (89, "AccessDeniedException"),
        (90, ""),
        (149, ""),
        (150, "ExpiredTokenException"),
        (900, "ExpiredTokenException"),
    ] {
        let now = NOON_THIRTY + minutes * 60;
        aws.clock.set(now);
        assert_eq!(aws.refusal(json!({ "Timestamp": now })), expected, "after {minutes} minutes");
    }
}

#[test]
fn a_chance_is_repeatable_by_its_seed() {
    let with_seed = |seed: u32| {
        let script = format!("[[fault]]\nkind = \"throttle\"\nprobability = 0.5\nseed = {seed}");
        outcomes(&aws_playing(&script), 64).into_iter().map(|(status, _)| status).collect::<Vec<_>>()
    };
    let first = with_seed(7);
    assert_eq!(first, with_seed(7));
    assert_ne!(first, with_seed(8));
    assert!(first.contains(&200) && first.contains(&400));
}

#[test]
fn faults_can_be_added_and_cleared_while_it_runs() {
    let aws = aws(Options::default());
    assert_eq!(add(&aws, json!({ "kind": "throttle", "nth": 2 })).json(), json!({ "added": 1 }));
    assert_eq!(add(&aws, json!([{ "kind": "denied", "nth": 3 }, { "kind": "denied", "nth": 4 }])).status, 200);
    let statuses: Vec<u16> = outcomes(&aws, 3).into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, [200, 400, 400]);
    let cleared = http(aws.simulation.addr(), "DELETE", "/faults", &[], b"").unwrap().unwrap();
    assert_eq!(cleared.status, 200);
    assert_eq!(outcomes(&aws, 2)[1].0, 200);
    assert_eq!(add(&aws, json!({ "kind": "explode" })).status, 400);
    let endless = add(&aws, json!({ "kind": "out" }));
    assert!(endless.json()["message"].as_str().unwrap().contains("until"), "{}", endless.body);
}

#[test]
fn an_outage_refuses_connections_and_ends() {
    let aws = aws(Options::default());
    let addr = aws.simulation.addr();
    // A connection that has carried a call, and so is not merely waiting to be accepted.
    let mut idle = TcpStream::connect(addr).unwrap();
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    send(&mut idle, "POST", "/", &headers(), request(json!({})).to_string().as_bytes()).unwrap();
    receive(&mut idle).unwrap().unwrap().record_id();
    for _ in 0..3 {
        aws.simulation.set_outage(Some(Outage::ConnectionRefused));
        let refused = TcpStream::connect(addr).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        aws.simulation.set_outage(None);
        aws.call(json!({})).record_id();
    }
    assert_eq!(receive(&mut idle).unwrap(), None, "idle connections were closed");
    aws.simulation.set_outage(Some(Outage::ServiceUnavailable));
    assert_eq!(aws.refusal(json!({})), "ServiceUnavailableException");
    aws.simulation.set_outage(None);
    assert_eq!(aws.simulation.ledger().records[0].calls, 4);
}

#[test]
fn the_port_closes_and_opens_at_scripted_times() {
    let aws = aws_playing("[[fault]]\nkind = \"refuse_connection\"\nfrom = \"+1h\"\nuntil = \"2026-11-21T14:30:00Z\"");
    let addr = aws.simulation.addr();
    aws.call(json!({})).record_id();
    aws.clock.set(NOON_THIRTY + 3600);
    wait_until("connections are refused", || TcpStream::connect(addr).is_err());
    aws.clock.set(NOON_THIRTY + 7200);
    wait_until("connections are accepted", || TcpStream::connect(addr).is_ok());
    assert_eq!(aws.call(json!({ "Timestamp": ELEVEN_59_59 + 3600 })).status, 200);
}

#[test]
fn what_is_wrong_with_a_script_is_said_with_its_line() {
    for (script, line, part) in [
        ("\n[[fault]]\nkind = \"throttle\"\nnht = 1", 4, "nht"),
        ("[[fault]]\nkind = \"explode\"", 2, "explode"),
        ("[[fault]]\nnth = 1", 1, "kind"),
        ("faults = 1", 1, "faults"),
        ("[[fault]]\nkind = \"throttle\"\n\n[[fault]]\nkind = \"slow\"", 4, "delay_ms"),
        ("[[fault]]\nkind = \"throttle\"\ndelay_ms = 3", 1, "delay_ms does not go with"),
        ("[[fault]]\nkind = \"wrong_clock\"", 1, "shift_s"),
        ("[[fault]]\nkind = \"denied\"\nprobability = 0.5", 1, "seed"),
        ("[[fault]]\nkind = \"denied\"\nprobability = 1.5\nseed = 1", 1, "between 0 and 1"),
        ("[[fault]]\nkind = \"denied\"\nnth = 0", 1, "counts from 1"),
        ("[[fault]]\nkind = \"denied\"\nfrom = \"noon\"", 1, "RFC 3339"),
        ("[[fault]]\nkind = \"denied\"\nfrom = \"+1x\"", 1, "1h30m"),
        ("[[fault]]\nkind = \"out\"\nnth = 1", 1, "from"),
        ("[[fault]]\nkind = \"error\"", 1, "code"),
        ("[[fault]]\nkind = \"error\"\ncode = \"X\"\nstatus = 200", 1, "400 and 599"),
        ("[[fault", 1, "]]"),
    ] {
        let error = parse_script(script).unwrap_err();
        assert_eq!(error.line, line, "{script:?}: {error}");
        assert!(error.message.contains(part), "{script:?}: {error}");
    }
}

#[test]
fn the_documented_script_is_read_and_json_means_the_same() {
    let documentation = include_str!("../../src/simulate/script.rs");
    let shown: String = documentation
        .lines()
        .skip_while(|line| *line != "//! ```toml")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| line.trim_start_matches("//!").to_owned() + "\n")
        .collect();
    let faults = parse_script(&shown).unwrap();
    assert_eq!(faults.len(), 3);
    let json = json!([
        { "kind": "accept_and_lose_reply", "nth": 3 },
        { "kind": "refuse_connection", "from": "+1h", "until": "+2h30m" },
        { "kind": "throttle", "dimension": "requests", "probability": 0.2, "seed": 7, "retry_after_s": 2 },
    ]);
    assert_eq!(parse_runtime_faults(json.to_string().as_bytes()).unwrap(), faults);
}
