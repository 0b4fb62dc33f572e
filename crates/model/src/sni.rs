//! Server names that steer connections between zones (zone-dataplane 4.1, 4.2).
//!
//! A service of old is named by its tags, [`Legacy`]; a MeshService and its siblings by a hash, [`Hashed`]. Names match as
//! wholes, ASCII case aside.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher as _;
use std::str::FromStr;

use fnv::FnvHasher;

use crate::kind::Kind;
use crate::labels;
use crate::resource::Meta;

/// Key of the pair that names the mesh; literally this, not the label's `kuma.io/mesh`.
const MESH_KEY: &str = "mesh";

/// A server name of either family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sni {
    /// Of a service known by its tags.
    Legacy(Legacy),
    /// Of a MeshService, MeshExternalService or MeshMultiZoneService.
    Hashed(Hashed),
}

impl fmt::Display for Sni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy(sni) => sni.fmt(f),
            Self::Hashed(sni) => sni.fmt(f),
        }
    }
}

/// Text that is no server name of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse tags from sni: {sni}: {reason}")]
pub struct SniError {
    sni: String,
    reason: &'static str,
}

impl FromStr for Sni {
    type Err = SniError;

    /// What has the shape of a hashed name is one; everything else is a service with or without tags.
    fn from_str(sni: &str) -> Result<Self, SniError> {
        match Hashed::parse(sni) {
            Some(hashed) => Ok(Self::Hashed(hashed)),
            None => Legacy::parse(sni).map(Self::Legacy).map_err(|reason| SniError { sni: sni.to_owned(), reason }),
        }
    }
}

/// `service{k1=v1,k2=v2}`: a service, and the tags that part its instances, in byte order of their keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Legacy {
    /// Value of the tag `kuma.io/service`.
    pub service: String,
    /// The other tags, and the mesh under the key `mesh`.
    pub tags: BTreeMap<String, String>,
}

impl Legacy {
    /// The name of a destination in a mesh, from all its tags.
    pub fn of<'a>(tags: impl IntoIterator<Item = (&'a str, &'a str)>, mesh: &str) -> Self {
        let mut tags: BTreeMap<String, String> =
            tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        tags.insert(MESH_KEY.to_owned(), mesh.to_owned());
        let service = tags.remove(labels::SERVICE_TAG).unwrap_or_default();
        Self { service, tags }
    }

    /// The mesh, which every name on the wire has.
    pub fn mesh(&self) -> Option<&str> {
        self.tags.get(MESH_KEY).map(String::as_str)
    }

    fn parse(sni: &str) -> Result<Self, &'static str> {
        let Some((service, rest)) = sni.split_once('{') else {
            return Ok(Self { service: sni.to_owned(), tags: BTreeMap::new() });
        };
        let pairs = rest.strip_suffix('}').ok_or("the tags must end with '}'")?;
        if pairs.contains(['{', '}']) {
            return Err("there can be one '{' and one '}'");
        }
        let pair = |pair: &str| match pair.split_once('=') {
            Some((key, value)) if !value.contains('=') => Ok((key.to_owned(), value.to_owned())),
            _ => Err("tags must be pairs key=value separated by ','"),
        };
        Ok(Self { service: service.to_owned(), tags: pairs.split(',').map(pair).collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for Legacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.service)?;
        if self.tags.is_empty() { Ok(()) } else { write!(f, "{{{}}}", Pairs(&self.tags)) }
    }
}

/// `k1=v1,k2=v2`.
struct Pairs<'a>(&'a BTreeMap<String, String>);

impl fmt::Display for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (key, value)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "," };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

/// The kinds that a hashed name can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// `ms`
    MeshService,
    /// `mes`
    MeshExternalService,
    /// `mzms`
    MeshMultiZoneService,
}

impl Destination {
    const ALL: [Self; 3] = [Self::MeshService, Self::MeshExternalService, Self::MeshMultiZoneService];

    /// The kind that is meant.
    pub const fn kind(self) -> Kind {
        match self {
            Self::MeshService => Kind::MeshService,
            Self::MeshExternalService => Kind::MeshExternalService,
            Self::MeshMultiZoneService => Kind::MeshMultiZoneService,
        }
    }

    /// The destinations of a kind; `None` when it is not called by name.
    pub fn of(kind: Kind) -> Option<Self> {
        Self::ALL.into_iter().find(|destination| destination.kind() == kind)
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::MeshService => "ms",
            Self::MeshExternalService => "mes",
            Self::MeshMultiZoneService => "mzms",
        }
    }
}

