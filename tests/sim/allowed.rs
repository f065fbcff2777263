//! Who may write which dimension, over a connection's lines into the engine on a simulated disk. Cannot see the kernel's
//! word on who is at the other end (the agent's own tests do).

use std::sync::Arc;

use meterd::config::Config;
use meterd::engine::Engine;
use meterd::entry::Peer;
use meterd::index::Index;
use meterd::ingest::allow::{Allowed, Writer};
use meterd::ingest::connection::Connection;
use serde_json::Value;

use super::disk::SimDisk;
use super::machine::NOW;
use super::setup;

/// The agent's own user.
const OWN: u32 = 999;

fn allowed(socket: &str, gigabytes: &str) -> Allowed {
    let text = format!(
        "[product]\ncode = \"p\"\n[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"gigabytes\"\n{gigabytes}\n\
         [[dimension]]\nname = \"calls\"\nmeasure = \"count\"\n[socket]\n{socket}\n"
    );
    Allowed::of(&Config::parse(&text, "test").unwrap(), OWN)
}

/// What a line of a user and group is answered.
fn said(engine: &mut Engine<SimDisk>, allowed: &Allowed, (uid, gid): (u32, u32), line: &str) -> String {
    let peer = Peer { uid, gid, pid: 1 };
    let mut connection = Connection::new(Writer { peer, rights: allowed.rights(peer) }, Vec::new());
    connection.turn(&mut format!("{line}\n").as_bytes(), &mut [0; 4096], engine, NOW);
    engine.commit(NOW).unwrap();
    connection.committed();
    let mut said = Vec::new();
    connection.flush(&mut said).unwrap();
    let answer: Value = serde_json::from_slice(&said).unwrap();
    answer["error"].as_str().unwrap_or("ok").to_owned()
}

const REQUESTS: &str = r#"{"dimension":"requests","quantity":1}"#;
const GIGABYTES: &str = r#"{"dimension":"gigabytes","quantity":1}"#;

#[test]
fn lists_of_the_socket_and_of_a_dimension() {
    let disk = Arc::new(SimDisk::new(1));
    let mut engine = Engine::open(disk, setup::options(1 << 20), NOW, |_| Ok(Index::in_memory())).unwrap();
    let both = format!("[{REQUESTS},{GIGABYTES}]");
    let (no, ok) = ("not_allowed", "ok");
    // Lists; who; requests, gigabytes, both in an array; whether it reads.
    type Row<'a> = (&'a str, &'a str, (u32, u32), [&'a str; 3], bool);
    let rows: [Row<'_>; 14] = [
        ("", "", (7, 7), [ok, ok, ok], true),
        ("allow_users = [5]", "", (5, 7), [ok, ok, ok], true),
        ("allow_users = [5]", "", (7, 5), [no, no, no], false),
        ("allow_groups = [6]", "", (7, 6), [ok, ok, ok], true),
        ("allow_groups = [6]", "", (6, 7), [no, no, no], false),
        ("allow_users = [5]\nallow_groups = [6]", "", (5, 7), [ok, ok, ok], true),
        ("", "allow_users = [5]", (7, 7), [ok, no, no], true),
        ("", "allow_users = [5]", (5, 5), [ok, ok, ok], true),
        ("allow_users = [7]", "allow_users = [5]", (5, 5), [no, ok, no], true),
        ("allow_groups = [6]", "allow_users = [5]", (7, 6), [ok, no, no], true),
        ("allow_read_users = [8]", "", (7, 7), [ok, ok, ok], false),
        ("allow_users = [5]\nallow_read_users = [8]", "", (8, 8), [no, no, no], true),
        // Root and the agent's own user read, and write where they are listed.
        ("allow_users = [5]\nallow_read_users = [8]", "", (0, 0), [no, no, no], true),
        ("allow_users = [5]\nallow_read_users = [8]", "", (OWN, 5), [no, no, no], true),
    ];
    for (socket, gigabytes, who, expected, reads) in rows {
        let allowed = allowed(socket, gigabytes);
        let found = [REQUESTS, GIGABYTES, &both].map(|line| said(&mut engine, &allowed, who, line));
        assert_eq!(found, expected, "{socket} {gigabytes} {who:?}");
        let rights = allowed.rights(Peer { uid: who.0, gid: who.1, pid: 1 });
        assert_eq!(rights.reads, reads, "{socket} {gigabytes} {who:?}");
    }
    assert!(engine.state().books().iter().all(|books| books.balanced()));
}
