//! What policies mean to proxies, proxies to policies, and services to both: views that the store alone answers
//! (api-and-kumactl 2.4).

mod gateway;
mod hostnames;
mod layout;
mod legacy;
mod matching;
mod policies;
mod rules;

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, Mesh};
use model::policy::{Origin, Proxy};
use model::spec::mesh::is_exclusive;
use model::{Key, Kind, Meta, Resource, Snapshot};
use serde_json::{Map, Value, json};

use crate::problem::Problem;
use crate::serve::Call;
use crate::{Api, reply, resource};

/// Which view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The proxies that a policy of a kind holds for.
    ProxiesOfPolicy(Kind),
    /// The proxies that a MeshService is made of.
    ProxiesOfService,
    /// The host names of a service.
    Hostnames,
    /// What the policies of every kind say to a proxy, or to those of a MeshGateway.
    Rules(Kind),
    /// What holds for a proxy as a whole.
    Policies,
    /// What holds for one of its inbounds.
    InboundPolicies,
    /// What holds for one of its outbounds.
    OutboundPolicies,
    /// Where one of its outbounds leads.
    Routes,
    /// What holds for one of the routes of an outbound.
    RoutePolicies,
    /// Its inbounds and the services that it may reach.
    Layout,
    /// Where which policies hold, in the older form.
    Attachments,
    /// Where which rules hold, in the older form.
    RuleAttachments,
    /// The proxies, and places at them, where a policy of a kind holds, in the older form.
    AttachmentsOfPolicy(Kind),
    /// The proxies of a MeshGateway, or of those that a MeshGatewayRoute belongs to.
    ProxiesOfGateway(Kind),
}

impl View {
    /// What it shows, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::ProxiesOfPolicy(_) => "The proxies that the policy holds for",
            Self::ProxiesOfService => "The proxies that the service is made of",
            Self::Hostnames => "The host names of the service",
            Self::Rules(_) => "What the policies of every kind say",
            Self::Policies => "What holds for the proxy as a whole",
            Self::InboundPolicies => "What holds for one of the proxy's inbounds",
            Self::OutboundPolicies => "What holds for one of the proxy's outbounds",
            Self::Routes => "Where one of the proxy's outbounds leads",
            Self::RoutePolicies => "What holds for a route of one of the proxy's outbounds",
            Self::Layout => "The proxy's inbounds and the services that it may reach",
            Self::Attachments => "Where at the proxy which policies hold",
            Self::RuleAttachments => "Where at the proxy which rules hold",
            Self::AttachmentsOfPolicy(_) => "The proxies, and the places at them, where the policy holds",
            Self::ProxiesOfGateway(_) => "The proxies of the gateway",
        }
    }

    /// Every view, with what stands behind the collection or one of its resources.
    pub(crate) fn of(kind: Kind) -> Vec<(&'static str, Self)> {
        let mut views = Vec::new();
        if kind.info().policy.is_some() {
            views.push(("_resources/dataplanes", Self::ProxiesOfPolicy(kind)));
            if !matches!(kind, Kind::MeshGatewayRoute | Kind::VirtualOutbound) {
                views.push(("dataplanes", Self::AttachmentsOfPolicy(kind)));
            }
        }
        match kind {
            Kind::MeshService => {
                views.extend([
                    ("_resources/dataplanes", Self::ProxiesOfService),
                    ("_dataplanes", Self::ProxiesOfService),
                ]);
            }
            Kind::MeshGateway => {
                views.extend([("_rules", Self::Rules(kind)), ("dataplanes", Self::ProxiesOfGateway(kind))]);
            }
            Kind::MeshGatewayRoute => views.push(("dataplanes", Self::ProxiesOfGateway(kind))),
            Kind::Dataplane => views.extend([
                ("_rules", Self::Rules(kind)),
                ("_policies", Self::Policies),
                ("_inbounds/{inbound}/_policies", Self::InboundPolicies),
                ("_outbounds/{outbound}/_policies", Self::OutboundPolicies),
                ("_outbounds/{outbound}/_routes", Self::Routes),
                ("_outbounds/{outbound}/_routes/{route}/_policies", Self::RoutePolicies),
                ("_layout", Self::Layout),
                ("policies", Self::Attachments),
                ("rules", Self::RuleAttachments),
            ]),
            _ => {}
        }
        views
    }
}

