//! `ZoneEgress`: where traffic leaves a zone (api-and-kumactl 3.7).

use kds_proto::kuma::mesh::v1alpha1::ZoneEgress;

use crate::resource::Meta;
use crate::spec::ProtoSpec;
use crate::spec::address::{check_port, check_proxy_address, is_reached_by_loopback};
use crate::violation::{Path, Violations};

impl ProtoSpec for ZoneEgress {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        let at = Path::of("networking");
        let networking = self.networking.clone().unwrap_or_default();
        let admin = networking.admin.as_ref().map(|admin| admin.port);
        if admin == Some(networking.port) && is_reached_by_loopback(&networking.address) {
            found.add(&at.field("admin.port"), "must differ from port");
        }
        if !networking.address.is_empty() {
            // Kuma names the member twice.
            check_proxy_address(&at.field("address.address"), &networking.address, found);
        }
        check_port(&at.field("port"), networking.port, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kind::Kind;
    use crate::spec::tabled::proto_faults as faults;

    #[test]
    fn the_admin_port_differs_on_the_loopback_address() {
        let with = |address: &str| {
            faults(Kind::ZoneEgress, json!({"networking": {"address": address, "port": 5, "admin": {"port": 5}}}))
        };
        assert_eq!(with("127.0.0.1"), ["networking.admin.port: must differ from port"]);
        assert!(with("10.0.0.1").is_empty());
    }

    #[test]
    fn a_port_is_needed() {
        assert_eq!(faults(Kind::ZoneEgress, json!({})), ["networking.port: port must be in the range [1, 65535]"]);
        assert_eq!(
            faults(Kind::ZoneEgress, json!({"networking": {"address": "a b", "port": 70000}})),
            [
                "networking.address.address: address has to be valid IP address or domain name",
                "networking.port: port must be in the range [1, 65535]"
            ]
        );
    }
}
