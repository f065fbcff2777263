//! The promise of HTTP on the socket: the same increments, with the status codes of the interface.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use crate::socket::{exchange, get, post, request};
use crate::world::{PATIENCE, World, units, wait_until};

const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;

#[test]
fn usage_is_taken_and_refused_with_the_status_that_fits() {
    let world = World::at_noon();
    let text = crate::world::read(&world.config())
        .replace("[socket]", "[[dimension]]\nname = \"peak\"\nmeasure = \"max\"\n[socket]");
    std::fs::write(world.config(), text).unwrap();
    let agent = world.start();
    let socket = world.socket();
    let ok = post(&socket, ONE);
    assert_eq!((ok.status, ok.json()), (200, json!({ "ok": true, "seq": 1 })));
    assert_eq!(ok.header("content-type"), Some("application/json"));
    let array = post(&socket, &format!("[{ONE},\n{ONE}]"));
    assert_eq!((array.status, array.json()), (200, json!({ "ok": true, "seq": 3, "count": 2, "duplicates": 0 })));
    let pretty = "{\n  \"dimension\": \"requests\",\n  \"quantity\": 1,\n  \"key\": \"a\"\n}\n";
    assert_eq!(post(&socket, pretty).json()["seq"], 4);
    assert_eq!(post(&socket, pretty).json()["duplicate"], true);
    let cases = [
        (pretty.replace(": 1,", ": 2,"), 409, "key_conflict"),
        (r#"{"dimension":"peak","quantity":1,"at":"2026-11-21T09:00:00Z"}"#.into(), 409, "hour_closed"),
        (r#"{"dimension":"peek","quantity":1}"#.into(), 400, "unknown_dimension"),
        (r#"{"dimension":"requests","quantity":-1}"#.into(), 400, "bad_quantity"),
        ("[]".into(), 400, "bad_request"),
        (String::new(), 400, "bad_request"),
        (format!("{ONE}\n{ONE}"), 400, "bad_request"),
        (format!("[{ONE},{{}}]"), 400, "bad_request"),
        (format!("{ONE}{}", " ".repeat(64 * 1024)), 413, "too_large"),
    ];
    for (body, status, code) in cases {
        let answer = post(&socket, &body);
        assert_eq!((answer.status, &answer.json()["error"]), (status, &json!(code)), "{body:.100} -> {answer:?}");
        assert_eq!((&answer.json()["ok"], &answer.json()["retryable"]), (&json!(false), &json!(false)));
    }
    let page = request(&socket, "POST", "/v1/usage", &[("origin", "http://evil.example")], ONE.as_bytes()).unwrap();
    assert_eq!((page.status, &page.json()["error"]), (403, &json!("not_allowed")));
    assert_eq!(get(&socket, "/nothing").unwrap().status, 404);
    assert_eq!(get(&socket, "/v1/usage").unwrap().status, 405);
    assert_eq!(request(&socket, "DELETE", "/v1/records", &[], b"").unwrap().status, 405);
    assert_eq!(get(&socket, "/healthz").unwrap().status, 200);
    assert_eq!(get(&socket, "/v1/records").unwrap().json(), json!([]));
    let status = get(&socket, "/v1/status").unwrap().json();
    for field in ["version", "instance_id", "product_code", "ready", "uptime_s", "log", "open_hour", "records", "aws"] {
        assert!(!status[field].is_null(), "{field}: {status}");
    }
    assert_eq!(status["oldest_pending"], json!(null));
    assert_eq!(units(&agent.books("requests"), "received"), 4);
}

#[test]
fn a_connection_is_kept_and_takes_request_after_request() {
    let world = World::at_noon();
    let agent = world.start();
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for seq in 1..=200 {
        let answer = exchange(&mut stream, "POST", "/v1/usage", &[], ONE.as_bytes()).unwrap();
        assert_eq!((answer.status, &answer.json()["seq"]), (200, &json!(seq)));
    }
    assert_eq!(units(&agent.books("requests"), "received"), 200);
}

#[test]
fn what_a_stopping_agent_made_durable_it_has_also_answered() {
    let world = World::at_noon();
    let mut expected = 0;
    for _ in 0..12 {
        let mut agent = world.start();
        assert_eq!(units(&agent.books("requests"), "received"), expected, "a durable increment was not answered");
        let told = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let Ok(mut stream) = UnixStream::connect(world.socket()) else { return };
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    while let Ok(answer) = exchange(&mut stream, "POST", "/v1/usage", &[], ONE.as_bytes()) {
                        if answer.status != 200 {
                            assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("shutting_down")));
                            assert_eq!(answer.json()["recorded"], "no");
                            break;
                        }
                        told.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            wait_until("usage flows", || told.load(Ordering::Relaxed) > 100);
            agent.signal(Signal::TERM);
            assert_eq!(agent.wait().code(), Some(0));
        });
        expected += told.load(Ordering::Relaxed);
    }
}
