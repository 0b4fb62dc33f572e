//! `MeshTCPRoute`: where connections go.

use model::Meta;
use model::spec::mesh_tcp_route::Rule;

use super::http_route;
use crate::destination::Destination;
use crate::plan::Context;
use crate::protocol::Protocol;

/// Where connections to a destination go, with weights; `None` when requests are told apart instead.
pub fn backends(
    context: &Context<'_>,
    destination: &Destination,
    protocol: Protocol,
) -> Option<Vec<(Destination, u32)>> {
    let rule = rule(context, destination);
    if protocol.is_http() && (rule.is_none() || http_route::has_rules(context, destination)) {
        return None;
    }
    let Some((rule, origin)) = rule else { return Some(vec![(destination.clone(), 100)]) };
    let backends = rule.default.backend_refs.unwrap_or_default();
    if backends.is_empty() {
        return None;
    }
    let resolved = backends.iter().filter_map(|backend| {
        let weight = u32::try_from(backend.weight).unwrap_or(u32::MAX);
        Some((Destination::of_backend(&context.view, &origin, backend)?, weight))
    });
    Some(resolved.collect())
}

/// What is said of a destination, and the strongest policy that says it.
fn rule(context: &Context<'_>, destination: &Destination) -> Option<(Rule, Meta)> {
    let routes = &context.policies.tcp_route_to;
    let of_resource = match destination {
        Destination::Port(port) => routes.rule(port),
        Destination::Tagged(_) => None,
    };
    if let Some(rule) = of_resource {
        return Some((rule.conf.first()?.clone(), rule.origins.last()?.policy.meta.clone()));
    }
    let rule = routes.by_service(&destination.service())?;
    Some((rule.conf.clone(), rule.origins.last()?.policy.meta.clone()))
}
