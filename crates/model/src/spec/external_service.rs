//! `ExternalService`: a service outside the mesh, known by tags (api-and-kumactl 3.8).

use kds_proto::kuma::mesh::v1alpha1::ExternalService;
use kds_proto::kuma::mesh::v1alpha1::external_service::Networking;

use crate::labels::SERVICE_TAG;
use crate::resource::Meta;
use crate::spec::address::{check_port, split_host_port};
use crate::spec::formats::{is_dns_name, is_ip};
use crate::spec::tags::Rules;
use crate::spec::{ProtoSpec, data_source};
use crate::violation::{Path, Violations};

/// Host and port that a service outside the mesh has.
pub fn host_and_port(external: &ExternalService) -> Option<(&str, u32)> {
    let (host, port) = split_host_port(&external.networking.as_ref()?.address)?;
    Some((host, port.parse().ok()?))
}

impl ProtoSpec for ExternalService {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        let at = Path::of("networking");
        match &self.networking {
            None => found.add(&at, "should have networking"),
            Some(networking) => check_networking(&at, networking, found),
        }
        let at = Path::of("tags");
        Rules::OF_EXTERNAL_SERVICE.check(&at, &self.tags, found);
        let host = self.networking.as_ref().and_then(|networking| split_host_port(&networking.address));
        let service = self.tags.get(SERVICE_TAG).filter(|service| !service.is_empty());
        if service.is_some_and(|service| host.is_some_and(|(host, _)| host == service)) {
            found.add(&at.key(SERVICE_TAG), "cannot be the same as networking.address");
        }
    }
}

fn check_networking(at: &Path, networking: &Networking, found: &mut Violations) {
    check_address(&at.field("address"), &networking.address, found);
    let Some(tls) = &networking.tls else { return };
    let at = at.field("tls");
    if tls.server_name.as_ref().is_some_and(String::is_empty) {
        found.add(&at.field("serverName"), "cannot be empty");
    }
    data_source::check_older(&at.field("caCert"), tls.ca_cert.as_ref(), found);
    data_source::check_older(&at.field("clientCert"), tls.client_cert.as_ref(), found);
    data_source::check_older(&at.field("clientKey"), tls.client_key.as_ref(), found);
}

/// An address that cannot be split has neither host nor port, and is told so for each.
fn check_address(at: &Path, address: &str, found: &mut Violations) {
    if address.is_empty() {
        found.add(at, "address can't be empty");
        return;
    }
    let (host, port) = split_host_port(address).unwrap_or_else(|| {
        found.add(at, "unable to parse address");
        ("", "")
    });
    if !is_ip(host) && !is_dns_name(host) {
        found.add(at, "address has to be a valid IP address or a domain name");
    }
    // A number that is too long for one counts as the largest.
    let digits = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    let number = if digits { port.parse().unwrap_or(u32::MAX) } else { 0 };
    if !digits || port.parse::<u32>().is_err() {
        found.add(at, "unable to parse port in address");
    }
    check_port(at, number, found);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kind::Kind;
    use crate::spec::tabled::proto_faults as faults;

    fn with_address(address: &str) -> Vec<String> {
        faults(Kind::ExternalService, json!({"tags": {"kuma.io/service": "x"}, "networking": {"address": address}}))
    }

    #[test]
    fn an_address_has_host_and_port() {
        for good in ["example.com:443", "10.0.0.1:1", "[::1]:80"] {
            assert!(with_address(good).is_empty(), "{good}");
        }
        assert_eq!(with_address(""), ["networking.address: address can't be empty"]);
        assert_eq!(
            with_address("a b:80"),
            ["networking.address: address has to be a valid IP address or a domain name"]
        );
        assert_eq!(
            with_address("a:http"),
            [
                "networking.address: unable to parse port in address",
                "networking.address: port must be in the range [1, 65535]"
            ]
        );
        assert_eq!(with_address("a:70000"), ["networking.address: port must be in the range [1, 65535]"]);
        assert_eq!(with_address("x:80"), [r#"tags["kuma.io/service"]: cannot be the same as networking.address"#]);
    }

    #[test]
    fn sources_of_certificates_say_where() {
        let with = |tls: Value| {
            faults(
                Kind::ExternalService,
                json!({"tags": {"kuma.io/service": "x"}, "networking": {"address": "a:1", "tls": tls}}),
            )
        };
        assert!(
            with(json!({"caCert": {"inline": "eA=="}, "clientCert": {"file": "/a"}, "clientKey": {"secret": "a"}}))
                .is_empty()
        );
        assert_eq!(
            with(json!({"clientCert": {"inlineString": ""}, "clientKey": {}})),
            [
                "networking.tls.clientCert: data source cannot be empty",
                "networking.tls.clientKey: data source cannot be empty"
            ]
        );
    }

    #[test]
    fn networking_and_a_service_are_needed() {
        assert_eq!(
            faults(Kind::ExternalService, json!({"tags": {"kuma.io/protocol": "http"}})),
            ["networking: should have networking", "tags: mandatory tag \"kuma.io/service\" is missing"]
        );
    }
}
