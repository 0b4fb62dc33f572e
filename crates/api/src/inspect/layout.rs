//! The inbounds of a proxy and the services that it may reach (`_layout`).

use model::kri::Kri;
use model::labels::PROTOCOL_TAG;
use model::policy;
use model::spec::dataplane::section_name;
use model::{Key, Kind};
use serde_json::{Map, Value, json};

use super::Seen;
use crate::Api;
use crate::problem::Problem;
use crate::serve::Call;

/// `…/_layout`.
pub(super) fn of_proxy(api: &Api, call: &Call) -> Result<Value, Problem> {
    let (snapshot, mesh) = (api.configuration(), call.name("mesh"));
    if snapshot.get(&Key::global(Kind::Mesh, mesh)).is_none() {
        return Err(Problem::not_found("Failed to build MeshContext"));
    }
    let key = Key::new(Kind::Dataplane, mesh, call.name("name"));
    let seen = Seen::get(snapshot, &key, "Failed to retrieve Dataplane")?;
    seen.check_exclusive("_layout")?;
    let meta = &seen.resource.meta;
    let kri = Kri::of(meta).ok_or_else(|| Problem::internal("Failed to retrieve Dataplane"))?;
    let inbounds = seen.dataplane.networking.iter().flat_map(|networking| &networking.inbound).map(|inbound| {
        let section = section_name(inbound);
        json!({
            "kri": kri.with_section(&section).to_string(),
            "port": inbound.port,
            "protocol": inbound.tags.get(PROTOCOL_TAG).map(String::as_str).unwrap_or_default(),
            "proxyResourceName": format!("self_inbound_dp_{section}"),
        })
    });
    let mut outbounds: Vec<(String, Value)> = policy::reachable(&seen.snapshot, seen.proxy())
        .into_iter()
        .map(|(kri, port)| {
            let kri = kri.to_string();
            let shown = json!({"kri": kri, "port": port.number, "protocol": port.protocol, "proxyResourceName": kri});
            (kri, shown)
        })
        .collect();
    outbounds.sort_by(|(a, _), (b, _)| a.cmp(b));
    let labels: Map<String, Value> = meta.labels.iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    Ok(json!({
        "inbounds": inbounds.collect::<Vec<_>>(),
        "kri": kri.to_string(),
        "labels": labels,
        "outbounds": outbounds.into_iter().map(|(_, shown)| shown).collect::<Vec<_>>(),
    }))
}
