//! The one table of kinds. Nothing else in the workspace lists them.
//!
//! Sources: api-and-kumactl 1.6, 2.2, 2.6, 3.30 and kds-wire 3.7, 4.1. A new kind is a row here and a file in
//! [`crate::spec`].

use std::fmt;
use std::str::FromStr;

use kds_proto::kuma::mesh::v1alpha1 as mesh;
use kds_proto::kuma::system::v1alpha1 as system;

use crate::spec::{self, Codec};

/// Whether resources of a kind live in a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One for the whole system.
    Global,
    /// In a mesh.
    Mesh,
}

/// Who provides a kind and where it goes: Kuma's flag set (kds-wire 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync(u8);

impl Sync {
    const TO_ZONE: u8 = 1;
    const TO_GLOBAL: u8 = 4;
    const BY_ZONE: u8 = 8;
    const BY_GLOBAL: u8 = 16;
    const ACROSS_ZONES: u8 = 32;

    /// Flags 17: made on the global, sent to every zone.
    const DOWN: Self = Self(Self::TO_ZONE | Self::BY_GLOBAL);
    /// Flags 12: made in a zone, sent to the global.
    const UP: Self = Self(Self::TO_GLOBAL | Self::BY_ZONE);
    /// Flags 44: made in a zone, sent to the global and on to the other zones.
    const UP_AND_ACROSS: Self = Self(Self::UP.0 | Self::ACROSS_ZONES);
    /// Flags 25: made on either side, sent to zones only.
    const DOWN_OR_OWN: Self = Self(Self::DOWN.0 | Self::BY_ZONE);
    /// Flags 29: made on either side, sent to the other.
    const BOTH: Self = Self(Self::DOWN.0 | Self::UP.0);
    /// Flags 61: made on either side, sent to the other and on to the other zones.
    const BOTH_AND_ACROSS: Self = Self(Self::BOTH.0 | Self::ACROSS_ZONES);
    /// Flags 24: each side has its own.
    const NEVER: Self = Self(Self::BY_ZONE | Self::BY_GLOBAL);
    /// Flags 16: the global's own.
    const GLOBAL_ALONE: Self = Self(Self::BY_GLOBAL);

    /// Whether the global sends it to zones, be it its own or another zone's.
    pub const fn global_to_zone(self) -> bool {
        self.0 & Self::DOWN.0 == Self::DOWN.0 || self.across_zones()
    }

    /// Whether zones send it to the global.
    pub const fn zone_to_global(self) -> bool {
        self.0 & Self::UP.0 == Self::UP.0
    }

    /// Whether the global passes a zone's resource on to the other zones.
    pub const fn across_zones(self) -> bool {
        self.0 & Self::ACROSS_ZONES != 0
    }

    /// Whether a zone may make one.
    pub const fn provided_by_zone(self) -> bool {
        self.0 & Self::BY_ZONE != 0
    }

    /// Whether the global may make one.
    pub const fn provided_by_global(self) -> bool {
        self.0 & Self::BY_GLOBAL != 0
    }

    /// The numeric flag set of the reference.
    pub const fn flags(self) -> u8 {
        self.0
    }
}

/// What a policy can select with (api-and-kumactl 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// Selects proxies with a `targetRef`; the older ones select with tags.
    pub target_ref: bool,
    /// Has `from`.
    pub from: bool,
    /// Has `to`.
    pub to: bool,
    /// `from` may be written as `rules`.
    pub from_as_rules: bool,
}

/// Who may use a kind through the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever may write.
    Users,
    /// Admins alone, to read as well.
    Admins,
    /// Written by control planes, read by everybody.
    ControlPlanes,
    /// Never in the API.
    Hidden,
}

/// One row of the table.
#[derive(Debug)]
pub struct Info {
    /// `MeshTimeout`: the `type` of documents and the `type_url` of KDS.
    pub name: &'static str,
    /// Global or in a mesh.
    pub scope: Scope,
    /// Last segment of the REST collection, `meshtimeouts`; empty when there is none.
    pub path: &'static str,
    /// Other spellings of the collection.
    pub path_aliases: &'static [&'static str],
    /// What `kumactl get` calls one; the first is the usual one.
    pub singular: &'static [&'static str],
    /// What `kumactl get` calls many; the first is the usual one.
    pub plural: &'static [&'static str],
    /// Short name in a KRI, `mt`.
    pub short_name: Option<&'static str>,
    /// Who provides it and where it goes.
    pub sync: Sync,
    /// Whether it keeps its name when it crosses from global to zone.
    pub plain_name: bool,
    /// Set for policies.
    pub policy: Option<Policy>,
    /// Whether it can be switched off by configuration (every JSON kind).
    pub plugin: bool,
    /// The status of a resource nobody has looked at, JSON; `None` for kinds without status (kds-wire 3.7).
    pub status: Option<&'static str>,
    /// Who may use it.
    pub access: Access,
    /// Whether `kumactl export --profile federation` takes it.
    pub in_federation: bool,
    /// The kind that tells how resources of this kind fare, and the older path of both together.
    pub insight: Option<(Kind, &'static str)>,
    /// How its content is read, written and checked.
    pub codec: Codec,
}

