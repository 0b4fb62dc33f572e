//! Where at a proxy which policies hold, as the older inspection shows it (api-and-kumactl 2.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::Kind;
use crate::labels::SERVICE_TAG;
use crate::policy::tagged::{self, Connections, PASS_THROUGH};
use crate::policy::{Proxy, Summary};
use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::spec::{dataplane, outbound};

/// A place at a proxy where policies hold. Sorted as their texts are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// `dataplane`, `inbound`, `outbound` or `service`.
    pub of: &'static str,
    /// Which of them; empty for the dataplane itself.
    pub name: String,
    /// The service that it is about.
    pub service: String,
}

/// Policies by place, then by kind.
pub type Attachments = BTreeMap<Attachment, BTreeMap<Kind, Vec<Arc<Resource>>>>;

/// Every policy that holds for a proxy, `summaries` being what those with a `targetRef` say.
pub fn attachments(snapshot: &Snapshot, proxy: Proxy<'_>, summaries: &[Summary]) -> Attachments {
    let mut found = Found { snapshot, proxy, attachments: Attachments::new() };
    found.at_proxy(summaries);
    found.at_inbounds();
    found.at_outbounds();
    found.attachments
}

struct Found<'a> {
    snapshot: &'a Snapshot,
    proxy: Proxy<'a>,
    attachments: Attachments,
}

impl<'a> Found<'a> {
    fn add(
        &mut self,
        of: &'static str,
        name: &str,
        service: &str,
        policies: impl IntoIterator<Item = &'a Arc<Resource>>,
    ) {
        for policy in policies {
            let place = Attachment { of, name: name.to_owned(), service: service.to_owned() };
            let kinds = self.attachments.entry(place).or_default();
            kinds.entry(policy.kind()).or_default().push(Arc::clone(policy));
        }
    }

    fn connections(&self, kind: Kind) -> Connections<'a> {
        Connections::new(self.snapshot, &self.proxy.meta.key.mesh, kind)
    }

    fn at_proxy(&mut self, summaries: &[Summary]) {
        for kind in [Kind::TrafficTrace, Kind::ProxyTemplate] {
            let policy = tagged::of_proxy(self.snapshot, &self.proxy.meta.key.mesh, kind, self.proxy.dataplane);
            self.add("dataplane", "", "", policy);
        }
        for summary in summaries {
            let place = Attachment { of: "dataplane", name: String::new(), service: String::new() };
            if !summary.policies.is_empty() {
                let kinds = self.attachments.entry(place).or_default();
                kinds.entry(summary.kind).or_default().extend(summary.policies.iter().cloned());
            }
        }
    }

    fn at_inbounds(&mut self) {
        let permissions = self.connections(Kind::TrafficPermission);
        let lists = [Kind::FaultInjection, Kind::RateLimit].map(|kind| self.connections(kind));
        let Some(networking) = &self.proxy.dataplane.networking else { return };
        for inbound in &networking.inbound {
            let at = dataplane::interface(networking, inbound);
            let name = format!("{}:{}:{}", at.address, at.port, at.workload_port);
            let service = inbound.tags.get(SERVICE_TAG).map(String::as_str).unwrap_or_default();
            self.add("inbound", &name, service, permissions.to_inbound(&inbound.tags));
            for list in &lists {
                self.add("inbound", &name, service, list.all_to_inbound(&inbound.tags));
            }
        }
    }

    fn at_outbounds(&mut self) {
        let routes = self.connections(Kind::TrafficRoute);
        let by_outbound = [Kind::Timeout, Kind::RateLimit].map(|kind| self.connections(kind));
        let client = self.proxy.dataplane;
        for outbound in tagged::outbounds(client) {
            let name = format!("{}:{}", outbound::address(outbound), outbound.port);
            let service = outbound.tags.get(SERVICE_TAG).map(String::as_str).unwrap_or_default();
            for policies in by_outbound.iter().chain([&routes]) {
                self.add("outbound", &name, service, policies.to_service(client, service));
            }
        }
        let services = tagged::services(client, &routes);
        for policies in [Kind::HealthCheck, Kind::CircuitBreaker, Kind::Retry].map(|kind| self.connections(kind)) {
            for service in &services {
                self.add("service", service, service, policies.to_service(client, service));
            }
        }
        let logs = self.connections(Kind::TrafficLog);
        let logged = tagged::outbounds(client).filter_map(|outbound| outbound.tags.get(SERVICE_TAG));
        let logged: std::collections::BTreeSet<&str> = logged.map(String::as_str).chain([PASS_THROUGH]).collect();
        for service in logged {
            self.add("service", service, service, logs.to_service(client, service));
        }
    }
}
