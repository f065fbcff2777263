//! What stands in for AWS: the product's own simulation as a process, and the independent endpoint that checks by AWS's
//! service model.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::socket::{Answer, exchange};
use crate::world::{PATIENCE, TestClock, World};

/// A process that answers HTTP; killed when it is dropped.
pub struct FakeAws {
    child: Child,
    addr: SocketAddr,
}

impl Drop for FakeAws {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl FakeAws {
    /// `meterd simulate-aws`, on the machine's clock.
    pub fn on_the_machines_clock(world: &World, flags: &[&str]) -> FakeAws {
        FakeAws::listening(world.meterd(&[&["simulate-aws", "--listen", "127.0.0.1:0"], flags].concat()))
    }

    fn listening(command: Command) -> FakeAws {
        let (child, line) = first_line(command).expect("the simulation starts");
        let addr = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        FakeAws { child, addr }
    }

    /// `meterd simulate-aws`, on the world's clock, which follows it from here on.
    pub fn simulation(world: &mut World, flags: &[&str]) -> FakeAws {
        let mut command = world.meterd(&["simulate-aws", "--listen", "127.0.0.1:0"]);
        command.args(world.clock.flags()).args(flags);
        let aws = FakeAws::listening(command);
        let now = aws.ledger()["now"].as_str().unwrap().to_owned();
        let seconds = meterd::hour::Timestamp::parse(&now).unwrap().seconds();
        world.clock.set(seconds as f64);
        aws
    }

    /// `meterd simulate-aws` where one was before that is gone, and that knows nothing of it.
    pub fn again(world: &World, url: &str) -> FakeAws {
        let mut command = world.meterd(&["simulate-aws", "--listen", url.strip_prefix("http://").unwrap()]);
        command.args(world.clock.flags());
        FakeAws::listening(command)
    }

    /// The endpoint that no code of the agent has a part in; none where Python or botocore is missing.
    pub fn endpoint(clock: &mut TestClock, flags: &[&str]) -> Option<FakeAws> {
        let imports = Command::new("python3").args(["-c", "import botocore.loaders, botocore.validate"]).output();
        if !imports.is_ok_and(|output| output.status.success()) {
            println!("skipped: python3 with botocore is not here");
            return None;
        }
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/aws_model/endpoint.py"));
        command.args(clock.flags()).args(flags);
        let (child, port) = first_line(command).expect("the endpoint starts");
        let aws = FakeAws { child, addr: SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())) };
        // It took a while to start: the test's clock is the endpoint's from here on.
        let answer = aws.request("GET", "/_ledger", "");
        clock.set(seconds_of(answer.header("date").unwrap()));
        Some(aws)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut stream, method, path, &[("connection", "close")], body.as_bytes()).unwrap()
    }

    /// The simulation's books.
    pub fn ledger(&self) -> Value {
        self.request("GET", "/ledger", "").json()
    }

    /// The calls that the simulation has heard, real ones only (no dry runs), as `(call, request)`.
    pub fn calls(&self) -> Vec<(Value, Value)> {
        let calls = self.request("GET", "/calls", "").json();
        let calls = calls["calls"].as_array().unwrap().clone();
        let both = calls.into_iter().map(|call| {
            let body = serde_json::from_str(call["body"].as_str().unwrap()).unwrap();
            (call, body)
        });
        both.filter(|(_, body): &(Value, Value)| body["DryRun"] != true).collect()
    }

    /// Tells the simulation what goes wrong from here on.
    pub fn fault(&self, fault: &Value) {
        let answer = self.request("POST", "/faults", &fault.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        self.request("DELETE", "/faults", "");
    }

    /// The endpoint's books.
    pub fn checked_ledger(&self) -> Value {
        self.request("GET", "/_ledger", "").json()
    }

    /// How the endpoint treats requests from here on.
    pub fn control(&self, mode: &str) {
        self.set(&json!({ "mode": mode }));
    }

    /// The same, with more to say than a mode.
    pub fn set(&self, control: &Value) {
        let answer = self.request("POST", "/_control", &control.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// Starts a process that says something first.
pub fn first_line(mut command: Command) -> Option<(Child, String)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    Some((child, line.trim_end().to_owned()))
}

/// Reads an HTTP date.
fn seconds_of(date: &str) -> f64 {
    // Sat, 21 Nov 2026 12:00:00 GMT
    let words: Vec<&str> = date.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, _] = words[..] else { panic!("{date:?}") };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|m| *m == month).unwrap() + 1;
    let text = format!("{year}-{month:02}-{day}T{hour}:{minute}:{second}Z");
    meterd::hour::Timestamp::parse(&text).unwrap().seconds() as f64
}
