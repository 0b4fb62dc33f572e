//! What a service speaks.

use model::labels::PROTOCOL_TAG;
use model::spec::tags::Tags;

/// What a service speaks (zone-dataplane 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Nobody said.
    Unknown,
    /// Bytes.
    Tcp,
    /// Kafka, forwarded as bytes.
    Kafka,
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
}

impl Protocol {
    /// What a word means; words that mean nothing here are bytes.
    pub fn parse(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "kafka" => Self::Kafka,
            "" => Self::Unknown,
            _ => Self::Tcp,
        }
    }

    /// What an inbound with these tags speaks.
    pub fn of_inbound(tags: &Tags) -> Self {
        match tags.get(PROTOCOL_TAG).map_or(Self::Tcp, |word| Self::parse(word)) {
            Self::Unknown => Self::Tcp,
            protocol => protocol,
        }
    }

    /// Whether requests can be told apart.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }

    /// From what it is to what it can be treated as, the most telling first.
    fn stack(self) -> &'static [Self] {
        match self {
            Self::Unknown => &[],
            Self::Tcp => &[Self::Tcp],
            Self::Kafka => &[Self::Kafka, Self::Tcp],
            Self::Http => &[Self::Http, Self::Tcp],
            Self::Http2 => &[Self::Http2, Self::Http, Self::Tcp],
            Self::Grpc => &[Self::Grpc, Self::Http2, Self::Http, Self::Tcp],
        }
    }

    /// The most telling one that all of them can be treated as.
    pub fn common(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter()
            .reduce(|a, b| a.stack().iter().copied().find(|p| b.stack().contains(p)).unwrap_or(Self::Unknown))
            .unwrap_or(Self::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_protocol_is_the_most_telling_shared_one() {
        use Protocol::*;
        assert_eq!(Protocol::common([Http, Http]), Http);
        assert_eq!(Protocol::common([Grpc, Http2]), Http2);
        assert_eq!(Protocol::common([Grpc, Http]), Http);
        assert_eq!(Protocol::common([Kafka, Tcp]), Tcp);
        assert_eq!(Protocol::common([Http, Unknown]), Unknown);
        assert_eq!(Protocol::common([]), Unknown);
    }
}
