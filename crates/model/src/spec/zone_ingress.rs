//! `ZoneIngress`: where other zones reach the services of a zone (api-and-kumactl 3.6).

use kds_proto::kuma::mesh::v1alpha1::ZoneIngress;
use kds_proto::kuma::mesh::v1alpha1::zone_ingress::Networking;

use crate::resource::Meta;
use crate::spec::ProtoSpec;
use crate::spec::address::{check_port, check_proxy_address, is_reached_by_loopback};
use crate::spec::tags::Rules;
use crate::violation::{Path, Violations};

impl ProtoSpec for ZoneIngress {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        let networking = self.networking.clone().unwrap_or_default();
        check_networking(&Path::of("networking"), &networking, found);
        for (position, service) in self.available_services.iter().enumerate() {
            let at = Path::of("availableService").index(position).field("tags");
            Rules::OF_SERVICE.check(&at, &service.tags, found);
        }
    }
}

fn check_networking(at: &Path, networking: &Networking, found: &mut Violations) {
    let Networking { address, advertised_address, port, advertised_port, admin } = networking;
    let listens = [(address, port), (advertised_address, advertised_port)];
    let taken = |admin: u32| listens.iter().any(|(address, port)| admin == **port && is_reached_by_loopback(address));
    if admin.as_ref().is_some_and(|admin| taken(admin.port)) {
        found.add(&at.field("admin.port"), "must differ from port");
    }
    if advertised_address.is_empty() && *advertised_port != 0 {
        found.add(&at.field("advertisedAddress"), "has to be defined with advertisedPort");
    }
    if *advertised_port == 0 && !advertised_address.is_empty() {
        found.add(&at.field("advertisedPort"), "has to be defined with advertisedAddress");
    }
    // Kuma names the member twice.
    for (name, address) in [("address.address", address), ("advertisedAddress.address", advertised_address)] {
        if !address.is_empty() {
            check_proxy_address(&at.field(name), address, found);
        }
    }
    check_port(&at.field("port"), *port, found);
    if *advertised_port != 0 {
        check_port(&at.field("advertisedPort"), *advertised_port, found);
    }
}

/// Where other zones reach an ingress; `None` when it does not say, and then they do not use it.
pub fn public_address(ingress: &ZoneIngress) -> Option<(&str, u32)> {
    let networking = ingress.networking.as_ref()?;
    let (address, port) = (networking.advertised_address.as_str(), networking.advertised_port);
    (!address.is_empty() && port != 0).then_some((address, port))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::proto_faults as faults;

    fn with(networking: Value) -> Vec<String> {
        faults(Kind::ZoneIngress, json!({"networking": networking}))
    }

    #[test]
    fn the_admin_port_differs_on_the_loopback_address() {
        let reason = ["networking.admin.port: must differ from port"];
        assert_eq!(with(json!({"address": "127.0.0.1", "port": 5, "admin": {"port": 5}})), reason);
        assert!(with(json!({"address": "10.0.0.1", "port": 5, "admin": {"port": 5}})).is_empty());
        assert_eq!(
            with(json!({"address": "::", "port": 5, "admin": {"port": 5}})),
            [reason[0], "networking.address.address: must not be 0.0.0.0 or ::"]
        );
    }

    #[test]
    fn nothing_but_the_port_is_needed() {
        assert_eq!(faults(Kind::ZoneIngress, json!({})), ["networking.port: port must be in the range [1, 65535]"]);
        assert!(with(json!({"port": 10001})).is_empty());
        assert!(with(json!({"port": 1, "advertisedAddress": "lb.example.com", "advertisedPort": 2})).is_empty());
    }

    #[test]
    fn other_zones_need_both_halves_of_the_public_address() {
        let address = |address: &str, port| {
            let networking =
                Networking { advertised_address: address.into(), advertised_port: port, ..Networking::default() };
            let ingress = ZoneIngress { networking: Some(networking), ..ZoneIngress::default() };
            public_address(&ingress).map(|(address, port)| format!("{address}:{port}"))
        };
        assert_eq!(address("a", 1).as_deref(), Some("a:1"));
        assert_eq!(address("", 1), None);
        assert_eq!(address("a", 0), None);
    }
}
