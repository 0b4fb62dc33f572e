//! Names in certificates, and what they must be.

use kds_proto::envoy::extensions::transport_sockets::tls::v3::SubjectAltNameMatcher;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use kds_proto::envoy::r#type::matcher::v3::StringMatcher;
use kds_proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This.
    Exact(String),
    /// Something that begins so.
    Prefix(String),
    /// Something that ends so.
    Suffix(String),
    /// Something with this in it.
    Contains(String),
}

impl Pattern {
    /// Out of Envoy's.
    ///
    /// # Errors
    /// It is of a kind that is not known here.
    pub fn read(matcher: &StringMatcher) -> Result<Self, String> {
        if matcher.ignore_case {
            return Err("not supported by this router: a matcher without regard to case".to_owned());
        }
        match &matcher.match_pattern {
            Some(MatchPattern::Exact(text)) => Ok(Self::Exact(text.clone())),
            Some(MatchPattern::Prefix(text)) => Ok(Self::Prefix(text.clone())),
            Some(MatchPattern::Suffix(text)) => Ok(Self::Suffix(text.clone())),
            Some(MatchPattern::Contains(text)) => Ok(Self::Contains(text.clone())),
            _ => {
                Err("not supported by this router: a matcher that is no exact text, prefix, suffix or part".to_owned())
            }
        }
    }

    /// Whether a text is so.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => text == wanted,
            Self::Prefix(wanted) => text.starts_with(&**wanted),
            Self::Suffix(wanted) => text.ends_with(&**wanted),
            Self::Contains(wanted) => text.contains(&**wanted),
        }
    }
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// A host, or `*.` and a domain.
    Dns(String),
    /// An address.
    Ip(String),
    /// An identity.
    Uri(String),
}

/// A name that a certificate must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    kind: SanType,
    pattern: Pattern,
}

impl Wanted {
    /// Out of Envoy's.
    ///
    /// # Errors
    /// It is of a kind that is not known here.
    pub fn read(matcher: &SubjectAltNameMatcher) -> Result<Self, String> {
        let kind = matcher.san_type();
        if !matches!(kind, SanType::Dns | SanType::IpAddress | SanType::Uri) {
            return Err(format!("not supported by this router: names of the kind {}", kind.as_str_name()));
        }
        let pattern = matcher.matcher.as_ref().ok_or("a matcher of names without a pattern")?;
        Ok(Self { kind, pattern: Pattern::read(pattern)? })
    }

    /// Whether it is an identity, and that text fits.
    pub fn matches_uri(&self, uri: &str) -> bool {
        self.kind == SanType::Uri && self.pattern.matches(uri)
    }

    /// Whether it is a host, and that text fits.
    pub fn matches_dns(&self, host: &str) -> bool {
        self.kind == SanType::Dns && self.pattern.matches(host)
    }

    /// Whether a name of a server fits: a certificate may speak for all hosts of a domain.
    pub fn matches(&self, name: &San) -> bool {
        match (self.kind, name) {
            (SanType::Dns, San::Dns(name)) => match (&self.pattern, name.strip_prefix("*.")) {
                (Pattern::Exact(host), Some(domain)) => {
                    host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain))
                }
                (Pattern::Exact(host), None) => host.eq_ignore_ascii_case(name),
                (pattern, _) => pattern.matches(name),
            },
            (SanType::IpAddress, San::Ip(name)) | (SanType::Uri, San::Uri(name)) => self.pattern.matches(name),
            _ => false,
        }
    }
}

/// The names in a certificate, in order; none of one that cannot be read.
pub fn of(der: &[u8]) -> Vec<San> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(given) = extension.parsed_extension() else { continue };
        names.extend(given.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(San::Dns((*name).to_owned())),
            GeneralName::URI(name) => Some(San::Uri((*name).to_owned())),
            GeneralName::IPAddress(bytes) => address(bytes).map(San::Ip),
            _ => None,
        }));
    }
    names
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| std::net::Ipv6Addr::from(sixteen).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_a_domain_speaks_for_its_hosts() {
        let wanted = |pattern| Wanted { kind: SanType::Dns, pattern };
        let host = wanted(Pattern::Exact("api.example.com".to_owned()));
        for (name, fits) in [
            ("api.example.com", true),
            ("API.example.com", true),
            ("*.example.com", true),
            ("*.com", false),
            ("example.com", false),
        ] {
            assert_eq!(host.matches(&San::Dns(name.to_owned())), fits, "{name}");
        }
        assert!(!host.matches(&San::Uri("api.example.com".to_owned())));
        assert!(wanted(Pattern::Prefix("api.".to_owned())).matches(&San::Dns("api.other".to_owned())));
    }
}
