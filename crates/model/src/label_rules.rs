//! What labels may say and which ones a control plane adds (api-and-kumactl 1.7, kds-wire 8.2).

use kds_proto::kuma::mesh::v1alpha1::Dataplane;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::gateway::GatewayType;
use prost::Message;

use crate::kind::{Kind, Scope};
use crate::labels::{self, Labels};
use crate::mode::{Mode, Zone};
use crate::resource::{Meta, Resource};
use crate::syntax;
use crate::violation::{Path, Violations};

/// Whether the label `kuma.io/origin` must suit the control plane; `multizone.zone.disableOriginLabelValidation` lifts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OriginLabel {
    /// It must.
    #[default]
    Required,
    /// It need not; its value must still be one of the two.
    Free,
}

/// Adds what is wrong with the labels that an author wrote, first what they claim, then their syntax.
pub fn check(meta: &Meta, mode: &Mode, origin_label: OriginLabel, found: &mut Violations) {
    let at = Path::of("labels");
    check_origin(meta, mode, origin_label, found);
    if let Mode::Zone(Zone { name: zone, .. }) = mode
        && origin(&meta.labels) != Some(labels::ORIGIN_GLOBAL)
    {
        if meta.labels.get(labels::ZONE).is_some_and(|value| value != zone) {
            found.add(&at.key(labels::ZONE), format!("kuma.io/zone label should have {zone} value"));
        }
        if meta.labels.get(labels::MESH).is_some_and(|value| *value != *meta.key.mesh) {
            found.add(&at.key(labels::MESH), "kuma.io/mesh label must not differ from mesh set on resource");
        }
    }
    for (key, value) in meta.labels.iter() {
        for fault in syntax::label_key(key).into_iter().chain(syntax::label_value(value)) {
            found.add(&at.key(key), fault);
        }
    }
}

fn check_origin(meta: &Meta, mode: &Mode, origin_label: OriginLabel, found: &mut Violations) {
    let at = Path::of("labels").key(labels::ORIGIN);
    let origin = origin(&meta.labels);
    if let Some(unknown) = origin.filter(|origin| ![labels::ORIGIN_GLOBAL, labels::ORIGIN_ZONE].contains(origin)) {
        found.add(&at, format!("unknown resource origin {unknown:?}"));
    }
    if origin_label == OriginLabel::Free {
        return;
    }
    match mode {
        Mode::Global if origin.is_some_and(|origin| origin != labels::ORIGIN_GLOBAL) => {
            found.add(&at, "the origin label must be set to 'global'");
        }
        Mode::Zone(Zone { federated: true, .. })
            if meta.key.kind.info().plugin && origin != Some(labels::ORIGIN_ZONE) =>
        {
            found.add(&at, "the origin label must be set to 'zone'");
        }
        _ => {}
    }
}

/// Which side made a resource; a label without value is none.
fn origin(labels: &Labels) -> Option<&str> {
    labels.get(labels::ORIGIN).filter(|origin| !origin.is_empty())
}

/// Whether a control plane made a resource itself; what has no origin was made here.
pub fn is_local(labels: &Labels, mode: &Mode) -> bool {
    let own = match mode {
        Mode::Global => labels::ORIGIN_GLOBAL,
        Mode::Zone(_) => labels::ORIGIN_ZONE,
    };
    origin(labels).is_none_or(|origin| origin == own)
}

/// The author's labels and those that a control plane adds; what the author wrote stays, but for the type of a proxy.
pub fn computed(resource: &Resource, mode: &Mode) -> Labels {
    let Meta { key, labels, .. } = &resource.meta;
    let mut computed = labels.clone();
    let mut add = |label: &str, value: &str| {
        if computed.get(label).is_none() {
            computed = computed.with(label, value);
        }
    };
    if key.kind.info().scope == Scope::Mesh {
        add(labels::MESH, if key.mesh.is_empty() { "default" } else { &key.mesh });
    }
    if let Mode::Zone(Zone { name: zone, environment, .. }) = mode
        && key.kind.info().sync.provided_by_zone()
    {
        add(labels::ORIGIN, labels::ORIGIN_ZONE);
        if labels.get(labels::ORIGIN) != Some(labels::ORIGIN_GLOBAL) {
            add(labels::ZONE, zone);
            add(labels::ENV, environment.as_str());
        }
    }
    match proxy_type(resource) {
        Some(proxy_type) => computed.with(labels::PROXY_TYPE, proxy_type),
        None => computed,
    }
}

