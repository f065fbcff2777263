//! The smallest clients: JSON lines on a Unix socket, and HTTP on any stream. Written on std, so that nothing of the
//! agent is on this side.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::world::PATIENCE;

/// A writer that speaks JSON lines.
pub struct Lines {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Lines {
    pub fn connect(socket: &Path) -> Lines {
        Lines::try_connect(socket).unwrap()
    }

    pub fn try_connect(socket: &Path) -> io::Result<Lines> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Lines { answers: BufReader::new(stream.try_clone()?), stream })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The next answer line; none at the connection's end.
    pub fn try_line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) if line.ends_with('\n') => Ok(Some(line)),
            // Cut off within a line.
            Ok(_) => Ok(None),
            // What the agent had not read when it closed is lost, and that is told as a reset.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn line(&mut self) -> Option<String> {
        self.try_line().expect("an answer in time")
    }

    pub fn answer(&mut self) -> Value {
        let line = self.line().expect("an answer before the connection ends");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Sends a line and takes its answer.
    pub fn ask(&mut self, line: &str) -> Value {
        self.send(format!("{line}\n"));
        self.answer()
    }

    /// No more is written; answers still come.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The two halves, for a client that writes while it reads.
    pub fn split(&self) -> UnixStream {
        self.stream.try_clone().unwrap()
    }
}

/// An answer of HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// One request on a stream, which stays open.
pub fn exchange(
    stream: &mut (impl Read + Write),
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: meterd\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(&[head.as_bytes(), b"\r\n", body].concat())?;
    let mut bytes = Vec::new();
    let mut one = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read(&mut one)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => bytes.push(one[0]),
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, headers, body: String::from_utf8(body).unwrap() })
}

/// A request on a connection of its own; none if nobody answers.
pub fn request(socket: &Path, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(&mut stream, method, path, headers, body).ok()
}

pub fn get(socket: &Path, path: &str) -> Option<Answer> {
    request(socket, "GET", path, &[], b"")
}

pub fn post(socket: &Path, body: &str) -> Answer {
    request(socket, "POST", "/v1/usage", &[], body.as_bytes()).expect("an answer")
}

/// Sends bytes as they are and gives what comes until the connection's end.
pub fn raw(socket: &Path, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // An agent that has heard enough may have closed already.
    let _ = stream.write_all(bytes.as_ref());
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        said.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8(said).unwrap()
}