impl Info {
    const fn new(path: &'static str, codec: Codec, sync: Sync) -> Self {
        Self {
            name: "",
            scope: Scope::Mesh,
            path,
            path_aliases: &[],
            singular: &[],
            plural: &[],
            short_name: None,
            sync,
            plain_name: false,
            policy: None,
            plugin: codec.schema.is_some(),
            status: None,
            access: Access::Users,
            in_federation: true,
            insight: None,
            codec,
        }
    }

    /// A policy with `targetRef`.
    const fn policy(path: &'static str, short: &'static str, codec: Codec, policy: Policy) -> Self {
        Self { policy: Some(policy), short_name: Some(short), ..Self::new(path, codec, Sync::BOTH_AND_ACROSS) }
    }

    /// A policy that selects with tags.
    const fn tag_policy(path: &'static str, codec: Codec) -> Self {
        let policy = Policy { target_ref: false, from: false, to: false, from_as_rules: false };
        Self { policy: Some(policy), ..Self::new(path, codec, Sync::DOWN) }
    }

    const fn insight_kind(path: &'static str, codec: Codec, sync: Sync) -> Self {
        Self { access: Access::ControlPlanes, in_federation: false, ..Self::new(path, codec, sync) }
    }

    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    const fn cli(self, singular: &'static [&'static str], plural: &'static [&'static str]) -> Self {
        Self { singular, plural, ..self }
    }

    const fn short(self, short_name: &'static str) -> Self {
        Self { short_name: Some(short_name), ..self }
    }

    const fn global(self) -> Self {
        Self { scope: Scope::Global, ..self }
    }

    const fn alias(self, path_aliases: &'static [&'static str]) -> Self {
        Self { path_aliases, ..self }
    }

    const fn plain(self) -> Self {
        Self { plain_name: true, ..self }
    }

    const fn with_status(self, zero: &'static str) -> Self {
        Self { status: Some(zero), ..self }
    }

    const fn access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    const fn stays_home(self) -> Self {
        Self { in_federation: false, ..self }
    }

    const fn seen_by(self, insight: Kind, legacy_overview: &'static str) -> Self {
        Self { insight: Some((insight, legacy_overview)), ..self }
    }

    /// The kind's name as prose, `Mesh HTTP Route`.
    pub fn display_name(&self) -> String {
        let letters: Vec<char> = self.name.chars().collect();
        let mut words = String::new();
        for (at, letter) in letters.iter().enumerate() {
            let after_small = at > 0 && letters[at - 1].is_lowercase();
            let before_small = at > 0 && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
            if letter.is_uppercase() && (after_small || before_small) {
                words.push(' ');
            }
            words.push(*letter);
        }
        words
    }

    /// The display name of many, `Mesh HTTP Routes`.
    pub fn plural_display_name(&self) -> String {
        let one = self.display_name();
        let is_vowel = |letter: char| "aeiou".contains(letter);
        match one.strip_suffix('y') {
            Some(stem) if !stem.ends_with(is_vowel) => format!("{stem}ies"),
            _ if ["s", "S", "sh", "ch"].iter().any(|hiss| one.ends_with(hiss)) => format!("{one}es"),
            _ => format!("{one}s"),
        }
    }
}

const FROM_AND_TO: Policy = Policy { target_ref: true, from: true, to: true, from_as_rules: true };
const TO: Policy = Policy { target_ref: true, from: false, to: true, from_as_rules: false };
const WHOLE_PROXY: Policy = Policy { target_ref: true, from: false, to: false, from_as_rules: false };

macro_rules! kinds {
    ($($kind:ident => $info:expr,)*) => {
        /// A kind of resource.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $(
                #[doc = concat!("`", stringify!($kind), "`")]
                $kind,
            )*
        }

        /// The rows, in the order of [`Kind`], which is that of their names.
        static TABLE: &[Info] = &[$($info.named(stringify!($kind)),)*];

        impl Kind {
            /// Every kind, by name.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind,)*];
        }
    };
}

