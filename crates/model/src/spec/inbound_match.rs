//! Conditions on incoming traffic (api-and-kumactl 3.16).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// A condition on the client of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Match {
    /// A condition on the client's SPIFFE identifier.
    #[serde(rename = "spiffeID", default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<SpiffeIdMatch>,
}

words!(
    /// How a [`SpiffeIdMatch`] compares.
    SpiffeIdMatchType { Exact = "Exact", Prefix = "Prefix" }
);

/// A condition on a SPIFFE identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpiffeIdMatch {
    /// How to compare.
    pub r#type: SpiffeIdMatchType,
    /// What to compare with, `spiffe://trust-domain/path`.
    pub value: String,
}

impl Match {
    /// Adds an identifier that is none.
    pub fn check(&self, at: &Path, found: &mut Violations) {
        if self.spiffe_id.as_ref().is_some_and(|id| !is_spiffe_id(&id.value)) {
            found.add(&at.field("spiffeID"), "must be a valid Spiffe ID");
        }
    }
}

/// Whether a text is a SPIFFE identifier: section 2 of the SPIFFE-ID standard.
pub fn is_spiffe_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else { return false };
    let (trust_domain, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let in_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    let in_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.chars().all(in_path);
    !trust_domain.is_empty() && trust_domain.chars().all(in_domain) && path.split('/').skip(1).all(is_segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_identifiers_are_told_from_other_text() {
        for good in ["spiffe://td", "spiffe://my-mesh.east.mesh.local/ns/a/sa/B_1", "spiffe://a/b.c"] {
            assert!(is_spiffe_id(good), "{good}");
        }
        for bad in [
            "",
            "nospiffe",
            "spiffe://",
            "spiffe:///a",
            "spiffe://A/b",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/./b",
        ] {
            assert!(!is_spiffe_id(bad), "{bad}");
        }
        assert!(!is_spiffe_id("spiffe://a:80/b") && !is_spiffe_id("spiffe://a/b?c") && !is_spiffe_id("SPIFFE://a"));
    }
}
