//! What counts as a DNS name, an address, a URL or a file path in documents.
//!
//! The accepted texts are those of the validator package that the real control plane uses, oddities included: a
//! document that one side accepts must not be refused by the other.

use std::net::IpAddr;
use std::sync::LazyLock;

use regex::Regex;

use crate::name;
use crate::resource::Meta;
use crate::violation::{Path, Violations};

/// Longest DNS name.
pub const MAX_NAME: usize = 253;

static DNS_NAME: LazyLock<Regex> = LazyLock::new(|| {
    let label = "[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62}";
    pattern(&format!(r"^{label}(\.{label})*[._]?$"))
});

static BANDWIDTH: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\d*\s?[GMk]+bps$"));

static UNIX_PATH: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(/[^/\x00]*)+/?$"));

static WINDOWS_PATH: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"^[a-zA-Z]:\\(?:[^\\/:*?"<>|\r\n]+\\)*[^\\/:*?"<>|\r\n]*$"#));

const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

static DNS_1123_SUBDOMAIN: LazyLock<Regex> = LazyLock::new(|| pattern(&format!("^({SUBDOMAIN})$")));

static URL: LazyLock<Regex> = LazyLock::new(|| {
    let scheme = "(ftp|tcp|udp|wss?|https?)://";
    let user = r"\S+(:\S*)?@";
    let ipv4 = r"([1-9]\d?|1\d\d|2[01]\d|22[0-3]|24\d|25[0-5])(\.(\d{1,2}|1\d\d|2[0-4]\d|25[0-5])){2}\.([0-9]\d?|1\d\d|2[0-4]\d|25[0-5])";
    let ipv6 = r"\[[0-9a-fA-F:.]+(%[0-9a-zA-Z]+)?\]";
    let wide = r"a-zA-Z\x{00a1}-\x{ffff}";
    let labels = "[a-zA-Z0-9]([a-zA-Z0-9_-]+)?[a-zA-Z0-9]([-.][a-zA-Z0-9]+)*";
    let subdomain = r"(www\.|[a-zA-Z0-9]+([-_.]?[a-zA-Z0-9])*[a-zA-Z0-9]\.[a-zA-Z0-9]+)?";
    let name = format!(r"({labels}|{subdomain})?([{wide}0-9]+-?-?)*[{wide}0-9]+(\.[{wide}]+)?");
    pattern(&format!(r"^({scheme})?({user})?({ipv4}|(?P<ipv6>{ipv6})|{name})\.?(:\d{{1,5}})?([/?#]\S*)?$"))
});

fn pattern(text: &str) -> Regex {
    #[expect(clippy::expect_used, reason = "a constant of this file, compiled by its tests")]
    Regex::new(text).expect("pattern compiles")
}

/// A DNS name: labels of letters, digits, `-` and `_`, no address, at most 255 characters beside the dots.
pub fn is_dns_name(text: &str) -> bool {
    let length = text.bytes().filter(|byte| *byte != b'.').count();
    !text.is_empty() && length <= 255 && !is_ip(text) && DNS_NAME.is_match(text)
}

/// An IPv4 or IPv6 address.
pub fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// An address and the length of a prefix, `192.0.2.0/24`.
pub fn is_cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    prefix.bytes().all(|byte| byte.is_ascii_digit()) && prefix.parse::<u16>().is_ok_and(|prefix| prefix <= most)
}

/// A URL, with or without a scheme; without a scheme and a port, the name needs a dot.
pub fn is_url(text: &str) -> bool {
    const LONGEST: usize = 2083;
    const SHORTEST: usize = 4;
    if text.len() < SHORTEST || text.chars().count() >= LONGEST || text.starts_with('.') {
        return false;
    }
    let path_end = text.find(['?', '#']).unwrap_or(text.len());
    let without_host = !text.contains(':') || text.contains(":///");
    if without_host && !text[..path_end].contains('.') {
        return false;
    }
    let escapes_are_whole = text[..path_end]
        .split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()));
    if !escapes_are_whole || text.chars().any(|character| character.is_ascii_control()) {
        return false;
    }
    URL.captures(text).is_some_and(|found| {
        found
            .name("ipv6")
            .is_none_or(|host| is_ip(host.as_str().trim_matches(['[', ']']).split('%').next().unwrap_or("")))
    })
}

