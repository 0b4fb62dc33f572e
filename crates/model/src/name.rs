//! Names: what may be one (api-and-kumactl 1.5) and what a resource is called away from home (kds-wire 4.3).

use std::fmt;
use std::hash::Hasher as _;

use fnv::FnvHasher;

use crate::kind::Kind;
use crate::labels::{self, Labels};
use crate::resource::{Key, Meta};
use crate::syntax;

/// Longest name, in bytes.
const MAX_LEN: usize = 253;
/// Length of the suffix of a hashed name, `-` and 16 characters.
const SUFFIX_LEN: usize = 17;

/// Why a text cannot be the name of a resource, be it in a mesh or not.
pub fn check(name: &str) -> Option<&'static str> {
    check_length(name).or_else(|| {
        (!syntax::is_dns_1123_subdomain(name)).then_some(
            "invalid characters. A lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character",
        )
    })
}

/// Why a text cannot be the mesh of a resource; meshes of old may have `_` in their names.
pub fn check_mesh(mesh: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    check_length(mesh).or_else(|| {
        (!mesh.bytes().all(allowed)).then_some(
            "invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_', '.' symbols.",
        )
    })
}

fn check_length(name: &str) -> Option<&'static str> {
    match name.len() {
        0 => Some("cannot be empty"),
        1..=MAX_LEN => None,
        _ => Some("value length must less or equal 253"),
    }
}

/// Why a resource of a federated zone cannot have this name: the global may store it as `<zone>.<name>`.
pub fn check_on_global(zone: &str, name: &str) -> Option<&'static str> {
    (zone.len() + ".".len() + name.len() >= MAX_LEN).then_some("the length of the name must be shorter")
}

/// Why the display name is too long for the kind, beyond the limit of all names.
///
/// `creating`: whether the resource is new; a Mesh that exists keeps whatever name it has.
pub fn check_kind(kind: Kind, display_name: &str, creating: bool) -> Option<&'static str> {
    let len = display_name.len();
    match kind {
        Kind::Mesh if creating && len > 63 => Some("cannot be longer than 63 characters"),
        Kind::MeshService | Kind::MeshExternalService if len > 63 => Some("must not be longer than 63 characters"),
        Kind::Workload if len > MAX_LEN => Some("must not be longer than 253 characters"),
        _ => None,
    }
}

/// What to tell the author of a name that is accepted and yet no RFC 1035 label; only for kinds that become host names.
pub fn warning(kind: Kind, display_name: &str) -> Option<String> {
    let becomes_host_name = matches!(
        kind,
        Kind::Mesh | Kind::Zone | Kind::MeshService | Kind::MeshExternalService | Kind::MeshMultiZoneService
    );
    let faults = if becomes_host_name { syntax::dns_1035_label(display_name) } else { Vec::new() };
    (!faults.is_empty()).then(|| {
        format!(
            "Invalid {kind} resource name: '{display_name}'. It does not conform to the DNS format (RFC 1035). This \
             is deprecated. Errors: {}",
            faults.join("; ")
        )
    })
}

/// The name of a resource away from the control plane that owns it: display name, `-`, 16 characters.
///
/// Every control plane that knows mesh, display name, zone and namespace of a resource finds the same one.
pub fn hashed(meta: &Meta) -> String {
    let display_name = meta.display_name();
    let label = |key| meta.labels.get(key).unwrap_or_default();
    let mut hash = FnvHasher::default();
    for part in [&meta.key.mesh, display_name, label(labels::ZONE), label(labels::NAMESPACE)] {
        hash.write(part.as_bytes());
    }
    let kept = display_name.floor_char_boundary(MAX_LEN - SUFFIX_LEN);
    format!("{}-{}", &display_name[..kept], Suffix(hash.finish()))
}

/// 16 hexadecimal digits in letters that spell no words.
struct Suffix(u64);

impl fmt::Display for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digit `d` stands at the place of its ASCII code modulo 27 in an alphabet without vowels; 0 and f share one.
        const LETTERS: &[u8; 16] = b"456789bcdfvwxz24";
        (0..16).rev().try_for_each(|place| {
            let digit = usize::try_from(self.0 >> (4 * place) & 0xf).unwrap_or_default();
            write!(f, "{}", char::from(LETTERS[digit]))
        })
    }
}

