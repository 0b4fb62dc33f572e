//! `MeshMetric`, carried as it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::JsonSpec;

/// Content carried as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeshMetric(serde_json::Value);

impl JsonSpec for MeshMetric {}
