//! The promise of the OpenAPI descriptions: what they say is so, and nothing is answered that they do not say.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::socket::{get, request};
use crate::world::{DIMENSIONS, NOON, World, read, wait_until};

const WRITERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/agent/http/openapi.json");
const OPERATORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/agent/admin.json");

/// `METHOD path` of every operation.
fn described(document: &str) -> BTreeSet<String> {
    let document: Value = serde_json::from_str(&read(Path::new(document))).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let methods = |(path, item): (&String, &Value)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(|method| format!("{} {path}", method.to_uppercase())).collect::<Vec<_>>()
    };
    paths.flat_map(methods).collect()
}

/// The same, as the socket tells it to whoever asks for something else.
fn served(socket: &Path) -> BTreeSet<String> {
    let answer = get(socket, "/nothing").unwrap().json();
    let paths = answer["message"].as_str().unwrap().strip_prefix("paths: ").unwrap().to_owned();
    paths.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_path_is_described_and_every_description_served() {
    let world = World::at_noon();
    let _agent = world.start();
    for (socket, document) in [(world.socket(), WRITERS), (world.path("admin.sock"), OPERATORS)] {
        assert_eq!(served(&socket), described(document), "{document}");
        let answer = get(&socket, "/v1/openapi.json").unwrap();
        assert_eq!((answer.status, answer.body), (200, read(Path::new(document))), "{document} is served as it stands");
    }
}

/// The Python that has schemathesis: `METERD_SCHEMATHESIS` names one, or the system's has it.
fn python() -> Option<String> {
    let python = std::env::var("METERD_SCHEMATHESIS").unwrap_or("python3".into());
    let found = Command::new(&python).args(["-c", "import schemathesis"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

#[test]
fn schemathesis_finds_nothing() {
    let Some(python) = python() else {
        println!("skipped: no schemathesis for python3 (METERD_SCHEMATHESIS names a Python that has it)");
        return;
    };
    // An hour takes six seconds, so that there are records of several kinds to be shown.
    let mut world = World::new(NOON - 300, 600);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":5,"tags":{"team":"blue"}}"#)["ok"], true);
    wait_until("AWS has a record", || agent.status()["records"]["accepted"] == 1);
    aws.fault(&json!({ "kind": "service_unavailable", "until": "+2h" }));
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":5}"#)["ok"], true);
    wait_until("a record waits", || !agent.status()["oldest_pending"].is_null());
    for (socket, document, dimension) in
        [(world.socket(), WRITERS, Some("requests")), (world.path("admin.sock"), OPERATORS, None)]
    {
        let mut command = Command::new(&python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi/check.py")).arg(socket).arg(document);
        let checked = command.args(dimension).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
        let passed: Vec<&str> = said.lines().filter(|line| line.contains(" generated, ")).collect();
        let name = Path::new(document).file_name().unwrap().display();
        println!("schemathesis: {name} {}", passed.join(";"));
    }
    // Among what was asked for was an end of the instance.
    let cancelled = request(&world.path("admin.sock"), "POST", "/v1/seal", &[], br#"{"cancel":true}"#).unwrap();
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":5}"#)["ok"], true);
}

/// What an operator asks for is an object: an array whose values happen to fit must not end an instance.
#[test]
fn an_array_is_nothing_that_an_operator_can_ask() {
    let world = World::at_noon();
    let agent = world.start();
    for (path, body) in [
        ("/v1/seal", "[true]"),
        ("/v1/reload", "[]"),
        ("/v1/adopt", r#"["i-other"]"#),
        ("/v1/discard", r#"["i-other"]"#),
        ("/v1/settle", r#"["requests","2026-11-21T11:00:00Z","accepted"]"#),
        ("/v1/release", r#"["requests","2026-11-21T11:00:00Z",1]"#),
    ] {
        let answer = request(&world.path("admin.sock"), "POST", path, &[], body.as_bytes()).unwrap();
        let said = answer.json();
        assert_eq!((answer.status, &said["error"]), (400, &json!("bad_request")), "{path} {body}: {said}");
    }
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":5}"#)["ok"], true);
}
