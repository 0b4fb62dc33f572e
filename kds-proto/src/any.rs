use bytes::Bytes;
use prost::{Message, Name};

/// `google.protobuf.Any` with shared bytes: one encoded resource goes into the responses of many streams.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Any {
    /// Type of the content, `type.googleapis.com/<full name>`; empty for the JSON kinds of KDS (kds-wire 3.6).
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message, or the JSON text of a JSON kind.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

impl Any {
    /// Packs a message under its own type URL.
    pub fn pack<M: Message + Name>(message: &M) -> Self {
        Self { type_url: M::type_url(), value: message.encode_to_vec().into() }
    }

    /// Last path segment of the type URL: the full name of the packed message.
    pub fn message_name(&self) -> &str {
        self.type_url.rsplit('/').next().unwrap_or_default()
    }
}

impl Name for Any {
    const NAME: &'static str = "Any";
    const PACKAGE: &'static str = "google.protobuf";
}
