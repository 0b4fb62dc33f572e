//! Who calls the API: first by where the call comes from, then by the certificate or the token it shows
//! (api-and-kumactl 2.8).

use std::net::{IpAddr, SocketAddr};

use chrono::{DateTime, Utc};
use http::header::AUTHORIZATION;
use http::uri::Authority;
use http::{HeaderMap, Uri};
use model::Snapshot;

use crate::signing_key::Purpose;
use crate::token::{self, Keys, StaticKey, VerifyError};
use crate::user::User;

/// What a request tells of where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The other end of the connection, if it is one of ours.
    pub peer: Option<SocketAddr>,
    /// Host and port that the client asked for.
    pub host: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// Whether the client showed a certificate that its connection accepted.
    pub certified: bool,
}

/// How callers are recognised, `apiServer.authn` in the configuration.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// Whether somebody on this machine is an admin.
    pub localhost_is_admin: bool,
    /// Whether tokens count.
    pub tokens: bool,
    /// Whether a client's certificate makes it an admin.
    pub client_certificates: bool,
    /// Whether keys in secrets count.
    pub use_secrets: bool,
    /// Keys of the configuration.
    pub static_keys: Vec<StaticKey>,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            localhost_is_admin: true,
            tokens: true,
            client_certificates: false,
            use_secrets: true,
            static_keys: Vec::new(),
        }
    }
}

impl Authentication {
    /// The caller of a request.
    ///
    /// # Errors
    /// A token is shown and is not good.
    pub fn caller(
        &self,
        facts: &RequestFacts<'_>,
        snapshot: &Snapshot,
        now: DateTime<Utc>,
    ) -> Result<User, VerifyError> {
        if self.localhost_is_admin && is_local(facts) || self.client_certificates && facts.certified {
            return Ok(User::admin());
        }
        let header = facts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = header.and_then(bearer).filter(|_| self.tokens) else { return Ok(User::anonymous()) };
        let keys = Keys { snapshot, static_keys: &self.static_keys, use_secrets: self.use_secrets };
        let good = keys.verify::<token::User>(&Purpose::User, token, now)?;
        Ok(User::authenticated(good.claims.name, good.claims.groups.unwrap_or_default()))
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a request certainly comes from this machine: not through a proxy, not out of a browser that shows some
/// other page, not by a name that somebody else's DNS gave this address.
fn is_local(facts: &RequestFacts<'_>) -> bool {
    let headers = facts.headers;
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let through_proxy = ["forwarded", "x-forwarded-for", "x-real-ip"].iter().any(|name| headers.contains_key(*name));
    let same_site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    facts.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
        && !through_proxy
        && authority(facts.host, 80).is_some_and(|(host, _)| is_loopback(&host))
        && same_site
        && is_same_origin(text("origin").unwrap_or_default(), facts.host)
}

/// Whether an origin is the very server that was asked, by a loopback name.
fn is_same_origin(origin: &str, host: &str) -> bool {
    if origin.is_empty() {
        return true;
    }
    // An origin has no path; the parser gives it "/" whether it stands there or not.
    let Some(uri) = origin.parse::<Uri>().ok().filter(|_| !origin.ends_with('/')) else { return false };
    let default = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let bare = uri.path() == "/" && uri.query().is_none();
    let origin = uri.authority().and_then(|origin| authority(origin.as_str(), default));
    bare && origin.as_ref().is_some_and(|(name, _)| is_loopback(name)) && origin == authority(host, default)
}

/// Host in its canonical form, and port.
fn authority(text: &str, default_port: u16) -> Option<(String, u16)> {
    let authority: Authority = text.parse().ok().filter(|_| !text.contains('@') && !text.ends_with(':'))?;
    let port = match authority.port() {
        Some(port) => port.as_str().parse().ok().filter(|port| *port > 0)?,
        None => default_port,
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let host = host.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |address| address.to_canonical().to_string());
    (!host.is_empty()).then_some((host, port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn local(peer: &str, host: &str, headers: &[(&str, &str)]) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let facts = RequestFacts { peer: Some(peer.parse().unwrap()), host, headers: &headers, certified: false };
        let authentication = Authentication::default();
        authentication.caller(&facts, &Snapshot::empty(), DateTime::UNIX_EPOCH).is_ok_and(|user| user == User::admin())
    }

    /// API-14: all five conditions.
    #[test]
    fn localhost_is_admin_only_when_nothing_speaks_against_it() {
        assert!(local("127.0.0.1:5", "127.0.0.1:5681", &[]));
        assert!(local("[::1]:5", "[::1]:5681", &[("sec-fetch-site", "same-origin")]));
        assert!(local("[::ffff:127.0.0.1]:5", "localhost:5681", &[("origin", "http://localhost:5681")]));
        assert!(!local("10.0.0.7:5", "127.0.0.1:5681", &[]));
        for header in [("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "1.2.3.4"), ("x-real-ip", "1.2.3.4")] {
            assert!(!local("127.0.0.1:5", "127.0.0.1:5681", &[header]));
        }
        assert!(!local("127.0.0.1:5", "rebound.example:5681", &[]));
        assert!(!local("127.0.0.1:5", "", &[]));
        assert!(!local("127.0.0.1:5", "localhost:5681", &[("sec-fetch-site", "cross-site")]));
        assert!(!local("127.0.0.1:5", "localhost:5681", &[("origin", "http://evil.example")]));
        for origin in
            ["http://localhost:9999", "null", "http://localhost:5681/", "ftp://localhost:5681", "http://127.0.0.1:5681"]
        {
            assert!(!local("127.0.0.1:5", "localhost:5681", &[("origin", origin)]), "{origin}");
        }
        for host in ["localhost:", "user@localhost:5681", "localhost:0"] {
            assert!(!local("127.0.0.1:5", host, &[]), "{host}");
        }
        assert!(local("127.0.0.1:5", "LOCALHOST.:443", &[("origin", "https://localhost")]));
    }

    #[test]
    fn only_a_bearer_token_is_looked_at() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }
}