/// An absolute path of a file, on Unix or on Windows.
pub fn is_file_path(text: &str) -> bool {
    UNIX_PATH.is_match(text) || WINDOWS_PATH.is_match(text)
}

/// A speed with its unit, `50Mbps`.
pub fn is_bandwidth(text: &str) -> bool {
    BANDWIDTH.is_match(text)
}

/// Adds a fault when a number is no port.
pub fn check_port(at: &Path, port: impl Into<i64>, found: &mut Violations) {
    if !(1..=i64::from(u16::MAX)).contains(&port.into()) {
        found.add(at, "port must be a valid (1-65535)");
    }
}

/// An address, also an IPv4 address with leading zeros.
pub fn is_ip_of_sorts(text: &str) -> bool {
    let is_byte =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u32>().is_ok_and(|n| n < 256);
    is_ip(text) || (text.split('.').count() == 4 && text.split('.').all(is_byte))
}

/// Adds what keeps a text from being a DNS name in lower case, in the words of Kubernetes (RFC 1123).
pub fn check_subdomain(at: &Path, text: &str, found: &mut Violations) {
    if text.len() > MAX_NAME {
        found.add(at, format!("must be no more than {MAX_NAME} characters"));
    }
    if !DNS_1123_SUBDOMAIN.is_match(text) {
        let reason = format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '{SUBDOMAIN}')"
        );
        found.add(at, reason);
    }
}

/// Adds a fault when a text is longer than this many bytes.
pub fn check_length(at: &Path, text: &str, most: usize, found: &mut Violations) {
    if text.len() > most {
        found.add(at, format!("must not be longer than {most} characters"));
    }
}

/// Adds a fault when the name that the author gave is longer than the kind allows.
pub fn check_display_name(meta: &Meta, found: &mut Violations) {
    if let Some(reason) = name::check_kind(meta.key.kind, meta.display_name(), false) {
        found.add(&Path::of("name"), reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(accepts: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(accepts(text), "{text:?} is refused");
        }
        for text in bad {
            assert!(!accepts(text), "{text:?} is accepted");
        }
    }

    #[test]
    fn dns_names() {
        let long = "a".repeat(64);
        sort(
            is_dns_name,
            &["a", "example.com", "example.com.", "_sip._tcp.example", "a-", "localhost", "1.2.3"],
            &["", "-bad-", "a b", "a..b", "*.example.com", "1.2.3.4", "::1", &long, "a.b/c"],
        );
    }

    #[test]
    fn addresses_and_prefixes() {
        sort(is_ip, &["1.2.3.4", "::1", "::ffff:1.2.3.4"], &["", "1.2.3", "01.2.3.4", "fe80::1%eth0", "x"]);
        sort(
            is_cidr,
            &["192.0.2.0/24", "10.0.0.1/0", "::/128", "1.2.3.4/32"],
            &["x", "1.2.3.4", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/+8"],
        );
    }

    #[test]
    fn urls() {
        sort(
            is_url,
            &[
                "logs.example:5000",
                "http://a.b/c?d#e",
                "127.0.0.1:80",
                "collector:4317",
                "otel.example",
                "http://jaeger-collector:9411/api/v2/spans",
                "http://[::1]:80/",
                "user:pw@host:80",
                "https://x",
                "my_svc.ns.svc.cluster.local:4317",
                "http://a.b/%20",
            ],
            &[
                "",
                "bad",
                "abc",
                "localhost",
                ".a.b",
                "http:///x",
                "gopher://a.b",
                "a b.c",
                "a.b:123456",
                "http://[x]/",
                "http://a.b/%2",
                "a.b\u{7}",
            ],
        );
    }

    #[test]
    fn file_paths() {
        sort(is_file_path, &["/", "/dev/stdout", "/a b/", "C:\\logs\\a.txt"], &["", "#bad", "a/b", "/a\0b", "C:/x"]);
    }

    #[test]
    fn bandwidths() {
        sort(is_bandwidth, &["50Mbps", "1 kbps", "Gbps"], &["", "50", "50mbps", "5  kbps", "-1kbps", "5kbps "]);
    }
}
