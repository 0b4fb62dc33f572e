//! The proxies of this zone: what they are, and the resources that they bring with them (zone-dataplane 1.5).

mod register;
mod seats;

use std::fmt;

use model::document::{self, Limits};
use model::intake::{self, Rejection};
use model::{Kind, Resource};

pub(crate) use register::{Failure, deregister, register};
pub(crate) use seats::{Seat, Seats};

/// What a proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProxyType {
    /// Beside a workload, or a gateway.
    Dataplane,
    /// For traffic into the zone.
    Ingress,
    /// For traffic out of the zone.
    Egress,
}

impl ProxyType {
    /// From what a proxy calls itself; nothing is a dataplane.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "" | "dataplane" => Some(Self::Dataplane),
            "ingress" => Some(Self::Ingress),
            "egress" => Some(Self::Egress),
            _ => None,
        }
    }

    /// What a proxy calls itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dataplane => "dataplane",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// Kind of its resource.
    pub fn kind(self) -> Kind {
        match self {
            Self::Dataplane => Kind::Dataplane,
            Self::Ingress => Kind::ZoneIngress,
            Self::Egress => Kind::ZoneEgress,
        }
    }
}

impl fmt::Display for ProxyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Largest document of a proxy's resource, in bytes.
const MAX_DOCUMENT: usize = 1 << 20;

/// The resource of a kind in the document that a proxy brings.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_resource(kind: Kind, text: &str) -> Result<Resource, String> {
    let limits = Limits { size: MAX_DOCUMENT, ..Limits::default() };
    let documents = document::read("dataplane resource", text.as_bytes(), limits).map_err(|error| error.to_string())?;
    let [document] = <[_; 1]>::try_from(documents)
        .map_err(|documents| format!("dataplane resource: one document is wanted, {} are given", documents.len()))?;
    let given = document.value.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
    if given != kind.name() {
        return Err(format!("type: a {kind} is wanted, {given:?} is given"));
    }
    intake::read_document(kind, document.value).map_err(|rejection| match rejection {
        Rejection::BadRequest(detail) => detail,
        Rejection::Invalid { faults, .. } => faults.to_string(),
    })
}
