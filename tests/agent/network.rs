//! The promise of the time-outs: whatever the other side does with a connection, the call ends, and the record goes on
//! waiting. Time-outs are the machine's own time, so these scenes take as long as they say, side by side.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, sleep};
use std::time::Duration;

use crate::world::{NOON, World, wait_for};

/// An hour takes six seconds, and one is about to end.
const SPEED: u32 = 600;

/// An agent whose AWS is at `addr`, until its first record's first call has ended: what that came to, and its error.
fn first_call(scheme: &str, addr: SocketAddr) -> (String, String) {
    let world = World::new(NOON - 300, SPEED);
    world.configure(&format!("{scheme}://{addr}"), "[[dimension]]\nname = \"requests\"\n", "window = \"24h\"", "");
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":3}"#)["ok"], true);
    let said = wait_for("the call has ended", || {
        let log = agent.log();
        let (_, after) = log.split_once("verdict=")?;
        Some(after.split(' ').next().unwrap().to_owned())
    });
    let record = world.records().into_iter().next().expect("a record");
    assert_eq!(record["state"], "pending", "{record}");
    (said, record["last_error"].as_str().unwrap().to_owned())
}

/// A listener, and what it does with each connection; it does so for ever.
fn listener(each: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || each(stream.unwrap()));
        }
    });
    addr
}

/// Takes a connection and says nothing.
fn silent(stream: TcpStream) {
    loop {
        sleep(Duration::from_secs(60));
        let _ = stream.peer_addr();
    }
}

/// Reads what comes, and answers a byte now and then, for ever.
fn trickling(mut stream: TcpStream) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request);
    let _ = stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: 100000\r\n\r\n{");
    while stream.write_all(b" ").is_ok() {
        sleep(Duration::from_millis(200));
    }
}

fn a_silent_server_may_have_taken_it() {
    let (said, words) = first_call("http", listener(silent));
    assert!(said == "Ambiguous" && words.contains("timeout"), "{said}: {words}");
}

fn a_server_that_trickles_may_have_taken_it() {
    let (said, words) = first_call("http", listener(trickling));
    assert!(said == "Ambiguous" && words.contains("timeout"), "{said}: {words}");
}

/// A queue of connections that nobody takes is full: no further one ever stands.
fn a_connection_that_never_stands_was_not_taken() {
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
        waiting.push(stream);
    }
    let (said, words) = first_call("http", addr);
    assert!(said == "NotTaken" && words.contains("connect timeout"), "{said}: {words}");
}

/// The request is not sent before TLS stands.
fn without_tls_it_was_not_taken() {
    for (each, why) in [(silent as fn(TcpStream), "timeout"), (trickling, "io error")] {
        let (said, words) = first_call("https", listener(each));
        assert!(said == "NotTaken" && words.contains(why), "{said}: {words}");
    }
}

#[test]
fn every_call_ends_whatever_the_other_side_does() {
    thread::scope(|scope| {
        let scenes = [
            a_silent_server_may_have_taken_it,
            a_server_that_trickles_may_have_taken_it,
            a_connection_that_never_stands_was_not_taken,
            without_tls_it_was_not_taken,
        ];
        let running = scenes.map(|scene| scope.spawn(scene));
        running.into_iter().for_each(|scene| scene.join().expect("the scene's own words are above"));
    });
}
