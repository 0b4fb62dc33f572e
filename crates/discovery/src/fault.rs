//! How a peer breaks the protocol.

/// What a peer did that no peer may do. The stream has to end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A request or response without `type_url`.
    #[error("a message names no type")]
    NoType,
    /// A `type_url` that is none.
    #[error("a message names a type that is longer than any type is called")]
    LongType,
    /// The first request on a stream without `node`.
    #[error("the first request says nothing of its sender (node)")]
    NoNode,
    /// A refusal that names no response.
    #[error("a refusal of type {0:?} has no nonce: it refuses nothing")]
    RefusalOfNothing(String),
    /// More types than there are.
    #[error("more types are asked for than there are")]
    TooManyTypes,
    /// More names of one type than fit.
    #[error("too many names of type {0:?} are asked for")]
    TooManyNames(String),
    /// A response of a type that was not asked for.
    #[error("a response of type {0:?} came, which nobody asked for")]
    UnaskedType(String),
    /// A response that cannot be answered.
    #[error("a response of type {0:?} has no nonce: it cannot be answered")]
    NoNonce(String),
}
