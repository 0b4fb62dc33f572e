//! Members whose content is somebody else's: kept, not interpreted.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Any JSON. Keys are sorted at every level, as the real control plane prints what it does not interpret.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct FreeForm(Value);

impl FreeForm {
    /// The JSON.
    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl<'de> Deserialize<'de> for FreeForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        value.sort_all_objects();
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_level() {
        let value: FreeForm = serde_json::from_str(r#"{"b":[{"z":1,"a":null}],"a":1.5}"#).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), r#"{"a":1.5,"b":[{"a":null,"z":1}]}"#);
    }
}