/// Value of `kuma.io/proxy-type`; a delegated gateway has a sidecar.
fn proxy_type(resource: &Resource) -> Option<&'static str> {
    match resource.kind() {
        Kind::ZoneIngress => Some("zoneingress"),
        Kind::ZoneEgress => Some("zoneegress"),
        Kind::Dataplane => {
            let dataplane = Dataplane::decode(resource.spec.bytes().as_ref()).unwrap_or_default();
            let gateway = dataplane.networking.and_then(|networking| networking.gateway);
            let builtin = gateway.is_some_and(|gateway| gateway.r#type() == GatewayType::Builtin);
            Some(if builtin { "gateway" } else { "sidecar" })
        }
        _ => None,
    }
}

/// Adds the labels of a stored resource that an update would change or drop and must not; both sides [`computed`].
pub fn check_unchanged(stored: &Labels, updated: &Labels, found: &mut Violations) {
    for label in [labels::ORIGIN, labels::ZONE, labels::DISPLAY_NAME] {
        let at = Path::of("labels").key(label);
        match (stored.get(label), updated.get(label)) {
            (Some(was), None) => found.add(&at, format!("is immutable, cannot be removed (was {was:?})")),
            (Some(was), Some(is)) if was != is => {
                found.add(&at, format!("is immutable, cannot be changed from {was:?} to {is:?}"));
            }
            _ => {}
        }
    }
}