/// `a<hash>.<name>.<port>.<mesh>.<kind>`: the hash, of 16 hexadecimal digits, decides; the rest is for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hashed {
    /// FNV-1a of name, mesh and extra data, uncut.
    pub hash: u64,
    /// The name, after 62 bytes cut and ended with `x`; it may contain dots.
    pub name: String,
    /// Port of the destination.
    pub port: u16,
    /// The mesh, cut like the name.
    pub mesh: String,
    /// What is called.
    pub destination: Destination,
}

impl Hashed {
    /// The name of a port of a destination.
    ///
    /// `name` is what [`destination_name`] gives, never a hashed resource name. `extra` is empty in all that 2.13 makes.
    pub fn new(destination: Destination, name: &str, mesh: &str, port: u16, extra: &BTreeMap<String, String>) -> Self {
        let hash = hash(name, mesh, &Pairs(extra).to_string());
        Self { hash, name: cut(name), port, mesh: cut(mesh), destination }
    }

    /// The name of a port of a resource; `None` when its kind is not called by name.
    pub fn of(meta: &Meta, port: u16, system_namespace: Option<&str>) -> Option<Self> {
        let destination = Destination::of(meta.key.kind)?;
        let name = destination_name(meta, system_namespace);
        Some(Self::new(destination, &name, &meta.key.mesh, port, &BTreeMap::new()))
    }

    fn parse(sni: &str) -> Option<Self> {
        let (hash, rest) = sni.strip_prefix('a')?.split_once('.')?;
        let lower_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if hash.len() != 16 || !hash.bytes().all(lower_hex) {
            return None;
        }
        let hash = u64::from_str_radix(hash, 16).ok()?;
        let (rest, suffix) = rest.rsplit_once('.')?;
        let destination = Destination::ALL.into_iter().find(|destination| destination.suffix() == suffix)?;
        let (name, port, mesh) = split_parts(rest, hash)?;
        Some(Self { hash, name: name.to_owned(), port, mesh: mesh.to_owned(), destination })
    }
}

/// Parts `<name>.<port>.<mesh>`. Name and mesh may have pieces that look like a port: the hash tells which it is, and
/// when name or mesh are cut, so that it cannot, the last piece that can be the port is taken for it.
fn split_parts(parts: &str, sni_hash: u64) -> Option<(&str, u16, &str)> {
    let splits = parts.rmatch_indices('.').filter_map(|(dot, _)| {
        let (name, rest) = (&parts[..dot], &parts[dot + 1..]);
        let (digits, mesh) = rest.split_once('.')?;
        let port = digits.parse::<u16>().ok().filter(|port| port.to_string() == digits)?;
        (!name.is_empty() && !mesh.is_empty()).then_some((name, port, mesh))
    });
    // Names have at most 253 bytes; what comes from a network may have thousands of dots.
    let splits: Vec<_> = splits.take(64).collect();
    let exact = splits.iter().find(|(name, _, mesh)| hash(name, mesh, "") == sni_hash);
    exact.or(splits.first()).copied()
}

fn hash(name: &str, mesh: &str, extra: &str) -> u64 {
    let mut hash = FnvHasher::default();
    for part in [name, ";", mesh, ";", extra] {
        hash.write(part.as_bytes());
    }
    hash.finish()
}

/// A label of DNS has 63 bytes at most.
fn cut(text: &str) -> String {
    let kept = &text[..text.floor_char_boundary(62)];
    if kept.len() == text.len() { text.to_owned() } else { format!("{kept}x") }
}

impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, name, port, mesh, destination } = self;
        write!(f, "a{hash:016x}.{name}.{port}.{mesh}.{}", destination.suffix())
    }
}

