//! The endpoint's URL: where records go instead of to AWS.

use std::net::IpAddr;

// The very type that the HTTP client connects with, so that both read an address the same way.
use hyper::Uri;

use super::error::{Refusal, quoted};
use super::limits::ENDPOINT_CHARS_MAX;

const ALLOWED: &str = "allowed: https://HOST[:PORT], or http:// for a loopback host such as 127.0.0.1";

/// Takes `text` as it is, or says why not.
pub(super) fn check(text: String) -> Result<String, Refusal> {
    let refuse = |why: &str| Err(Refusal::new(format!("is {}{why}", quoted(&text)), ALLOWED));
    // `Uri` drops a fragment without a word.
    let Some(uri) = text.parse::<Uri>().ok().filter(|_| text.len() <= ENDPOINT_CHARS_MAX && !text.contains('#')) else {
        return refuse(", which is no URL");
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return refuse(", which is no URL");
    };
    if authority.as_str().contains('@') {
        return refuse(", with a user name in it");
    }
    let port_ok = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => true,
        _ => authority.port_u16().is_some_and(|port| port > 0),
    };
    if authority.host().is_empty() || !port_ok {
        return refuse(", whose host or port is none");
    }
    if uri.path() != "/" && !uri.path().is_empty() || uri.query().is_some() {
        return refuse(", with a path or a query");
    }
    match scheme {
        "https" => Ok(text),
        "http" if is_loopback_host(authority.host()) => Ok(text),
        "http" => refuse(", unencrypted to another machine"),
        _ => refuse(", which is neither http nor https"),
    }
}

/// Whether the host of `url` is this machine's loopback.
pub(super) fn is_loopback(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback_host))
}

fn is_loopback_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_https_anywhere_and_http_on_loopback() {
        let good = [
            "https://metering.marketplace.eu-west-1.amazonaws.com",
            "https://metering.example:8443/",
            "http://127.0.0.1:4000",
            "http://127.9.9.9",
            "http://localhost:4000/",
            "http://[::1]:4000",
        ];
        for url in good {
            assert_eq!(check(url.to_owned()).as_deref(), Ok(url));
        }
    }

    #[test]
    fn refuses_what_could_lead_elsewhere() {
        let bad = [
            "",
            "/",
            "localhost:4000",
            "127.0.0.1:4000",
            "ftp://127.0.0.1",
            "unix:///run/x",
            "https://",
            "https://:443",
            "https://h:0",
            "https://h:99999",
            "https://h:",
            "https://h/path",
            "https://h/?a=b",
            "https://h?a",
            "https://h#f",
            "http://example.com",
            "http://127.0.0.1@example.com",
            "http://127.0.0.1.example.com",
            "http://localhost.example",
            "http://[::2]:4000",
            "https://a b",
        ];
        for url in bad {
            assert!(check(url.to_owned()).is_err(), "{url}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_host_alone() {
        assert!(is_loopback("https://localhost"));
        assert!(is_loopback("http://[::ffff:127.0.0.1]:1"));
        assert!(!is_loopback("https://example.com/127.0.0.1"));
        assert!(!is_loopback("http://127.0.0.1@example.com"));
    }
}