/// Why a new Dataplane cannot have its label `kuma.io/workload`, field and reason in one text; Universal only.
pub fn workload_fault(meta: &Meta, mode: &Mode) -> Option<String> {
    let workload = meta.labels.get(labels::WORKLOAD).filter(|workload| !workload.is_empty())?;
    if meta.key.kind != Kind::Dataplane {
        return None;
    }
    let at = Path::of("labels").key(labels::WORKLOAD);
    if *mode == Mode::Global {
        return Some(format!("{at}: not allowed on Global control plane"));
    }
    let faults = syntax::dns_1035_label(workload);
    (!faults.is_empty()).then(|| {
        format!(
            "{at}: must be a valid DNS-1035 label (at most 63 characters, matching regex [a-z]([-a-z0-9]*[a-z0-9])?): {}",
            faults.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::mesh::v1alpha1::dataplane::{Networking, networking::Gateway};

    use super::*;
    use crate::resource::{Key, Payload};

    fn zone(federated: bool) -> Mode {
        Mode::universal_zone("east", federated)
    }

    fn meta(kind: Kind, labels: &[(&str, &str)]) -> Meta {
        Meta::new(Key::new(kind, "default", "a"), labels.iter().copied().collect())
    }

    fn faults(meta: &Meta, mode: &Mode, origin_label: OriginLabel) -> String {
        let mut found = Violations::default();
        check(meta, mode, origin_label, &mut found);
        found.to_string()
    }

    #[test]
    fn an_origin_suits_the_control_plane() {
        let fault =
            |kind, labels: &[(&str, &str)], mode: &Mode| faults(&meta(kind, labels), mode, OriginLabel::Required);
        let origin = |value| [(labels::ORIGIN, value)];
        let on_zone = r#"labels["kuma.io/origin"]: the origin label must be set to 'zone'"#;
        let on_global = r#"labels["kuma.io/origin"]: the origin label must be set to 'global'"#;
        let unknown = r#"labels["kuma.io/origin"]: unknown resource origin "mars""#;

        assert_eq!(fault(Kind::MeshTimeout, &[], &Mode::Global), "");
        assert_eq!(fault(Kind::MeshTimeout, &origin("global"), &Mode::Global), "");
        assert_eq!(fault(Kind::MeshTimeout, &origin("zone"), &Mode::Global), on_global);
        assert_eq!(fault(Kind::Mesh, &origin("zone"), &Mode::Global), on_global);
        assert_eq!(fault(Kind::MeshTimeout, &origin("mars"), &Mode::Global), format!("{unknown}; {on_global}"));

        assert_eq!(fault(Kind::MeshTimeout, &origin("zone"), &zone(true)), "");
        assert_eq!(fault(Kind::MeshTimeout, &[], &zone(true)), on_zone);
        assert_eq!(fault(Kind::MeshTimeout, &origin(""), &zone(true)), on_zone);
        assert_eq!(fault(Kind::MeshTimeout, &origin("global"), &zone(true)), on_zone);
        assert_eq!(fault(Kind::MeshTimeout, &origin("mars"), &zone(true)), format!("{unknown}; {on_zone}"));
        assert_eq!(fault(Kind::Dataplane, &[], &zone(true)), "");
        assert_eq!(fault(Kind::MeshTimeout, &[], &zone(false)), "");
    }

    #[test]
    fn the_origin_check_can_be_lifted_but_for_unknown_values() {
        let free =
            |labels: &[(&str, &str)], mode: &Mode| faults(&meta(Kind::MeshTimeout, labels), mode, OriginLabel::Free);
        assert_eq!(free(&[], &zone(true)), "");
        assert_eq!(free(&[(labels::ORIGIN, "zone")], &Mode::Global), "");
        assert!(free(&[(labels::ORIGIN, "mars")], &Mode::Global).ends_with(r#"unknown resource origin "mars""#));
    }

    #[test]
    fn a_zone_checks_what_its_own_resources_say_of_zone_and_mesh() {
        let others = [(labels::ZONE, "west"), (labels::MESH, "payments")];
        let own = meta(Kind::Dataplane, &others);
        assert_eq!(
            faults(&own, &zone(true), OriginLabel::Required),
            "labels[\"kuma.io/zone\"]: kuma.io/zone label should have east value; labels[\"kuma.io/mesh\"]: \
             kuma.io/mesh label must not differ from mesh set on resource"
        );
        assert_eq!(faults(&own, &Mode::Global, OriginLabel::Required), "");
        let synced = meta(Kind::Dataplane, &[others[0], others[1], (labels::ORIGIN, "global")]);
        assert_eq!(faults(&synced, &zone(true), OriginLabel::Required), "");
    }

    #[test]
    fn syntax_is_checked_after_meaning_in_order_of_keys() {
        let labels = [("ok", "bad value!"), ("bad key!", "v"), (labels::ORIGIN, "mars")];
        let mut found = Violations::default();
        check(&meta(Kind::MeshTimeout, &labels), &Mode::Global, OriginLabel::Required, &mut found);
        let fields: Vec<_> = found.iter().map(|violation| violation.field.as_str()).collect();
        let origin = r#"labels["kuma.io/origin"]"#;
        assert_eq!(fields, [origin, origin, r#"labels["bad key!"]"#, r#"labels["ok"]"#]);
    }

    fn computed_for(kind: Kind, labels: &[(&str, &str)], mode: &Mode) -> String {
        let resource = Resource {
            meta: meta(kind, labels),
            ..Resource::new(Key::new(kind, "", ""), Labels::default(), Payload::default())
        };
        computed(&resource, mode).iter().map(|(key, value)| format!("{key}={value} ")).collect()
    }

    #[test]
    fn a_control_plane_adds_what_it_knows() {
        assert_eq!(computed_for(Kind::MeshTimeout, &[], &Mode::Global), "kuma.io/mesh=default ");
        assert_eq!(computed_for(Kind::Zone, &[], &Mode::Global), "");
        assert_eq!(computed_for(Kind::Mesh, &[], &zone(false)), "");
        assert_eq!(
            computed_for(Kind::MeshTimeout, &[(labels::ORIGIN, "zone"), ("team", "a")], &zone(true)),
            "kuma.io/env=universal kuma.io/mesh=default kuma.io/origin=zone kuma.io/zone=east team=a "
        );
        assert_eq!(
            computed_for(Kind::MeshTimeout, &[(labels::ORIGIN, "global")], &zone(true)),
            "kuma.io/mesh=default kuma.io/origin=global "
        );
        assert_eq!(
            computed_for(Kind::ZoneEgress, &[(labels::PROXY_TYPE, "sidecar"), (labels::ENV, "x")], &zone(true)),
            "kuma.io/env=x kuma.io/origin=zone kuma.io/proxy-type=zoneegress kuma.io/zone=east "
        );
    }

    #[test]
    fn only_a_builtin_gateway_is_a_gateway() {
        let labelled = |gateway: Option<GatewayType>| {
            let gateway = gateway.map(|r#type| Gateway { r#type: r#type.into(), ..Gateway::default() });
            let networking = Some(Networking { gateway, ..Networking::default() });
            let spec = Payload::from_message(&Dataplane { networking, ..Dataplane::default() });
            let resource = Resource::new(Key::new(Kind::Dataplane, "default", "dp"), Labels::default(), spec);
            computed(&resource, &Mode::Global).get(labels::PROXY_TYPE).map(str::to_owned)
        };
        assert_eq!(labelled(None).as_deref(), Some("sidecar"));
        assert_eq!(labelled(Some(GatewayType::Delegated)).as_deref(), Some("sidecar"));
        assert_eq!(labelled(Some(GatewayType::Builtin)).as_deref(), Some("gateway"));
    }

    #[test]
    fn who_owns_a_resource_cannot_change() {
        let stored: Labels = [(labels::ORIGIN, "global"), (labels::DISPLAY_NAME, "mt")].into_iter().collect();
        let mut found = Violations::default();
        check_unchanged(
            &stored,
            &Labels::default().with(labels::ORIGIN, "zone").with(labels::ZONE, "east"),
            &mut found,
        );
        assert_eq!(
            found.to_string(),
            "labels[\"kuma.io/origin\"]: is immutable, cannot be changed from \"global\" to \"zone\"; \
             labels[\"kuma.io/display-name\"]: is immutable, cannot be removed (was \"mt\")"
        );
    }

    #[test]
    fn a_workload_is_named_by_an_rfc_1035_label() {
        let fault = |kind, workload, mode: &Mode| workload_fault(&meta(kind, &[(labels::WORKLOAD, workload)]), mode);
        assert_eq!(fault(Kind::Dataplane, "web", &zone(true)), None);
        assert_eq!(fault(Kind::Dataplane, "", &Mode::Global), None);
        assert_eq!(fault(Kind::MeshTimeout, "Bad_Label", &zone(true)), None);
        let bad = fault(Kind::Dataplane, "Bad_Label", &zone(true)).unwrap();
        assert!(bad.starts_with(
            "labels[\"kuma.io/workload\"]: must be a valid DNS-1035 label (at most 63 characters, matching regex \
             [a-z]([-a-z0-9]*[a-z0-9])?): a DNS-1035 label must consist"
        ));
        assert_eq!(
            fault(Kind::Dataplane, "web", &Mode::Global).as_deref(),
            Some(r#"labels["kuma.io/workload"]: not allowed on Global control plane"#)
        );
    }

    #[test]
    fn what_has_no_origin_is_local() {
        let labels = |origin| Labels::default().with(labels::ORIGIN, origin);
        assert!(is_local(&Labels::default(), &Mode::Global) && is_local(&Labels::default(), &zone(true)));
        assert!(is_local(&labels("global"), &Mode::Global) && !is_local(&labels("zone"), &Mode::Global));
        assert!(!is_local(&labels("global"), &zone(true)) && is_local(&labels("zone"), &zone(false)));
    }
}
