//! Whether AWS's endpoint can be reached, over the way that calls take, and if not where that way ends.

use std::io;
use std::time::{Duration, Instant};

use hyper::Uri;
use tokio::net::{TcpStream, lookup_host};

use crate::clock::Clock;
use crate::hour::Timestamp;
use crate::submit::aws::{Aws, greet};

/// How long a name or a connection may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// As many of a name's addresses are tried, for each may take its time.
const ADDRESSES_MAX: usize = 2;

/// Where calls go, and how far they get.
#[derive(Debug)]
pub(super) struct Reached {
    /// The endpoint's address.
    pub url: String,
    /// Its host.
    pub host: String,
    /// How long the answer took, in milliseconds.
    pub ms: u128,
    /// AWS's clock, if it was told.
    pub aws_time: Option<Timestamp>,
    /// That clock less ours, in milliseconds.
    pub skew_ms: Option<i64>,
    /// The environment's variable that names a proxy, if calls go through one.
    pub proxy: Option<&'static str>,
    /// Why nobody answered.
    pub trouble: Option<Trouble>,
}

/// Where the way to AWS ends.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The name has no address.
    Name(String),
    /// There is no way to the address.
    Route(String),
    /// A connection stands, and no answer comes over it; or there is a proxy, which alone knows.
    Answer(String),
}

/// Asks the endpoint of `region` for anything.
pub(super) async fn reach(aws: &Aws, region: &str, clock: &dyn Clock) -> Reached {
    let (url, greeted, begun) = match aws.endpoint(region).await {
        Err(why) => (String::new(), Err(why), Instant::now()),
        Ok(url) => {
            let begun = Instant::now();
            let greeted = greet(&url).await;
            (url, greeted, begun)
        }
    };
    let ms = begun.elapsed().as_millis();
    let uri: Uri = url.parse().unwrap_or_default();
    let host = uri.host().unwrap_or_default().to_owned();
    let proxy = proxy(&uri);
    let (aws_time, trouble) = match greeted {
        Ok(aws_time) => (aws_time, None),
        Err(why) if proxy.is_some() => (None, Some(Trouble::Answer(why))),
        Err(why) => (None, Some(diagnose(&uri, why).await)),
    };
    let skew_ms = aws_time.map(|aws| aws.millis() - clock.now().millis());
    Reached { url, host, ms, aws_time, skew_ms, proxy, trouble }
}

/// Goes the same way step by step, after it as a whole has failed with `why`.
async fn diagnose(uri: &Uri, why: String) -> Trouble {
    let Some(host) = uri.host() else { return Trouble::Name(why) };
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    let addresses: Vec<_> = match timed(lookup_host((bare, port))).await {
        Ok(found) => found.collect(),
        Err(error) => return Trouble::Name(error.to_string()),
    };
    let mut last = None;
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        match timed(TcpStream::connect(address)).await {
            Ok(_) => return Trouble::Answer(why),
            Err(error) => last = Some(format!("{address}: {error}")),
        }
    }
    last.map_or(Trouble::Name("it has no address".into()), Trouble::Route)
}

async fn timed<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {} s", STEP_TIMEOUT.as_secs()));
    tokio::time::timeout(STEP_TIMEOUT, step).await.unwrap_or_else(|_| Err(late()))
}

/// The variable that sends calls to `uri` through a proxy, unless the endpoint lies on this machine.
fn proxy(uri: &Uri) -> Option<&'static str> {
    let names: [&str; 4] = match uri.scheme_str() {
        Some("http") => ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
        _ => ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
    };
    names.into_iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
