//! `TrafficPermission`: the older way to allow connections when mTLS is on (api-and-kumactl 3.13).

use kds_proto::kuma::mesh::v1alpha1::TrafficPermission;

use crate::resource::Meta;
use crate::spec::ProtoSpec;
use crate::spec::tags::Rules;
use crate::violation::{Path, Violations};

impl ProtoSpec for TrafficPermission {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        Rules::ANY.check_selectors(&Path::of("sources"), &self.sources, found);
        Rules::ANY.check_selectors(&Path::of("destinations"), &self.destinations, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kind::Kind;
    use crate::spec::tabled::{between_services, proto_faults as faults};

    #[test]
    fn any_tags_select_but_some_must() {
        assert!(faults(Kind::TrafficPermission, between_services(json!({}))).is_empty());
        assert!(
            faults(
                Kind::TrafficPermission,
                json!({"sources": [{"match": {"team": "a"}}],
            "destinations": [{"match": {"kuma.io/zone": "east"}}]})
            )
            .is_empty()
        );
        assert_eq!(
            faults(
                Kind::TrafficPermission,
                json!({"sources": [{}], "destinations": [{"match": {"a": "b"}}, {"match": {}}]})
            ),
            ["sources[0].match: must have at least one tag", "destinations[1].match: must have at least one tag"]
        );
    }
}
