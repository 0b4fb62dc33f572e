//! `TrafficTrace`: the older way to trace requests. Without a backend it means the mesh's default one.

use kds_proto::kuma::mesh::v1alpha1::TrafficTrace;

use crate::resource::Meta;
use crate::spec::ProtoSpec;
use crate::spec::tags::Rules;
use crate::violation::{Path, Violations};

impl ProtoSpec for TrafficTrace {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        Rules::ANY.check_selectors(&Path::of("selectors"), &self.selectors, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kind::Kind;
    use crate::spec::tabled::proto_faults as faults;

    #[test]
    fn a_selector_is_needed_and_a_backend_is_not() {
        assert!(faults(Kind::TrafficTrace, json!({"selectors": [{"match": {"a": "*"}}]})).is_empty());
        assert_eq!(faults(Kind::TrafficTrace, json!({})), ["selectors: must have at least one element"]);
        assert_eq!(
            faults(Kind::TrafficTrace, json!({"selectors": [{}]})),
            ["selectors[0].match: must have at least one tag"]
        );
    }
}
