//! The host names of a service, in its own zone and in the others.

use std::collections::{BTreeMap, BTreeSet};

use model::labels::{ORIGIN, ORIGIN_GLOBAL, ORIGIN_ZONE};
use model::spec::HostnameGenerator;
use model::{Key, Kind, Meta, hostname};
use serde_json::{Value, json};

use crate::Api;
use crate::problem::Problem;
use crate::serve::Call;

const SERVICES: [Kind; 3] = [Kind::MeshService, Kind::MeshExternalService, Kind::MeshMultiZoneService];

/// `…/{meshservices|meshexternalservices|meshmultizoneservices}/{name}/_hostnames`.
pub(super) fn of_service(api: &Api, call: &Call) -> Result<Value, Problem> {
    let collection = call.name("collection");
    let kind = SERVICES.into_iter().find(|kind| kind.info().path == collection).ok_or_else(|| {
        let paths = SERVICES.map(|kind| kind.info().path).join(",");
        Problem::invalid(format!("only \"{paths}\" are available for inspection"), model::Violations::default())
    })?;
    let snapshot = api.configuration();
    let key = Key::new(kind, call.name("mesh"), call.name("name"));
    let service = snapshot.get(&key).ok_or_else(|| Problem::not_found("could not retrieve service"))?;
    let zone = zone_of(&service.meta);
    let mut names: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for resource in snapshot.list(Kind::HostnameGenerator) {
        let Ok(generator) = resource.spec.json::<HostnameGenerator>() else { continue };
        // A generator of the service's own zone sees a service of its zone, every other one a service of elsewhere.
        let of_own_zone = resource.meta.labels.get(ORIGIN) == Some(ORIGIN_ZONE) && zone_of(&resource.meta) == zone;
        let origin = if of_own_zone { ORIGIN_ZONE } else { ORIGIN_GLOBAL };
        let labels = service.meta.labels.with(ORIGIN, origin);
        let name = hostname::generate(&generator, &service.meta, &labels, zone).map_err(|error| {
            tracing::warn!(generator = %resource.meta.key, service = %key, ?error, "a host name cannot be made");
            Problem::internal("could not generate hostname")
        })?;
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            names.entry(name).or_default().insert(zone);
        }
    }
    let item = |(hostname, zones): (&String, &BTreeSet<&str>)| {
        let zones: Vec<Value> = zones.iter().map(|zone| json!({"name": zone})).collect();
        json!({"hostname": hostname, "zones": zones})
    };
    let items: Vec<Value> = names.iter().map(item).collect();
    let total = items.len();
    Ok(json!({"items": if items.is_empty() { Value::Null } else { items.into() }, "total": total}))
}

/// The zone that its label names, else, as Kuma takes it, what stands before the first dot of its name.
fn zone_of(meta: &Meta) -> &str {
    let before_dot = || meta.key.name.split('.').next().unwrap_or_default();
    meta.zone().filter(|zone| !zone.is_empty()).unwrap_or_else(before_dot)
}
