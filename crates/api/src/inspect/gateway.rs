//! Views of builtin gateways, in the older form.

use kds_proto::kuma::mesh::v1alpha1::MeshGateway;
use kds_proto::kuma::mesh::v1alpha1::mesh_gateway::Listener;
use model::policy::tagged::Selectors;
use model::spec::{mesh_gateway, tags};
use model::{Key, Kind};
use serde_json::{Value, json};

use super::{Seen, dataplane_of};
use crate::Api;
use crate::problem::Problem;
use crate::serve::Call;

/// `…/meshgateways/{name}/dataplanes` and `…/meshgatewayroutes/{name}/dataplanes`.
pub(super) fn proxies(api: &Api, call: &Call, kind: Kind) -> Result<Value, Problem> {
    let (snapshot, mesh) = (api.configuration(), call.name("mesh"));
    if snapshot.get(&Key::global(Kind::Mesh, mesh)).is_none() {
        return Err(Problem::not_found("Could not build mesh context"));
    }
    let asked = snapshot.get(&Key::new(kind, mesh, call.name("name")));
    let asked = asked.ok_or_else(|| Problem::not_found(format!("Could not find {kind}")))?;
    let route = Selectors::of(asked);
    let is_meant = |proxy: &&std::sync::Arc<model::Resource>| {
        let Some(dataplane) = dataplane_of(proxy) else { return false };
        let Some(gateway) = mesh_gateway::of(&snapshot, &proxy.meta, &dataplane) else { return false };
        match &route {
            Some(Selectors::Proxies(selectors)) => {
                let listeners = mesh_gateway::listener_tags(gateway, &dataplane);
                selectors.iter().any(|selector| listeners.iter().any(|own| tags::matches(selector, own)))
            }
            _ => gateway.meta.key == asked.meta.key,
        }
    };
    let proxies = snapshot.list_in(Kind::Dataplane, mesh).filter(is_meant);
    let items: Vec<Value> =
        proxies.map(|proxy| json!({"dataplane": {"mesh": mesh, "name": &*proxy.meta.key.name}})).collect();
    Ok(json!({"total": items.len(), "items": items}))
}

/// What a builtin gateway's proxy listens on. Hosts and routes are not told.
pub(super) fn attachments(seen: &Seen) -> Value {
    let gateway = mesh_gateway::of(&seen.snapshot, &seen.resource.meta, &seen.dataplane);
    let key = gateway.map(|gateway| json!({"mesh": &*gateway.meta.key.mesh, "name": &*gateway.meta.key.name}));
    let spec = gateway.and_then(|gateway| gateway.spec.message::<MeshGateway>().ok());
    let listeners = spec.iter().filter_map(|spec| spec.conf.as_ref()).flat_map(|conf| &conf.listeners);
    let shown = |listener: &Listener| json!({"port": listener.port, "protocol": listener.protocol().as_str_name(), "hosts": []});
    json!({
        "kind": "MeshGatewayDataplane",
        "gateway": key.unwrap_or_else(|| json!({"mesh": "", "name": ""})),
        "listeners": listeners.map(shown).collect::<Vec<_>>(),
    })
}
