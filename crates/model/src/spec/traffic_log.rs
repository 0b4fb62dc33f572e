//! `TrafficLog`: the older way to log connections. Without a backend it means the mesh's default one.

use kds_proto::kuma::mesh::v1alpha1::TrafficLog;

use crate::resource::Meta;
use crate::spec::{ProtoSpec, tags};
use crate::violation::Violations;

impl ProtoSpec for TrafficLog {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        tags::check_connection(&self.sources, &self.destinations, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kind::Kind;
    use crate::spec::tabled::{between_services, proto_faults as faults};

    #[test]
    fn selectors_are_needed_and_a_backend_is_not() {
        assert!(faults(Kind::TrafficLog, between_services(json!({}))).is_empty());
        let missing = "must have at least one element";
        assert_eq!(
            faults(Kind::TrafficLog, json!({"conf": {"backend": "a"}})),
            [format!("sources: {missing}"), format!("destinations: {missing}")]
        );
    }
}
