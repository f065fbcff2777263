//! A simulation on a clock that stands still until it is moved, and the smallest HTTP client that can talk to it.
//! It is written on sockets, so that nothing of the service under test is on this side.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meterd::clock::Clock;
use meterd::hour::Timestamp;
use meterd::simulate::{Options, Simulation};
use serde_json::{Value, json};

/// 2026-11-21T12:30:00Z.
pub const NOON_THIRTY: i64 = 1_795_264_200;
/// The last second of the hour before.
pub const ELEVEN_59_59: i64 = NOON_THIRTY - 1801;

/// How long a test waits for something that must happen, on a machine however slow.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Stands still until moved.
pub struct StandingClock(Mutex<Timestamp>);

impl StandingClock {
    pub fn set(&self, seconds: i64) {
        *self.0.lock().unwrap() = Timestamp::from_seconds(seconds);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp::default())
    }

    /// Whoever waits for this clock looks again in a millisecond: nobody knows when it is moved.
    fn real(&self, _: Duration) -> Duration {
        Duration::from_millis(1)
    }
}

pub struct Aws {
    pub simulation: Simulation,
    pub clock: Arc<StandingClock>,
}

/// A simulation at 12:30.
pub fn aws(options: Options) -> Aws {
    let clock = Arc::new(StandingClock(Mutex::new(Timestamp::from_seconds(NOON_THIRTY))));
    let simulation =
        Simulation::start("127.0.0.1:0".parse().unwrap(), Arc::clone(&clock) as Arc<dyn Clock>, options).unwrap();
    Aws { simulation, clock }
}

/// A simulation at 12:30 that plays `script`.
pub fn aws_playing(script: &str) -> Aws {
    let faults = meterd::simulate::script::parse_script(script).unwrap();
    aws(Options { faults, ..Options::default() })
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    /// The exception's name; empty for a success.
    pub fn code(&self) -> String {
        let body = self.json();
        let code = body.get("__type").and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!(self.header("x-amzn-errortype").unwrap_or_default(), code, "header and body name the same error");
        code
    }

    pub fn record_id(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json()["MeteringRecordId"].as_str().unwrap().to_owned()
    }
}

pub const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/us-east-1/aws-marketplace/aws4_request, \
     SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=00";

/// The headers of a call, as SDKs send them.
pub fn headers() -> Vec<(&'static str, String)> {
    vec![
        ("content-type", "application/x-amz-json-1.1".into()),
        ("x-amz-target", "AWSMPMeteringService.MeterUsage".into()),
        ("x-amz-date", "20261121T123000Z".into()),
        ("user-agent", "test/1".into()),
        ("authorization", SIGNED.into()),
    ]
}

/// [`headers`] with one of them changed, or left out.
pub fn headers_but(name: &str, value: Option<&str>) -> Vec<(&'static str, String)> {
    let mut headers = headers();
    headers.retain_mut(|(n, v)| {
        if *n == name {
            *v = value.unwrap_or_default().to_owned();
        }
        *n != name || value.is_some()
    });
    headers
}

/// A request of the hour 11:00 for 25 requests, with `members` put over it; a null takes a member out.
pub fn request(members: Value) -> Value {
    let mut request = json!({
        "ProductCode": "prod", "Timestamp": ELEVEN_59_59, "UsageDimension": "requests", "UsageQuantity": 25,
    });
    for (name, value) in members.as_object().unwrap() {
        request[name] = value.clone();
        if value.is_null() {
            request.as_object_mut().unwrap().remove(name);
        }
    }
    request
}

impl Aws {
    /// A call that is answered.
    pub fn call(&self, members: Value) -> Answer {
        self.post(&headers(), request(members).to_string().as_bytes()).expect("an answer")
    }

    /// A call of another instance.
    pub fn call_as(&self, key: &str, members: Value) -> Answer {
        let signed = SIGNED.replace("AKIDEXAMPLE", key);
        self.post(&headers_but("authorization", Some(&signed)), request(members).to_string().as_bytes()).unwrap()
    }

    /// The code of a call's refusal; empty if it was granted.
    pub fn refusal(&self, members: Value) -> String {
        self.call(members).code()
    }

    /// `None` where the connection ends without an answer.
    pub fn post(&self, headers: &[(&str, String)], body: &[u8]) -> Option<Answer> {
        http(self.simulation.addr(), "POST", "/", headers, body).unwrap()
    }

    pub fn get(&self, path: &str) -> Value {
        http(self.simulation.addr(), "GET", path, &[], b"").unwrap().unwrap().json()
    }

    pub fn ledger(&self) -> Value {
        self.get("/ledger")
    }
}

/// One exchange on a connection of its own.
pub fn http(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> io::Result<Option<Answer>> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    send(&mut stream, method, path, headers, body)?;
    receive(&mut stream)
}

pub fn send(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> io::Result<()> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: aws\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        bytes += &format!("{name}: {value}\r\n");
    }
    bytes += "\r\n";
    stream.write_all(&[bytes.as_bytes(), body].concat())
}

/// Reads one answer; `None` if the connection ends before its first byte.
pub fn receive(stream: &mut TcpStream) -> io::Result<Option<Answer>> {
    let mut bytes = Vec::new();
    let mut one = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read(&mut one) {
            Ok(0) => {
                assert!(bytes.is_empty(), "the answer is cut short: {bytes:?}");
                return Ok(None);
            }
            Ok(_) => bytes.push(one[0]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(Answer { status, headers, body: String::from_utf8(body).unwrap() }))
}

/// Waits until `is_so`, however slow the machine.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
