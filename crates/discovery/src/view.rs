//! What a peer may be told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kds_proto::Any;

/// A pure function of a moment: what one peer shall hold.
pub trait View: Send + Sync {
    /// Everything there is at one moment. Cheap to clone: what was sent last is kept as one.
    type Moment: Clone + Send + Sync;

    /// What a peer that holds `from` needs to hold `to`; with no `from` everything. A type that nobody knows is empty.
    /// It may tell more than the interest asks for: what nobody asked for is not sent.
    fn changes(&self, type_url: &str, interest: &Interest, from: Option<&Self::Moment>, to: &Self::Moment) -> Changes;

    /// When a moment was made, on a clock of the view's choice; `None` when nobody keeps that.
    fn made(&self, _moment: &Self::Moment) -> Option<Duration> {
        None
    }
}

/// Which resources of a type a peer asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// All of them, asked for with `*` or with an empty first list.
    All,
    /// Those with these names.
    Names(BTreeSet<String>),
}

/// The difference between two moments, as a peer sees it.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// What is new or other than it was.
    pub put: Vec<Encoded>,
    /// Names of what is gone.
    pub removed: Vec<String>,
}

/// A resource in the form in which it is sent. A clone shares the bytes: one encoding serves all streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Name on the wire.
    pub name: Arc<str>,
    /// Changes when the content does.
    pub version: Arc<str>,
    /// The packed resource.
    pub resource: Any,
}
