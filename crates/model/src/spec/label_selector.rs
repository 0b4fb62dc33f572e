//! Selection of resources by their labels.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::labels::Labels;

/// Resources that carry every label given; without any, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels and the values they must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
}

impl LabelSelector {
    /// Whether a resource with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether no label is asked for.
    pub fn is_empty(&self) -> bool {
        self.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_must_have_its_value() {
        let labels = serde_json::from_str(r#"{"app":"web","tier":"front"}"#).unwrap();
        let selects = |text: &str| serde_json::from_str::<LabelSelector>(text).unwrap().matches(&labels);
        assert!(selects("{}"));
        assert!(selects(r#"{"matchLabels":{}}"#));
        assert!(selects(r#"{"matchLabels":{"app":"web"}}"#));
        assert!(!selects(r#"{"matchLabels":{"app":"web","tier":"back"}}"#));
        assert!(!selects(r#"{"matchLabels":{"zone":""}}"#));
    }
}
