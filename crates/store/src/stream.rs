//! The two streams of changes and which kind belongs to which.

use std::fmt;

use model::Kind;
use model::kind::Access;

/// A stream of changes: a table, a revision and a snapshot of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// What users and control planes ask for.
    Configuration,
    /// How it fares: kinds that only control planes write.
    Insights,
}

impl Stream {
    /// Both, in the order in which they are locked.
    pub const ALL: [Self; 2] = [Self::Configuration, Self::Insights];

    /// The stream of a kind.
    pub fn of(kind: Kind) -> Self {
        if kind.info().access == Access::ControlPlanes { Self::Insights } else { Self::Configuration }
    }

    /// Value of the column `stream`, and of the label of metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Insights => "insights",
        }
    }

    /// Table of the resources.
    pub(crate) const fn table(self) -> &'static str {
        match self {
            Self::Configuration => "resources",
            Self::Insights => "insights",
        }
    }

    /// PostgreSQL channel of the hints.
    pub(crate) const fn channel(self) -> &'static str {
        match self {
            Self::Configuration => "store_configuration",
            Self::Insights => "store_insights",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kind that tells how resources of a kind fare, and goes with them.
pub(crate) fn insight_of(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::Mesh => Some(Kind::MeshInsight),
        _ => kind.info().insight.map(|(insight, _)| insight),
    }
}

/// The kind that resources of an insight kind tell about.
pub(crate) fn subject_of(kind: Kind) -> Option<Kind> {
    if Stream::of(kind) == Stream::Configuration {
        return None;
    }
    Kind::ALL.iter().copied().find(|subject| insight_of(*subject) == Some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insights_are_what_control_planes_write() {
        for kind in Kind::ALL.iter().copied() {
            assert_eq!(Stream::of(kind) == Stream::Insights, kind.name().ends_with("Insight"), "{kind}");
        }
    }

    #[test]
    fn every_proxy_takes_its_insight_along() {
        assert_eq!(insight_of(Kind::Dataplane), Some(Kind::DataplaneInsight));
        assert_eq!(insight_of(Kind::Zone), Some(Kind::ZoneInsight));
        assert_eq!(insight_of(Kind::Mesh), Some(Kind::MeshInsight));
        assert_eq!(insight_of(Kind::MeshTimeout), None);
    }
}
