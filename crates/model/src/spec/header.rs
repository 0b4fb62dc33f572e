//! HTTP headers, as policies name and match them (api-and-kumactl 3.15).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::check;
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Name of a header, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct HeaderName(
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[a-z0-9!#$%&'*+\-.^_\x60|~]+$"))] pub String,
);

words!(
    /// How a [`HeaderMatch`] compares.
    HeaderMatchType {
        Exact = "Exact",
        Present = "Present",
        RegularExpression = "RegularExpression",
        Absent = "Absent",
        Prefix = "Prefix",
    }
);

/// A condition on one header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderMatch {
    /// How to compare.
    #[serde(rename = "type", default = "exact")]
    pub r#type: HeaderMatchType,
    /// The header.
    pub name: HeaderName,
    /// What to compare with; empty for `Present` and `Absent`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

fn exact() -> HeaderMatchType {
    HeaderMatchType::Exact
}

impl HeaderMatch {
    /// Adds a value where there must be none.
    pub fn check(&self, at: &Path, found: &mut Violations) {
        let valueless = matches!(self.r#type, HeaderMatchType::Present | HeaderMatchType::Absent);
        if valueless && !self.value.is_empty() {
            found.add(&at.field("value"), check::MUST_NOT_BE_DEFINED);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VALUE: &str = "What to compare with; empty for `Present` and `Absent`.";

    #[test]
    fn a_match_is_exact_unless_it_says_otherwise() {
        let header: HeaderMatch = serde_json::from_value(json!({"value": "1", "name": "x-v"})).unwrap();
        assert_eq!(serde_json::to_string(&header).unwrap(), r#"{"type":"Exact","name":"x-v","value":"1"}"#);
    }

    #[test]
    fn presence_and_absence_have_no_value() {
        let faults = |header| {
            let header: HeaderMatch = serde_json::from_value(header).unwrap();
            let mut found = Violations::default();
            header.check(&Path::of("headers").index(0), &mut found);
            found.to_string()
        };
        for valueless in ["Present", "Absent"] {
            let fault = faults(json!({"type": valueless, "name": "a", "value": "b"}));
            assert_eq!(fault, "headers[0].value: must not be defined");
            assert_eq!(faults(json!({"type": valueless, "name": "a"})), "");
        }
        assert_eq!(faults(json!({"type": "Prefix", "name": "a", "value": "b"})), "");
    }

    #[test]
    fn the_schema_limits_length_and_characters_of_a_name() {
        let schema = schemars::schema_for!(HeaderName);
        assert_eq!(schema.get("minLength"), Some(&json!(1)));
        assert_eq!(schema.get("maxLength"), Some(&json!(256)));
        assert_eq!(schema.get("pattern"), Some(&json!(r"^[a-z0-9!#$%&'*+\-.^_\x60|~]+$")));
        let schema = schemars::schema_for!(HeaderMatch);
        assert_eq!(schema.pointer("/properties/type/default"), Some(&json!("Exact")));
        assert_eq!(schema.get("required"), Some(&json!(["name"])));
        assert_eq!(schema.pointer("/properties/value"), Some(&json!({"description": VALUE, "type": "string"})));
    }
}
