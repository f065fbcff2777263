//! The promise of HTTP on the socket: the same increments, with the status codes of the interface.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use crate::socket::{exchange, get, post, raw, request};
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

/// Status, headers and body of the one answer that a connection gave.
fn only(said: &str) -> (u16, String, String) {
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

#[test]
fn whatever_is_refused_is_refused_in_one_shape() {
    let world = World::at_noon();
    let agent = world.start();
    let head = |lines: &str| format!("{lines}\r\nhost: meterd\r\nconnection: close\r\n");
    let body = |headers: &str| {
        format!("{}{headers}content-length: {}\r\n\r\n{ONE}", head("POST /v1/usage HTTP/1.1"), ONE.len())
    };
    let long = "a".repeat(300_000);
    let cases = [
        (format!("{}\r\n", head("GET /v1/other HTTP/1.1")), 404, "not_found", ""),
        (format!("{}\r\n", head("GET /v1/usage HTTP/1.1")), 405, "method_not_allowed", "allow: post\r\n"),
        (body("").replacen("POST /v1/usage", "POST /v1/status", 1), 405, "method_not_allowed", "allow: get, head\r\n"),
        (format!("{}\r\n", head("BREW /v1/gate HTTP/1.1")), 405, "method_not_allowed", "allow: get, head\r\n"),
        (format!("{}\r\n", head("POST /v1/usage HTTP/1.1")), 411, "length_required", ""),
        (body("content-type: text/xml\r\n"), 415, "unsupported_media_type", ""),
        (body("content-encoding: gzip\r\n"), 415, "unsupported_media_type", ""),
        (body("origin: https://example.com\r\n"), 403, "not_allowed", ""),
        (format!("{}origin: null\r\n\r\n", head("GET /v1/status HTTP/1.1")), 403, "not_allowed", ""),
        (format!("{}content-length: 70000\r\n\r\n", head("POST /v1/usage HTTP/1.1")), 413, "too_large", ""),
        ("GET /v1/status HTTP/9\r\n\r\n".into(), 400, "bad_request", "connection: close"),
        ("GARBAGE\r\n\r\n".into(), 400, "bad_request", "connection: close"),
        (format!("{}content-length: -1\r\n\r\n", head("POST /v1/usage HTTP/1.1")), 400, "bad_request", ""),
        (format!("{}x: {long}\r\n\r\n", head("GET /v1/status HTTP/1.1")), 431, "head_too_large", "connection: close"),
        (
            format!("{}{}\r\n", head("GET / HTTP/1.1"), "a: b\r\n".repeat(200)),
            431,
            "head_too_large",
            "connection: close",
        ),
    ];
    for (request, expected, error, header) in cases {
        let said = raw(&world.socket(), &request);
        assert!(said.starts_with("HTTP/1.1 "), "{request:.200} -> {said:?}");
        let (status, head, body) = only(&said);
        assert_eq!(status, expected, "{request:.200} -> {said}");
        assert!(head.contains("content-type: application/json") && head.contains(header.trim_end()), "{head}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["ok"], &body["error"], &body["retryable"]), (&json!(false), &json!(error), &json!(false)));
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    assert_eq!(units(&agent.books("requests"), "received"), 0);
}

#[test]
fn http_is_spoken_in_all_its_ways() {
    let world = World::at_noon();
    let agent = world.start();
    let socket = world.socket();
    let n = ONE.len();
    let close = "host: meterd\r\nconnection: close\r\n";
    // As curl says it.
    let form = format!(
        "POST /v1/usage HTTP/1.1\r\n{close}content-type: application/x-www-form-urlencoded\r\ncontent-length: {n}\r\n\r\n{ONE}"
    );
    assert!(raw(&socket, form).ends_with("{\"ok\":true,\"seq\":1}\n"));
    let json = format!(
        "POST /v1/usage HTTP/1.1\r\n{close}content-type: Application/JSON; charset=utf-8\r\ncontent-length: {n}\r\n\r\n{ONE}"
    );
    assert!(raw(&socket, json).ends_with("{\"ok\":true,\"seq\":2}\n"));
    let chunked = format!(
        "POST /v1/usage HTTP/1.1\r\n{close}transfer-encoding: chunked\r\n\r\n5\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        &ONE[..5],
        n - 5,
        &ONE[5..]
    );
    assert!(raw(&socket, chunked).ends_with("{\"ok\":true,\"seq\":3}\n"));
    let old = format!("POST /v1/usage HTTP/1.0\r\ncontent-length: {n}\r\n\r\n{ONE}");
    let said = raw(&socket, old);
    assert!(said.starts_with("HTTP/1.0 200 OK\r\n") && said.ends_with("{\"ok\":true,\"seq\":4}\n"), "{said}");
    // Many in flight, answered in order; the last one ends the connection.
    let one = format!("POST /v1/usage HTTP/1.1\r\nhost: meterd\r\ncontent-length: {n}\r\n\r\n{ONE}");
    let end = format!("GET /healthz HTTP/1.1\r\n{close}\r\n");
    let said = raw(&socket, one.repeat(50) + &end);
    let seqs: Vec<&str> = said.split("\"seq\":").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
    assert_eq!(seqs, (5..55).map(|seq| seq.to_string()).collect::<Vec<_>>());
    assert!(said.ends_with("{\"ready\":true}\n"));
    for path in ["/v1/status", "/v1/records", "/v1/gate", "/healthz", "/metrics", "/v1/openapi.json"] {
        let said = raw(&socket, format!("HEAD {path} HTTP/1.1\r\n{close}\r\n"));
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\n"), "{path}: {said}");
        assert!(said.contains("content-length: ") && !said.contains("content-length: 0\r\n"), "{path}: {said}");
    }
    // A client that asks first, and one that takes its time.
    let mut asking = UnixStream::connect(&socket).unwrap();
    asking.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("POST /v1/usage HTTP/1.1\r\n{close}expect: 100-continue\r\ncontent-length: {n}\r\n\r\n");
    asking.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    asking.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    for byte in ONE.bytes() {
        asking.write_all(&[byte]).unwrap();
        thread::sleep(std::time::Duration::from_millis(2));
    }
    let mut said = String::new();
    asking.read_to_string(&mut said).unwrap();
    assert!(said.ends_with("{\"ok\":true,\"seq\":55}\n"), "{said}");
    // What is too large is told before it is sent.
    let large = format!("POST /v1/usage HTTP/1.1\r\n{close}expect: 100-continue\r\ncontent-length: 99999\r\n\r\n");
    assert!(raw(&socket, large).starts_with("HTTP/1.1 413 "));
    // Half a body is not taken.
    let mut broken = UnixStream::connect(&socket).unwrap();
    broken.write_all(format!("POST /v1/usage HTTP/1.1\r\ncontent-length: 999\r\n\r\n{ONE}").as_bytes()).unwrap();
    drop(broken);
    assert_eq!(agent.tell(ONE)["seq"], 56);
    assert_eq!(units(&agent.books("requests"), "received"), 56);
}

#[test]
fn what_does_not_come_is_given_up() {
    let world = World::at_noon();
    let _agent = world.start();
    let said = raw(&world.socket(), format!("POST /v1/usage HTTP/1.1\r\ncontent-length: 99\r\n\r\n{ONE}"));
    let (status, _, body) = only(&said);
    assert!(status == 408 && body.contains("\"request_timeout\""), "{said}");
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