/// The same resource under another name; the one it had becomes its display name unless it has one.
pub fn renamed(meta: &Meta, name: &str) -> Meta {
    let Key { kind, mesh, name: replaced } = &meta.key;
    let shown = meta.labels.get(labels::DISPLAY_NAME).is_some_and(|name| !name.is_empty());
    let labels: Labels = if shown { meta.labels.clone() } else { meta.labels.with(labels::DISPLAY_NAME, replaced) };
    Meta { key: Key { kind: *kind, mesh: mesh.clone(), name: name.into() }, labels, ..meta.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(mesh: &str, name: &str, labels: &[(&str, &str)]) -> Meta {
        let kind = if mesh.is_empty() { Kind::ZoneIngress } else { Kind::MeshTimeout };
        Meta::new(Key::new(kind, mesh, name), labels.iter().copied().collect())
    }

    #[test]
    fn a_name_is_a_subdomain_of_253_bytes_at_most() {
        assert_eq!(check("mesh-timeout-all.default-0"), None);
        assert_eq!(check(&"a".repeat(253)), None);
        assert_eq!(check(&"a".repeat(254)), Some("value length must less or equal 253"));
        assert_eq!(check(&"A".repeat(10_000)), Some("value length must less or equal 253"));
        assert_eq!(check(""), Some("cannot be empty"));
        for bad in ["Bad", "with_underscore", "a..b", "-a", "a\0b"] {
            assert!(check(bad).is_some_and(|reason| reason.starts_with("invalid characters. A lowercase")), "{bad}");
        }
    }

    #[test]
    fn a_mesh_may_have_an_underscore() {
        assert_eq!(check_mesh("old_mesh.-"), None);
        assert_eq!(check_mesh(""), Some("cannot be empty"));
        assert_eq!(check_mesh(&"m".repeat(254)), Some("value length must less or equal 253"));
        assert!(check_mesh("Mesh").is_some_and(|reason| reason.ends_with("'-', '_', '.' symbols.")));
    }

    #[test]
    fn kinds_have_limits_of_their_own() {
        let name = "n".repeat(64);
        assert_eq!(check_kind(Kind::Mesh, &name, true), Some("cannot be longer than 63 characters"));
        assert_eq!(check_kind(Kind::Mesh, &name, false), None);
        assert_eq!(check_kind(Kind::MeshService, &name, false), Some("must not be longer than 63 characters"));
        assert_eq!(check_kind(Kind::MeshExternalService, &name[..63], true), None);
        assert_eq!(check_kind(Kind::MeshMultiZoneService, &name, true), None);
        let longest = check_kind(Kind::Workload, &"w".repeat(254), true);
        assert_eq!(longest, Some("must not be longer than 253 characters"));
        assert_eq!(check_on_global("zone", &"n".repeat(248)), Some("the length of the name must be shorter"));
        assert_eq!(check_on_global("zone", &"n".repeat(247)), None);
    }

    #[test]
    fn a_name_that_no_host_can_have_is_warned_about() {
        assert_eq!(warning(Kind::Mesh, "my-mesh"), None);
        assert_eq!(warning(Kind::MeshTimeout, "z.z"), None);
        assert_eq!(
            warning(Kind::Zone, "z.z").as_deref(),
            Some(
                "Invalid Zone resource name: 'z.z'. It does not conform to the DNS format (RFC 1035). This is \
                 deprecated. Errors: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
                 with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
                 regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            )
        );
        let both = warning(Kind::MeshMultiZoneService, &"1".repeat(64)).unwrap();
        assert!(both.contains("Errors: must be no more than 63 characters; a DNS-1035 label"), "{both}");
    }

    /// KDS-43: every vector of kds-wire 4.3.
    #[test]
    fn hashed_names_are_those_of_the_reference() {
        let zone = |zone| (labels::ZONE, zone);
        let namespace = |namespace| (labels::NAMESPACE, namespace);
        let long = "x".repeat(300);
        let long_hashed = format!("{}-d4czwd656dzfvxc2", &long[..236]);
        type Vector<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);
        let vectors: &[Vector<'_>] = &[
            ("default", "redis-zone-1", &[zone("zone-1")], "redis-zone-1-2v6wfvvcvbc9f55d"),
            ("default", "redis-zone-2", &[zone("zone-2")], "redis-zone-2-ff29vc4685c6f594"),
            ("default", "default-timeout-global", &[], "default-timeout-global-54dbd4c66zwbcf9c"),
            ("default", "default-timeout-zone-1", &[zone("zone-1")], "default-timeout-zone-1-c58w24w4vw27f454"),
            (
                "default",
                "mesh-circuit-breaker-all-default",
                &[zone("kuma-2"), namespace("kuma-system")],
                "mesh-circuit-breaker-all-default-zw856xvxdb7558d9",
            ),
            ("", "ingress", &[zone("zone-1")], "ingress-b5cdx6b4b7wxzc4d"),
            ("default", "backend", &[zone("east"), namespace("app-ns")], "backend-wxcwb447454bvfb6"),
            ("default", "backend", &[zone("east")], "backend-d2622w4zxzdb6cfw"),
            ("default", &long, &[], &long_hashed),
        ];
        for (mesh, name, labels, expected) in vectors {
            assert_eq!(hashed(&meta(mesh, name, labels)), *expected);
        }
    }

    /// KDS-43: the copy of a copy is called like the copy.
    #[test]
    fn a_resource_has_one_name_everywhere_outside_its_origin() {
        let original = meta("default", "backend", &[(labels::ZONE, "east")]);
        let copy = renamed(&original, &hashed(&original));
        assert_eq!(copy.labels.get(labels::DISPLAY_NAME), Some("backend"));
        assert_eq!(&*copy.key.name, "backend-d2622w4zxzdb6cfw");
        assert_eq!(renamed(&copy, &hashed(&copy)), copy);
    }

    #[test]
    fn an_empty_display_name_is_none() {
        let meta = meta("default", "a", &[(labels::DISPLAY_NAME, "")]);
        assert_eq!(renamed(&meta, "b").labels.get(labels::DISPLAY_NAME), Some("a"));
        let cut = hashed(&self::meta("default", &"\u{e9}".repeat(200), &[]));
        assert!(cut.len() <= MAX_LEN, "a name is cut between characters");
    }
}
