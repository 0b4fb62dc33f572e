//! Why a proxy's stream is not taken or ends: the one file that makes gRPC statuses of it.

use discovery::stream::End;
use tonic::Status;

/// Why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// What it says of itself makes no sense.
    #[error("the proxy does not say who it is: {0}")]
    Introduction(String),
    /// It does not prove who it is, or may not be who it is.
    #[error("authentication failed: {0}")]
    Unauthenticated(String),
    /// It has a stream already.
    #[error("there is already an active stream of this proxy; try again later")]
    Active,
    /// Nobody made its resource, and it brings none.
    #[error("{0} is not found: give kuma-dp its resource with --dataplane-file, or create it before")]
    NotFound(String),
    /// Its resource cannot be stored.
    #[error("the resource of the proxy cannot be registered: {0}")]
    NotRegistered(String),
    /// The proxy broke the protocol.
    #[error("{0}")]
    Fault(String),
    /// Something is wrong here; the reason is for our log.
    #[error("{0}")]
    Failed(String),
    /// The program ends.
    #[error("this control plane is stopping")]
    Stopping,
    /// The proxy hung up.
    #[error("the proxy hung up")]
    Left,
}

impl Refusal {
    /// All values of [`Refusal::name`].
    pub const NAMES: [&'static str; 9] = [
        "introduction",
        "unauthenticated",
        "active",
        "not-found",
        "not-registered",
        "protocol",
        "failed",
        "stopping",
        "left",
    ];

    /// Value of the label `reason` of metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Introduction(_) => "introduction",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Active => "active",
            Self::NotFound(_) => "not-found",
            Self::NotRegistered(_) => "not-registered",
            Self::Fault(_) => "protocol",
            Self::Failed(_) => "failed",
            Self::Stopping => "stopping",
            Self::Left => "left",
        }
    }

    /// What the proxy is told.
    pub fn status(&self) -> Status {
        let text = self.to_string();
        match self {
            Self::Introduction(_) | Self::Fault(_) => Status::invalid_argument(text),
            Self::Unauthenticated(_) => Status::unauthenticated(text),
            Self::Active => Status::already_exists(text),
            Self::NotFound(_) => Status::not_found(text),
            Self::NotRegistered(_) => Status::failed_precondition(text),
            Self::Failed(_) => Status::internal("the stream failed"),
            Self::Stopping => Status::unavailable(text),
            Self::Left => Status::cancelled(text),
        }
    }
}

impl From<End> for Refusal {
    fn from(end: End) -> Self {
        match end {
            End::Left => Self::Left,
            End::Status(status) if status.code() == tonic::Code::InvalidArgument => {
                Self::Fault(status.message().to_owned())
            }
            // What ends a connection: nobody is left to tell.
            End::Status(_) => Self::Left,
            End::Fault(fault) => Self::Fault(fault.to_string()),
            End::NotTaken(reason) => Self::Failed(reason),
        }
    }
}