kinds! {
    CircuitBreaker => Info::tag_policy("circuit-breakers", Codec::proto::<mesh::CircuitBreaker>())
        .cli(&["circuit-breaker"], &["circuit-breakers"]),
    Config => Info::new("", Codec::proto::<system::Config>(), Sync::DOWN_OR_OWN)
        .global().plain().access(Access::Hidden).stays_home(),
    Dataplane => Info::new("dataplanes", Codec::proto::<mesh::Dataplane>(), Sync::UP)
        .cli(&["dataplane"], &["dataplanes"]).short("dp").stays_home()
        .seen_by(Kind::DataplaneInsight, "dataplanes+insights"),
    DataplaneInsight => Info::insight_kind("dataplane-insights", Codec::proto::<mesh::DataplaneInsight>(), Sync::UP),
    ExternalService => Info::new("external-services", Codec::proto::<mesh::ExternalService>(), Sync::DOWN)
        .cli(&["external-service"], &["external-services"]),
    FaultInjection => Info::tag_policy("fault-injections", Codec::proto::<mesh::FaultInjection>())
        .cli(&["fault-injection"], &["fault-injections"]),
    GlobalSecret => Info::new("globalsecrets", Codec::proto::<system::Secret>(), Sync::DOWN_OR_OWN)
        .cli(&["global-secret", "globalsecret"], &["global-secrets", "globalsecrets"])
        .alias(&["global-secrets"]).global().plain().access(Access::Admins),
    HealthCheck => Info::tag_policy("health-checks", Codec::proto::<mesh::HealthCheck>())
        .cli(&["healthcheck"], &["healthchecks"]),
    HostnameGenerator => Info::new("hostnamegenerators", Codec::json::<spec::HostnameGenerator>(), Sync::BOTH)
        .cli(&["hostnamegenerator"], &["hostnamegenerators"]).short("hg").global(),
    Mesh => Info::new("meshes", Codec::proto::<mesh::Mesh>(), Sync::DOWN)
        .cli(&["mesh"], &["meshes"]).short("m").global().plain(),
    MeshAccessLog => Info::policy("meshaccesslogs", "mal", Codec::json::<spec::MeshAccessLog>(), FROM_AND_TO)
        .cli(&["meshaccesslog"], &["meshaccesslogs"]),
    MeshCircuitBreaker => Info::policy("meshcircuitbreakers", "mcb", Codec::json::<spec::MeshCircuitBreaker>(), FROM_AND_TO)
        .cli(&["meshcircuitbreaker"], &["meshcircuitbreakers"]),
    MeshExternalService => Info::new("meshexternalservices", Codec::json::<spec::MeshExternalService>(), Sync::BOTH)
        .cli(&["meshexternalservice"], &["meshexternalservices"]).short("extsvc").with_status(r#"{"vip":{}}"#),
    MeshFaultInjection => Info::policy("meshfaultinjections", "mfi", Codec::json::<spec::MeshFaultInjection>(),
            Policy { from_as_rules: false, ..FROM_AND_TO })
        .cli(&["meshfaultinjection"], &["meshfaultinjections"]),
    MeshGateway => Info::new("meshgateways", Codec::proto::<mesh::MeshGateway>(), Sync::BOTH)
        .cli(&["meshgateway"], &["meshgateways"]).short("mgw"),
    MeshGatewayRoute => Info::tag_policy("meshgatewayroutes", Codec::proto::<mesh::MeshGatewayRoute>())
        .cli(&["meshgatewayroute"], &["meshgatewayroutes"]),
    MeshHTTPRoute => Info::policy("meshhttproutes", "mhttpr", Codec::json::<spec::MeshHttpRoute>(), TO)
        .cli(&["meshhttproute"], &["meshhttproutes"]),
    MeshHealthCheck => Info::policy("meshhealthchecks", "mhc", Codec::json::<spec::MeshHealthCheck>(), TO)
        .cli(&["meshhealthcheck"], &["meshhealthchecks"]),
    MeshIdentity => Info::new("meshidentities", Codec::json::<spec::MeshIdentity>(), Sync::BOTH)
        .cli(&["meshidentity"], &["meshidentities"]).short("mid").with_status("{}"),
    MeshInsight => Info::insight_kind("mesh-insights", Codec::proto::<mesh::MeshInsight>(), Sync::GLOBAL_ALONE).global(),
    MeshLoadBalancingStrategy => Info::policy("meshloadbalancingstrategies", "mlbs",
            Codec::json::<spec::MeshLoadBalancingStrategy>(), TO)
        .cli(&["meshloadbalancingstrategy"], &["meshloadbalancingstrategies"]),
    MeshMetric => Info::policy("meshmetrics", "mm", Codec::json::<spec::MeshMetric>(), WHOLE_PROXY)
        .cli(&["meshmetric"], &["meshmetrics"]),
    MeshMultiZoneService => Info::new("meshmultizoneservices", Codec::json::<spec::MeshMultiZoneService>(), Sync::DOWN)
        .cli(&["meshmultizoneservice"], &["meshmultizoneservices"]).short("mzsvc").with_status("{}"),
    MeshPassthrough => Info::policy("meshpassthroughs", "mp", Codec::json::<spec::MeshPassthrough>(), WHOLE_PROXY)
        .cli(&["meshpassthrough"], &["meshpassthroughs"]),
    MeshProxyPatch => Info::policy("meshproxypatches", "mpp", Codec::json::<spec::MeshProxyPatch>(), WHOLE_PROXY)
        .cli(&["meshproxypatch"], &["meshproxypatches"]),
    MeshRateLimit => Info::policy("meshratelimits", "mrl", Codec::json::<spec::MeshRateLimit>(), FROM_AND_TO)
        .cli(&["meshratelimit"], &["meshratelimits"]),
    MeshRetry => Info::policy("meshretries", "mr", Codec::json::<spec::MeshRetry>(), TO)
        .cli(&["meshretry"], &["meshretries"]),
    MeshService => Info::new("meshservices", Codec::json::<spec::MeshService>(), Sync::UP_AND_ACROSS)
        .cli(&["meshservice"], &["meshservices"]).short("msvc").stays_home()
        .with_status(r#"{"tls":{},"dataplaneProxies":{}}"#),
    MeshTCPRoute => Info::policy("meshtcproutes", "mtcpr", Codec::json::<spec::MeshTcpRoute>(), TO)
        .cli(&["meshtcproute"], &["meshtcproutes"]),
    MeshTLS => Info::policy("meshtlses", "mtls", Codec::json::<spec::MeshTls>(), Policy { to: false, ..FROM_AND_TO })
        .cli(&["meshtls"], &["meshtlses"]),
    MeshTimeout => Info::policy("meshtimeouts", "mt", Codec::json::<spec::MeshTimeout>(), FROM_AND_TO)
        .cli(&["meshtimeout"], &["meshtimeouts"]),
    MeshTrace => Info::policy("meshtraces", "mtr", Codec::json::<spec::MeshTrace>(), WHOLE_PROXY)
        .cli(&["meshtrace"], &["meshtraces"]),
    MeshTrafficPermission => Info::policy("meshtrafficpermissions", "mtp", Codec::json::<spec::MeshTrafficPermission>(),
            Policy { to: false, from_as_rules: false, ..FROM_AND_TO })
        .cli(&["meshtrafficpermission"], &["meshtrafficpermissions"]),
    MeshTrust => Info::new("meshtrusts", Codec::json::<spec::MeshTrust>(), Sync::BOTH)
        .cli(&["meshtrust"], &["meshtrusts"]).short("mtrust").with_status("{}"),
    ProxyTemplate => Info::tag_policy("proxytemplates", Codec::proto::<mesh::ProxyTemplate>())
        .cli(&["proxytemplate"], &["proxytemplates"]),
    RateLimit => Info::tag_policy("rate-limits", Codec::proto::<mesh::RateLimit>())
        .cli(&["rate-limit"], &["rate-limits"]),
    Retry => Info::tag_policy("retries", Codec::proto::<mesh::Retry>())
        .cli(&["retry"], &["retries"]),
    Secret => Info::new("secrets", Codec::proto::<system::Secret>(), Sync::DOWN_OR_OWN)
        .cli(&["secret"], &["secrets"]).plain().access(Access::Admins),
    ServiceInsight => Info::insight_kind("service-insights", Codec::proto::<mesh::ServiceInsight>(), Sync::DOWN),
    Timeout => Info::tag_policy("timeouts", Codec::proto::<mesh::Timeout>())
        .cli(&["timeout"], &["timeouts"]),
    TrafficLog => Info::tag_policy("traffic-logs", Codec::proto::<mesh::TrafficLog>())
        .cli(&["traffic-log"], &["traffic-logs"]),
    TrafficPermission => Info::tag_policy("traffic-permissions", Codec::proto::<mesh::TrafficPermission>())
        .cli(&["traffic-permission"], &["traffic-permissions"]),
    TrafficRoute => Info::tag_policy("traffic-routes", Codec::proto::<mesh::TrafficRoute>())
        .cli(&["traffic-route"], &["traffic-routes"]),
    TrafficTrace => Info::tag_policy("traffic-traces", Codec::proto::<mesh::TrafficTrace>())
        .cli(&["traffic-trace"], &["traffic-traces"]),
    VirtualOutbound => Info::tag_policy("virtual-outbounds", Codec::proto::<mesh::VirtualOutbound>())
        .cli(&["virtual-outbound"], &["virtual-outbounds"]),
    Workload => Info::new("workloads", Codec::json::<spec::Workload>(), Sync::UP)
        .cli(&["workload"], &["workloads"]).short("wl").stays_home()
        .with_status(r#"{"dataplaneProxies":{"connected":0,"healthy":0,"total":0}}"#),
    Zone => Info::new("zones", Codec::proto::<system::Zone>(), Sync::NEVER)
        .cli(&["zone"], &["zones"]).global().stays_home().seen_by(Kind::ZoneInsight, "zones+insights"),
    ZoneEgress => Info::new("zoneegresses", Codec::proto::<mesh::ZoneEgress>(), Sync::UP)
        .cli(&["zoneegress"], &["zoneegresses"]).short("ze").global().stays_home()
        .seen_by(Kind::ZoneEgressInsight, "zoneegressoverviews"),
    ZoneEgressInsight => Info::insight_kind("zoneegressinsights", Codec::proto::<mesh::ZoneEgressInsight>(), Sync::UP).global(),
    ZoneIngress => Info::new("zoneingresses", Codec::proto::<mesh::ZoneIngress>(), Sync::UP_AND_ACROSS)
        .cli(&["zone-ingress", "zoneingress"], &["zone-ingresses", "zoneingresses"])
        .alias(&["zone-ingresses"]).short("zi").global().stays_home()
        .seen_by(Kind::ZoneIngressInsight, "zoneingresses+insights"),
    ZoneIngressInsight => Info::insight_kind("zone-ingress-insights", Codec::proto::<mesh::ZoneIngressInsight>(), Sync::UP).global(),
    ZoneInsight => Info::insight_kind("zone-insights", Codec::proto::<system::ZoneInsight>(), Sync::NEVER).global(),
}

impl Kind {
    /// The kind's row.
    pub fn info(self) -> &'static Info {
        &TABLE[self as usize]
    }

    /// `MeshTimeout`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The kind of a REST collection, by its path or an alias.
    pub fn from_path(path: &str) -> Option<Self> {
        let matches = |info: &Info| !path.is_empty() && (info.path == path || info.path_aliases.contains(&path));
        Self::ALL.iter().copied().find(|kind| matches(kind.info()))
    }

    /// The kind that a KRI's short name means.
    pub fn from_short_name(short: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.info().short_name == Some(short))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no kind's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0:?}")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(keep: fn(Sync) -> bool) -> usize {
        Kind::ALL.iter().filter(|kind| keep(kind.info().sync)).count()
    }

    /// kds-wire 4.1: 43 types go down, 29 come up.
    #[test]
    fn as_many_kinds_are_synced_as_the_reference_counts() {
        assert_eq!(count(Sync::global_to_zone), 43);
        assert_eq!(count(Sync::zone_to_global), 29);
    }

    #[test]
    fn a_row_is_found_by_every_name_it_has() {
        for kind in Kind::ALL.iter().copied() {
            let info = kind.info();
            assert_eq!(info.name.parse(), Ok(kind));
            for path in info.path_aliases.iter().chain([&info.path]).filter(|path| !path.is_empty()) {
                assert_eq!(Kind::from_path(path), Some(kind));
            }
            if let Some(short) = info.short_name {
                assert_eq!(Kind::from_short_name(short), Some(kind));
            }
        }
        assert_eq!(Kind::from_path(""), None);
    }

    #[test]
    fn display_names_split_at_capitals() {
        let plural = |kind: Kind| kind.info().plural_display_name();
        assert_eq!(Kind::MeshHTTPRoute.info().display_name(), "Mesh HTTP Route");
        assert_eq!(plural(Kind::MeshTLS), "Mesh TLSes");
        assert_eq!(plural(Kind::MeshLoadBalancingStrategy), "Mesh Load Balancing Strategies");
        assert_eq!(plural(Kind::MeshProxyPatch), "Mesh Proxy Patches");
        assert_eq!(plural(Kind::ZoneIngress), "Zone Ingresses");
        assert_eq!(plural(Kind::MeshGateway), "Mesh Gateways");
        assert_eq!(plural(Kind::MeshPassthrough), "Mesh Passthroughs");
    }
}