/// The name of a destination that goes into its server name, equal in the zone that has it and in those that call it.
///
/// `system_namespace`: that of the control plane which computes it, when it runs on Kubernetes.
pub fn destination_name(meta: &Meta, system_namespace: Option<&str>) -> String {
    if meta.key.kind != Kind::MeshService {
        return meta.display_name().to_owned();
    }
    let origin = meta.labels.get(labels::ORIGIN);
    let namespace = meta.labels.get(labels::NAMESPACE).filter(|namespace| !namespace.is_empty());
    let (name, namespace) = match system_namespace {
        _ if origin == Some(labels::ORIGIN_GLOBAL) => {
            (meta.display_name(), namespace.filter(|namespace| Some(*namespace) != system_namespace))
        }
        None => (&*meta.key.name, namespace.filter(|_| origin == Some(labels::ORIGIN_ZONE))),
        // The name of a resource on Kubernetes has its namespace already.
        Some(_) => (&*meta.key.name, None),
    };
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{name}.{namespace}"))
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::resource::Key;

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// Every vector of zone-dataplane 4.1.
    #[test]
    fn legacy_names_are_those_of_the_reference() {
        let sni = |service, more: &[(&'static str, &'static str)]| {
            Legacy::of([(labels::SERVICE_TAG, service)].into_iter().chain(more.iter().copied()), "default").to_string()
        };
        assert_eq!(sni("backend", &[]), "backend{mesh=default}");
        assert_eq!(sni("backend", &[("version", "v1")]), "backend{mesh=default,version=v1}");
        assert_eq!(sni("backend", &[(labels::ZONE, "zone-2")]), "backend{kuma.io/zone=zone-2,mesh=default}");
        assert_eq!(sni("web_demo_svc_8080", &[]), "web_demo_svc_8080{mesh=default}");
    }

    #[test]
    fn a_service_without_tags_has_no_braces() {
        let parsed: Sni = "backend".parse().unwrap();
        assert_eq!(parsed, Sni::Legacy(Legacy { service: "backend".into(), tags: BTreeMap::new() }));
        assert_eq!(parsed.to_string(), "backend");
    }

    #[test]
    fn broken_tags_are_refused() {
        for bad in ["a{", "a{}", "a{b}", "a{b=c", "a{b=c}d", "a{b=c}{d=e}", "a{b=c=d}", "a{b=c,}", "a{b=c{d=e}", "{"] {
            let error = bad.parse::<Sni>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot parse tags from sni: {bad}: ")), "{error}");
        }
    }

    /// Every vector of zone-dataplane 4.2.
    #[test]
    fn hashed_names_are_those_of_the_reference() {
        use Destination::{MeshExternalService, MeshMultiZoneService, MeshService};
        let (a, b) = ("a".repeat(62), "b".repeat(62));
        let (long_a, long_b) = (format!("{a}-qwe"), format!("{b}-qwe"));
        let with_extra = format!("a5b91d8a08567bf09.{a}x.8080.{b}x.ms");
        let without_extra = format!("ae4bfc518c8470f21.{a}x.8080.{b}x.ms");
        type Vector<'a> = (&'a str, &'a str, u16, Destination, &'a [(&'a str, &'a str)], &'a str);
        let vectors: &[Vector<'_>] = &[
            ("backend", "demo", 8080, MeshService, &[], "ae10a8071b8a8eeb8.backend.8080.demo.ms"),
            ("backend", "demo", 8080, MeshService, &[("x", "a")], "a333a125865a97632.backend.8080.demo.ms"),
            ("backend", "demo", 8080, MeshMultiZoneService, &[], "ae10a8071b8a8eeb8.backend.8080.demo.mzms"),
            ("backend", "default", 80, MeshService, &[], "a601e0c00295a9fbe.backend.80.default.ms"),
            ("backend2", "default", 80, MeshService, &[], "aec60634adf0f45d6.backend2.80.default.ms"),
            ("demo-app", "default", 3000, MeshService, &[], "a9423db095534246b.demo-app.3000.default.ms"),
            (
                "demo-app.kuma-demo",
                "default",
                3000,
                MeshService,
                &[],
                "ab482c652da4f223b.demo-app.kuma-demo.3000.default.ms",
            ),
            (
                "meshexternalservice-1",
                "mesh-1",
                9090,
                MeshExternalService,
                &[],
                "a45e197ed7825551b.meshexternalservice-1.9090.mesh-1.mes",
            ),
            (&long_a, &long_b, 8080, MeshService, &[("x", "a")], &with_extra),
            (&long_a, &long_b, 8080, MeshService, &[], &without_extra),
        ];
        for (name, mesh, port, destination, extra, expected) in vectors {
            let hashed = Hashed::new(*destination, name, mesh, *port, &tags(extra));
            assert_eq!(hashed.to_string(), *expected);
            assert_eq!(expected.parse(), Ok(Sni::Hashed(hashed)));
        }
    }

    #[test]
    fn only_the_exact_shape_is_a_hashed_name() {
        for other in [
            "be10a8071b8a8eeb8.backend.8080.demo.ms",
            "aE10A8071B8A8EEB8.backend.8080.demo.ms",
            "ae10a8071b8a8eeb.backend.8080.demo.ms",
            "a+10a8071b8a8eeb8.backend.8080.demo.ms",
            "ae10a8071b8a8eeb8.backend.8080.demo.svc",
            "ae10a8071b8a8eeb8.backend.080.demo.ms",
            "ae10a8071b8a8eeb8.backend.99999.demo.ms",
            "ae10a8071b8a8eeb8.8080.demo.ms",
            "ae10a8071b8a8eeb8.backend.8080.ms",
        ] {
            assert!(matches!(other.parse(), Ok(Sni::Legacy(_))), "{other}");
        }
    }

    #[test]
    fn the_hash_tells_which_piece_is_the_port() {
        let hashed = Hashed::new(Destination::MeshService, "web.80", "1.mesh", 8080, &BTreeMap::new());
        assert_eq!(hashed.to_string().parse(), Ok(Sni::Hashed(hashed)));
    }

    fn service(origin: &str, namespace: &str, name: &str, display_name: &str) -> Meta {
        let labels = [(labels::ORIGIN, origin), (labels::NAMESPACE, namespace), (labels::DISPLAY_NAME, display_name)];
        Meta::new(
            Key::new(Kind::MeshService, "default", name),
            labels.into_iter().filter(|(_, v)| !v.is_empty()).collect(),
        )
    }

    /// The table of zone-dataplane 4.2: which name is fed in.
    #[test]
    fn both_ends_feed_in_the_same_name() {
        let (universal, kubernetes) = (None, Some("kuma-system"));
        let name = destination_name;

        let synced = service("global", "", "backend-d2622w4zxzdb6cfw", "backend");
        assert_eq!((name(&synced, universal).as_str(), name(&synced, kubernetes).as_str()), ("backend", "backend"));
        let synced = service("global", "demo", "web-x", "web");
        assert_eq!((name(&synced, universal).as_str(), name(&synced, kubernetes).as_str()), ("web.demo", "web.demo"));
        let synced = service("global", "kuma-system", "backend-x.kuma-system", "backend");
        assert_eq!(name(&synced, kubernetes), "backend");
        assert_eq!(name(&synced, universal), "backend.kuma-system");

        assert_eq!(name(&service("zone", "demo", "web", ""), universal), "web.demo");
        assert_eq!(name(&service("", "demo", "web", ""), universal), "web");
        assert_eq!(name(&service("zone", "", "web", "other"), universal), "web");
        assert_eq!(name(&service("zone", "demo", "web.demo", "web"), kubernetes), "web.demo");

        let mut multi_zone = service("global", "demo", "mzs-x", "mzs");
        multi_zone.key = Key::new(Kind::MeshMultiZoneService, "default", "mzs-x");
        assert_eq!(name(&multi_zone, universal), "mzs");
        let sni = Hashed::of(&multi_zone, 80, universal).unwrap();
        assert_eq!((sni.name.as_str(), sni.destination), ("mzs", Destination::MeshMultiZoneService));
        multi_zone.key = Key::new(Kind::MeshTimeout, "default", "mt");
        assert_eq!(Hashed::of(&multi_zone, 80, universal), None);
    }

    proptest! {
        #[test]
        fn a_legacy_name_reads_back(
            service in "[a-zA-Z0-9.\\-_:]{1,20}",
            tags in btree_map("[a-zA-Z0-9.\\-_:/]{1,12}", "[a-zA-Z0-9.\\-_:]{0,12}", 0..5),
            mesh in "[a-z0-9][-a-z0-9.]{0,10}",
        ) {
            let pairs = tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let sni = Legacy::of(pairs.chain([(labels::SERVICE_TAG, service.as_str())]), &mesh);
            prop_assert_eq!(sni.mesh(), Some(mesh.as_str()));
            prop_assert_eq!(sni.to_string().parse(), Ok(Sni::Legacy(sni)));
        }

        #[test]
        fn a_hashed_name_reads_back(
            name in "[a-z0-9]{1,30}([-.][a-z0-9]{1,30}){0,2}",
            mesh in "[a-z][-a-z0-9]{0,70}",
            port in 1..=u16::MAX,
            destination in proptest::sample::select(&Destination::ALL[..]),
        ) {
            let sni = Hashed::new(destination, &name, &mesh, port, &BTreeMap::new());
            prop_assert!(sni.to_string().len() <= 156);
            prop_assert_eq!(sni.to_string().parse(), Ok(Sni::Hashed(sni)));
        }

        #[test]
        fn any_text_is_a_name_or_an_error(text in "(a[0-9a-f]{16}\\.)?[a-z0-9.{}=,\u{e9}]{0,60}") {
            if let Ok(sni) = text.parse::<Sni>() {
                prop_assert_eq!(sni.to_string().parse(), Ok(sni));
            }
        }
    }
}
