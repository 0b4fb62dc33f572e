//! Why a zone is turned away or its stream ends, and what it is told: the one file that makes gRPC statuses of it
//! (kds-wire 5.10).

use tonic::{Code, Status};

use crate::insights::StreamKind;

/// Why a call is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller does not say which zone it is of.
    NoZone,
    /// What it says cannot be the name of a zone.
    BadName(String),
    /// It does not prove who it is; the reason is for its log and for ours.
    Unauthenticated(String),
    /// It is nobody who may follow a global; the text says where to go.
    Stranger(String),
    /// The zone has too many streams of this kind.
    TooMany(String),
    /// The zone could not be created.
    NotCreated,
    /// The program is stopping.
    Stopping,
}

impl Refusal {
    /// What the caller is told; `kind` is the stream that it asked for, `None` for a health check.
    pub fn status(&self, kind: Option<StreamKind>) -> Status {
        let syncs = matches!(kind, Some(StreamKind::GlobalToZone | StreamKind::ZoneToGlobal));
        match self {
            // Kuma's sync streams do not name a code, and gRPC fills in this one.
            Self::NoZone if syncs => Status::new(Code::Unknown, NO_CLIENT_ID),
            Self::NoZone => Status::invalid_argument(NO_CLIENT_ID),
            Self::BadName(text) => Status::invalid_argument(text),
            Self::Unauthenticated(text) => Status::unauthenticated(text),
            Self::Stranger(text) => Status::failed_precondition(text),
            Self::TooMany(text) => Status::resource_exhausted(text),
            Self::NotCreated => Status::internal(STREAM_FAILED),
            Self::Stopping => Status::unavailable(UNAVAILABLE),
        }
    }

    /// All values of [`Refusal::name`].
    pub const NAMES: [&'static str; 7] =
        ["no-zone", "bad-name", "unauthenticated", "stranger", "too-many", "not-created", "stopping"];

    /// Value of the label `reason` of metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoZone => "no-zone",
            Self::BadName(_) => "bad-name",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Stranger(_) => "stranger",
            Self::TooMany(_) => "too-many",
            Self::NotCreated => "not-created",
            Self::Stopping => "stopping",
        }
    }
}

const NO_CLIENT_ID: &str = "\"client-id\" is not present in metadata";
const STREAM_FAILED: &str = "stream failed";
const UNAVAILABLE: &str = "stream unavailable";

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The program is stopping.
    Stopping,
    /// The zone was silent for too long, or has a newer stream.
    Stale,
    /// The credential is no longer good.
    Unauthenticated(String),
    /// It turned out to be nobody who may follow a global.
    Stranger(String),
    /// The other end is gone.
    Left,
    /// The peer broke the protocol or sent what cannot be decoded, or the store failed. The reason is for our log.
    Failed(String),
    /// The peer sent a message that is larger than `maxMsgSize`.
    TooLarge(String),
    /// An answer that nobody waits for.
    UnknownAnswer,
}

impl Ending {
    /// What it means that nothing more can be read from a peer.
    pub fn of(status: &Status) -> Self {
        match status.code() {
            // Too large for the decoder.
            Code::OutOfRange | Code::ResourceExhausted => Self::TooLarge(status.message().to_owned()),
            Code::Internal | Code::InvalidArgument | Code::Unimplemented => Self::Failed(status.message().to_owned()),
            _ => Self::Left,
        }
    }

    /// What the peer is told. Never `OK`: a zone does not come back after that (KDS-22).
    pub fn status(&self, kind: StreamKind) -> Status {
        let syncs = matches!(kind, StreamKind::GlobalToZone | StreamKind::ZoneToGlobal);
        match self {
            Self::Stopping => Status::unavailable(UNAVAILABLE),
            Self::Stale if syncs => Status::cancelled("stream canceled - zone hc failed"),
            Self::Stale => Status::cancelled("stream canceled"),
            Self::Left if syncs => Status::cancelled("stream canceled - stream stopped"),
            Self::Left => Status::cancelled("stream canceled"),
            Self::Unauthenticated(text) => Status::unauthenticated(text),
            Self::Stranger(text) => Status::failed_precondition(text),
            Self::Failed(_) if syncs => Status::internal(STREAM_FAILED),
            Self::Failed(_) => Status::internal("could not receive a message"),
            Self::TooLarge(text) => Status::resource_exhausted(text),
            Self::UnknownAnswer => Status::invalid_argument("could not mark the response as received"),
        }
    }

    /// All values of [`Ending::name`].
    pub const NAMES: [&'static str; 8] =
        ["stopping", "stale", "unauthenticated", "stranger", "left", "failed", "too-large", "unknown-answer"];

    /// Value of the label `reason` of metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Stale => "stale",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Stranger(_) => "stranger",
            Self::Left => "left",
            Self::Failed(_) => "failed",
            Self::TooLarge(_) => "too-large",
            Self::UnknownAnswer => "unknown-answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KDS-7: who names no zone gets the code of its call.
    #[test]
    fn a_call_without_a_zone_is_refused_with_the_code_of_its_service() {
        for (kind, code) in [
            (Some(StreamKind::GlobalToZone), Code::Unknown),
            (Some(StreamKind::ZoneToGlobal), Code::Unknown),
            (Some(StreamKind::ConfigDump), Code::InvalidArgument),
            (None, Code::InvalidArgument),
        ] {
            let status = Refusal::NoZone.status(kind);
            assert_eq!((status.code(), status.message()), (code, r#""client-id" is not present in metadata"#));
        }
    }

    /// KDS-22: no stream ends with OK.
    #[test]
    fn no_stream_ends_as_if_all_were_well() {
        use Ending::{Failed, Left, Stale, Stopping, Stranger, TooLarge, Unauthenticated, UnknownAnswer};
        let text = String::new;
        for ending in [
            Stopping,
            Stale,
            Left,
            UnknownAnswer,
            Failed(text()),
            TooLarge(text()),
            Stranger(text()),
            Unauthenticated(text()),
        ] {
            for kind in [StreamKind::GlobalToZone, StreamKind::ZoneToGlobal, StreamKind::Stats] {
                assert_ne!(ending.status(kind).code(), Code::Ok);
            }
        }
    }
}
