//! Configuration of a plugin of another control plane.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::check::MUST_NOT_BE_EMPTY;
use crate::spec::free_form::FreeForm;
use crate::violation::{Path, Violations};

/// A plugin and what it is told; it checks its own configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Extension {
    /// Name of the plugin.
    pub r#type: String,
    /// What the plugin is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<FreeForm>,
}

impl Extension {
    /// Adds a fault when the plugin has no name.
    pub fn validate(&self, at: &Path, found: &mut Violations) {
        if self.r#type.is_empty() {
            found.add(&at.field("type"), MUST_NOT_BE_EMPTY);
        }
    }
}