/// Answers a view.
pub(crate) fn answer(api: &Api, call: &Call, view: View) -> Result<Response, Problem> {
    let shown = match view {
        View::ProxiesOfPolicy(kind) => matching::of_policy(api, call, kind)?,
        View::ProxiesOfService => matching::of_service(api, call)?,
        View::Hostnames => hostnames::of_service(api, call)?,
        View::Rules(kind) => rules::of(api, call, kind)?,
        View::Policies => policies::of_proxy(api, call)?,
        View::InboundPolicies => policies::of_inbound(api, call)?,
        View::OutboundPolicies => policies::of_outbound(api, call)?,
        View::Routes => policies::routes(api, call)?,
        View::RoutePolicies => policies::of_route(api, call)?,
        View::Layout => layout::of_proxy(api, call)?,
        View::Attachments => legacy::attachments(api, call)?,
        View::RuleAttachments => legacy::rules(api, call)?,
        View::AttachmentsOfPolicy(kind) => legacy::of_policy(api, call, kind)?,
        View::ProxiesOfGateway(kind) => gateway::proxies(api, call, kind)?,
    };
    Ok(reply::json(StatusCode::OK, &shown))
}

/// A dataplane and the snapshot that it is of.
struct Seen {
    snapshot: Arc<Snapshot>,
    resource: Arc<Resource>,
    dataplane: Arc<Dataplane>,
}

impl Seen {
    /// The dataplane of the path, in a mesh that exists.
    fn find(api: &Api, call: &Call) -> Result<Self, Problem> {
        let key = resource::key_of(api, call, Kind::Dataplane)?;
        Self::get(api.configuration(), &key, "Could not retrieve Dataplane")
    }

    fn get(snapshot: Arc<Snapshot>, key: &Key, title: &str) -> Result<Self, Problem> {
        let resource = snapshot.get(key).cloned().ok_or_else(|| Problem::not_found(title))?;
        let dataplane = dataplane_of(&resource).ok_or_else(|| Problem::internal(title))?;
        Ok(Self { snapshot, resource, dataplane })
    }

    fn proxy(&self) -> Proxy<'_> {
        Proxy { meta: &self.resource.meta, dataplane: &self.dataplane }
    }

    fn mesh(&self) -> Option<Arc<Mesh>> {
        let mesh = self.snapshot.get(&Key::global(Kind::Mesh, &self.resource.meta.key.mesh))?;
        mesh.spec.message::<Mesh>().ok()
    }

    fn is_exclusive(&self) -> bool {
        self.mesh().is_some_and(|mesh| is_exclusive(&mesh))
    }

    /// Refuses a view that only makes sense when services are resources.
    fn check_exclusive(&self, view: &str) -> Result<(), Problem> {
        if self.is_exclusive() {
            return Ok(());
        }
        Err(Problem::bad_request(format!("bad request: can't use {view} endpoint without meshService enabled")))
    }
}

fn dataplane_of(resource: &Resource) -> Option<Arc<Dataplane>> {
    let decoded = resource.spec.message::<Dataplane>();
    decoded.inspect_err(|error| tracing::error!(proxy = %resource.meta.key, %error, "a dataplane does not decode")).ok()
}

/// Who a resource is, as views tell.
fn meta(meta: &Meta) -> Value {
    let labels: Map<String, Value> = meta.labels.iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    json!({"labels": labels, "mesh": &*meta.key.mesh, "name": &*meta.key.name, "type": meta.key.kind.name()})
}

fn metas<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> Value {
    origins.into_iter().map(|origin| meta(&origin.policy.meta)).collect()
}
