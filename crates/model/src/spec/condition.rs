//! What a control plane found about one aspect of a resource.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::words::words;

/// An entry of `status.conditions`; all four members are always printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// The aspect, `Ready`; one entry for each.
    pub r#type: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, as one word for programs.
    pub reason: String,
    /// Why, for people; may be empty.
    pub message: String,
}

words!(
    /// Whether a condition holds.
    ConditionStatus { True = "True", False = "False", Unknown = "Unknown" }
);
