//! The names in certificates of workloads: `spiffe://` and `kuma://` (zone-dataplane 3.3, 3.8).

use std::collections::{BTreeMap, BTreeSet};

use model::labels::SERVICE_TAG;

/// The scheme of SPIFFE.
const SPIFFE: &str = "spiffe://";

/// Why a workload cannot be named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The mesh, or a template, gives no trust domain.
    #[error(
        "{0:?} is no SPIFFE trust domain: it may have lower-case letters, digits, \".\", \"-\" and \"_\", and must not be empty"
    )]
    TrustDomain(String),
    /// The service, or a template, gives no path.
    #[error(
        "{0:?} cannot be part of a SPIFFE ID: a segment may have letters, digits, \".\", \"-\" and \"_\", and must not be empty, \".\" or \"..\""
    )]
    Segment(String),
}

/// The names of a workload with these tags, in the order of its certificate: a `spiffe://<mesh>/<service>` for each
/// service, then a `kuma://<tag>/<value>` for each value of each tag; both sorted.
///
/// # Errors
/// The mesh is no trust domain, or a service no segment of a path.
pub fn of_tags(mesh: &str, tags: &BTreeMap<String, BTreeSet<String>>) -> Result<Vec<String>, NameError> {
    check_trust_domain(mesh)?;
    let mut names = Vec::new();
    for service in tags.get(SERVICE_TAG).into_iter().flatten() {
        check_segment(service)?;
        names.push(format!("{SPIFFE}{mesh}/{service}"));
    }
    let values = tags.iter().flat_map(|(tag, values)| values.iter().map(move |value| (tag, value)));
    names.extend(values.map(|(tag, value)| format!("kuma://{tag}/{value}")));
    Ok(names)
}

/// A SPIFFE ID of a trust domain and a path that begins with `/`, or is empty.
///
/// # Errors
/// One of them cannot be part of a SPIFFE ID.
pub fn spiffe_id(trust_domain: &str, path: &str) -> Result<String, NameError> {
    check_trust_domain(trust_domain)?;
    if !path.is_empty() {
        let segments = path.strip_prefix('/').ok_or_else(|| NameError::Segment(path.to_owned()))?;
        segments.split('/').try_for_each(check_segment)?;
    }
    Ok(format!("{SPIFFE}{trust_domain}{path}"))
}

fn check_trust_domain(name: &str) -> Result<(), NameError> {
    let fits = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
    if !name.is_empty() && name.chars().all(fits) { Ok(()) } else { Err(NameError::TrustDomain(name.to_owned())) }
}

fn check_segment(segment: &str) -> Result<(), NameError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let good = !["", ".", ".."].contains(&segment) && segment.chars().all(fits);
    if good { Ok(()) } else { Err(NameError::Segment(segment.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        let values = |values: &&[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        pairs.iter().map(|(key, given)| ((*key).to_owned(), values(given))).collect()
    }

    /// DP-18.
    #[test]
    fn services_come_before_tags_and_both_are_sorted() {
        let tags = tags(&[
            ("version", &["v2", "v1"]),
            ("kuma.io/service", &["web", "api"]),
            ("kuma.io/zone", &["east"]),
            ("kuma.io/protocol", &["http"]),
        ]);
        let names = of_tags("default", &tags).unwrap();
        assert_eq!(
            names,
            [
                "spiffe://default/api",
                "spiffe://default/web",
                "kuma://kuma.io/protocol/http",
                "kuma://kuma.io/service/api",
                "kuma://kuma.io/service/web",
                "kuma://kuma.io/zone/east",
                "kuma://version/v1",
                "kuma://version/v2",
            ]
        );
    }

    #[test]
    fn what_spiffe_does_not_take_is_named() {
        let of = |mesh: &str, service: &str| of_tags(mesh, &tags(&[("kuma.io/service", &[service])]));
        assert_eq!(of("Default", "web"), Err(NameError::TrustDomain("Default".to_owned())));
        for service in ["a:b", "", "..", "a b", "ä"] {
            assert_eq!(of("default", service), Err(NameError::Segment(service.to_owned())));
        }
        assert!(of("my-mesh_1.x", "A.b-c_d").is_ok());
    }

    #[test]
    fn a_spiffe_id_has_clean_segments() {
        assert_eq!(spiffe_id("d.east.mesh.local", "/workload/web").unwrap(), "spiffe://d.east.mesh.local/workload/web");
        assert_eq!(spiffe_id("d", "").unwrap(), "spiffe://d");
        for path in ["/", "/a/", "/a//b", "a", "/../a", "/a?b"] {
            assert!(spiffe_id("d", path).is_err(), "{path}");
        }
    }
}
