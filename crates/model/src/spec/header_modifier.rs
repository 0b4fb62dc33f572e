//! Headers that a proxy adds or overwrites.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::header::HeaderName;

/// Headers to add or overwrite; at most 16 of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderModifier {
    /// Overwritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub set: Option<Vec<HeaderKeyValue>>,
    /// Added beside those that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub add: Option<Vec<HeaderKeyValue>>,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderKeyValue {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: String,
}
