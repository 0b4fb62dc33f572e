//! Addresses, ports and names as the older kinds write them.

use std::net::{IpAddr, Ipv4Addr};

use crate::spec::formats::{is_dns_name, is_ip};
use crate::violation::{Path, Violations};

/// Adds a fault when a port cannot be one.
pub fn check_port(at: &Path, port: u32, found: &mut Violations) {
    if !(1..=65535).contains(&port) {
        found.add(at, "port must be in the range [1, 65535]");
    }
}

/// Adds what is wrong with the address that a proxy is reached at.
pub fn check_proxy_address(at: &Path, address: &str, found: &mut Violations) {
    if address.is_empty() {
        found.add(at, "address can't be empty");
        return;
    }
    if address == "0.0.0.0" || address == "::" {
        found.add(at, "must not be 0.0.0.0 or ::");
    }
    if !is_ip(address) && !is_dns_name(address) {
        found.add(at, "address has to be valid IP address or domain name");
    }
}

/// Whether what listens at an address also answers on 127.0.0.1: on that address itself, or on every one.
pub fn is_reached_by_loopback(address: &str) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    address.is_unspecified() || address.to_canonical() == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// Host and port of `host:port` or `[v6]:port`; either may be empty.
pub fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.contains(['[', ']']) && !port.contains(['[', ']'])).then_some((host, port))
}

/// Why a text is no target of a request: neither an absolute path nor an absolute URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUri;

/// The port that an absolute path (`None`) or an absolute URL (`None` when it names none) has.
///
/// # Errors
/// The text is neither.
pub fn uri_port(text: &str) -> Result<Option<&str>, NotUri> {
    if text.is_empty() || text.bytes().any(|b| b.is_ascii_control()) {
        return Err(NotUri);
    }
    if text == "*" {
        return Ok(None);
    }
    let (is_url, rest) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (true, rest),
        // A colon in the first segment of what does not begin with a slash is a broken scheme.
        _ if !text.starts_with('/') => return Err(NotUri),
        _ => (false, text),
    };
    let Some(rest) = rest.strip_prefix('/') else { return if is_url { Ok(None) } else { Err(NotUri) } };
    let (authority, path) = match rest.strip_prefix('/') {
        Some(rest) if is_url => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
        _ => ("", rest),
    };
    let path = path.split('?').next().unwrap_or_default();
    if !well_escaped(path) {
        return Err(NotUri);
    }
    authority_port(authority)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn authority_port(authority: &str) -> Result<Option<&str>, NotUri> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let after =
        if host.starts_with('[') { host.rfind(']').ok_or(NotUri)? + 1 } else { host.find(':').unwrap_or(host.len()) };
    let (host, port) = host.split_at(after);
    let forbidden = |b: u8| !b.is_ascii_alphanumeric() && b.is_ascii() && !b"-_.~!$&'()*+,;=:[]<>\"".contains(&b);
    if host.bytes().any(forbidden) {
        return Err(NotUri);
    }
    match port.strip_prefix(':') {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(port).filter(|port| !port.is_empty())),
        None if port.is_empty() => Ok(None),
        _ => Err(NotUri),
    }
}

/// Whether every `%` begins an escape.
fn well_escaped(path: &str) -> bool {
    path.split('%').skip(1).all(|after| after.len() >= 2 && after.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_split_at_the_last_colon() {
        assert_eq!(split_host_port("a.b:80"), Some(("a.b", "80")));
        assert_eq!(split_host_port("[::1]:80"), Some(("::1", "80")));
        assert_eq!(split_host_port(":80"), Some(("", "80")));
        assert_eq!(split_host_port("a:"), Some(("a", "")));
        for bad in ["a", "a:b:80", "::1", "[::1", "[::1]", "[a]b:80", "a:8]0"] {
            assert_eq!(split_host_port(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_listens_everywhere_listens_on_loopback() {
        for address in ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            assert!(is_reached_by_loopback(address), "{address}");
        }
        for address in ["", "127.0.0.2", "::1", "localhost"] {
            assert!(!is_reached_by_loopback(address), "{address}");
        }
    }

    #[test]
    fn a_request_uri_is_an_absolute_path_or_url() {
        assert_eq!(uri_port("/healthz?x=%zz"), Ok(None));
        assert_eq!(uri_port("http://zipkin:9411/api"), Ok(Some("9411")));
        assert_eq!(uri_port("http://u:p@[::1]:9411"), Ok(Some("9411")));
        assert_eq!(uri_port("http://zipkin/api"), Ok(None));
        assert_eq!(uri_port("zipkin:9411"), Ok(None));
        for bad in ["", ":", "bad", "bad/x:y", "/%zz", "http://a b/", "http://a:x/", "http://[::1/", "/a\n"] {
            assert_eq!(uri_port(bad), Err(NotUri), "{bad}");
        }
    }

    #[test]
    fn the_unspecified_address_is_refused() {
        let faults = |address| {
            let mut found = Violations::default();
            check_proxy_address(&Path::of("a"), address, &mut found);
            found.into_iter().map(|fault| fault.reason).collect::<Vec<_>>()
        };
        assert_eq!(faults("::"), ["must not be 0.0.0.0 or ::"]);
        assert_eq!(faults(""), ["address can't be empty"]);
        assert_eq!(faults("a b"), ["address has to be valid IP address or domain name"]);
        assert!(faults("dp.example.com").is_empty());
    }
}
