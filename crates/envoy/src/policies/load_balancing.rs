//! `MeshLoadBalancingStrategy`: which endpoint of a destination is called (zone-dataplane 7.3).

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use kds_proto::envoy::config::cluster::v3::cluster::ring_hash_lb_config;
use kds_proto::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
};
use kds_proto::envoy::config::core::v3::RuntimeDouble;
use model::labels::{SERVICE_TAG, ZONE};
use model::policy::{self, Matched, Merge};
use model::spec::MeshLoadBalancingStrategy;
use model::spec::mesh_load_balancing_strategy::{
    Conf, CrossZone, HashFunction, HashPolicy, LoadBalancer, LoadBalancerType, LocalZone, LocalityAwareness, ToZoneType,
};
use model::spec::tags::Tags;
use model::spec::target_ref::{Policy, TargetKind};
use sha2::{Digest, Sha256};

use crate::endpoint::{Endpoint, Locality};
use crate::plan::{Assignment, Context};
use crate::view::View;

/// How far the health of a priority is rounded up where zones fail over, percent.
const OVERPROVISIONING: u32 = 200;

/// Endpoints with priorities and localities. Services that are resources are local first without being asked; for
/// services by their tag the mesh decides, unless a policy does.
pub fn assignment(
    context: &Context<'_>,
    endpoints: Vec<Endpoint>,
    conf: Option<&Conf>,
    is_resource: bool,
) -> Assignment {
    let Some(conf) = conf.cloned().or_else(|| is_resource.then(Conf::default)) else {
        return Assignment { endpoints, overprovisioning: None };
    };
    let through_egress = context.view.uses_egress() && !is_resource;
    place(endpoints, &conf, context.view.zone(), through_egress, |key| context.first_value(key).map(str::to_owned))
}

/// Endpoints of a service of other zones at the egress, which all clients share: only what is said for the whole mesh holds.
pub fn at_egress(view: &View<'_>, service: &str, endpoints: Vec<Endpoint>) -> Assignment {
    let tags: Tags = [(SERVICE_TAG.to_owned(), service.to_owned())].into();
    let matched = Matched::<MeshLoadBalancingStrategy>::at_egress(view.snapshot, &view.name, None);
    let for_all = matched.policies().iter().filter(|policy| policy.spec.top_kind() == TargetKind::Mesh);
    let items = for_all.flat_map(|policy| policy.spec.to());
    let confs: Vec<&Conf> =
        items.filter(|item| policy::describes(&item.target_ref, &tags)).map(|item| &item.default).collect();
    match Conf::merge(&confs).into_iter().next() {
        Some(conf) => place(endpoints, &conf, view.zone(), false, |_| None),
        None => Assignment { endpoints, overprovisioning: None },
    }
}

/// Places endpoints for a client in a zone with tags of its own.
pub fn place(
    mut endpoints: Vec<Endpoint>,
    conf: &Conf,
    zone: &str,
    through_egress: bool,
    own: impl Fn(&str) -> Option<String>,
) -> Assignment {
    let awareness = conf.locality_awareness.clone().unwrap_or_default();
    let remote = u32::from(awareness.disabled != Some(true));
    for locality in endpoints.iter_mut().filter_map(|endpoint| endpoint.locality.as_mut()) {
        if locality.zone != zone {
            locality.priority = remote;
        }
    }
    if awareness.local_zone.is_none() && awareness.cross_zone.is_none() {
        return Assignment { endpoints, overprovisioning: None };
    }
    let affinities = affinities(awareness.local_zone.as_ref(), own);
    let failovers = failovers(awareness.cross_zone.as_ref(), zone);
    let placed = endpoints.into_iter().filter_map(|endpoint| {
        let of_zone = endpoint.tags.get(ZONE).cloned().unwrap_or_default();
        let locality = if of_zone == zone {
            Some(local(&affinities, &endpoint, zone))
        } else if through_egress {
            Some(egress(&failovers))
        } else {
            failovers.iter().find(|failover| failover.includes(&of_zone)).map(|failover| Locality {
                zone: of_zone.clone(),
                priority: failover.priority,
                ..Locality::default()
            })
        };
        Some(Endpoint { locality: Some(locality?), ..endpoint })
    });
    Assignment { endpoints: placed.collect(), overprovisioning: Some(overprovisioning(&awareness)) }
}

/// Endpoints of the own zone that share a tag with the client.
struct Affinity {
    key: String,
    value: String,
    weight: u32,
}

/// Weights that are not given are nines: each of a tenth of what stands before it.
fn affinities(zone: Option<&LocalZone>, own: impl Fn(&str) -> Option<String>) -> Vec<Affinity> {
    let tags = zone.and_then(|zone| zone.affinity_tags.as_deref()).unwrap_or_default();
    let affinity = |(position, tag): (usize, &model::spec::mesh_load_balancing_strategy::AffinityTag)| {
        let after = u32::try_from(tags.len() - position - 1).unwrap_or(u32::MAX);
        let weight = tag.weight.unwrap_or_else(|| 9_u32.saturating_mul(10_u32.saturating_pow(after)));
        Some(Affinity { key: tag.key.clone(), value: own(&tag.key)?, weight })
    };
    tags.iter().enumerate().filter_map(affinity).collect()
}

fn local(affinities: &[Affinity], endpoint: &Endpoint, zone: &str) -> Locality {
    let shared = affinities.iter().find(|affinity| endpoint.tags.get(&affinity.key) == Some(&affinity.value));
    let (sub_zone, weight) =
        shared.map_or((String::new(), 1), |shared| (format!("{}={}", shared.key, shared.value), shared.weight));
    Locality { zone: zone.to_owned(), sub_zone, priority: 0, weight }
}

/// Where traffic goes when the own zone fails.
struct Failover {
    to: ToZoneType,
    zones: BTreeSet<String>,
    priority: u32,
}

impl Failover {
    fn includes(&self, zone: &str) -> bool {
        match self.to {
            ToZoneType::Any => true,
            ToZoneType::AnyExcept => !self.zones.contains(zone),
            ToZoneType::Only => self.zones.contains(zone),
            ToZoneType::None | ToZoneType::Other(_) => false,
        }
    }
}

/// The position of a rule is its priority, whether or not those before it apply.
fn failovers(cross_zone: Option<&CrossZone>, zone: &str) -> Vec<Failover> {
    let rules = cross_zone.and_then(|cross_zone| cross_zone.failover.as_deref()).unwrap_or_default();
    let numbered = (1..).zip(rules);
    let applies =
        numbered.filter(|(_, rule)| rule.from.as_ref().is_none_or(|from| from.zones.iter().any(|z| z == zone)));
    let failover = |(priority, rule): (u32, &model::spec::mesh_load_balancing_strategy::Failover)| Failover {
        to: rule.to.r#type.clone(),
        zones: rule.to.zones.iter().flatten().cloned().collect(),
        priority,
    };
    applies.map(failover).collect()
}

/// The one place of everything behind an egress, which chooses the zone itself: told apart by what it is to choose by.
fn egress(failovers: &[Failover]) -> Locality {
    let zones = |failover: &Failover| failover.zones.iter().cloned().collect::<Vec<_>>().join(",");
    let text: String = failovers
        .iter()
        .filter_map(|failover| {
            let Failover { to, priority, .. } = failover;
            match to {
                ToZoneType::Only => Some(format!("{priority}:{};", zones(failover))),
                ToZoneType::Any => Some(format!("{priority}:{to};")),
                ToZoneType::AnyExcept => Some(format!("{priority}:{to}:{};", zones(failover))),
                ToZoneType::None | ToZoneType::Other(_) => None,
            }
        })
        .collect();
    let hash = STANDARD.encode(Sha256::digest(text));
    Locality { zone: format!("egress_{}", &hash[..8]), priority: 1, ..Locality::default() }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number of hundreds, validated positive"
)]
fn overprovisioning(awareness: &LocalityAwareness) -> u32 {
    let threshold = awareness.cross_zone.as_ref().and_then(|cross_zone| cross_zone.failover_threshold.as_ref());
    let percentage =
        threshold.and_then(|threshold| threshold.percentage.number()).filter(|percentage| *percentage > 0.0);
    percentage.map_or(OVERPROVISIONING, |percentage| (100.0 / percentage) as u32 * 100)
}

/// What decides about the endpoint of a request.
pub fn hash_policies(conf: &Conf) -> Vec<HashPolicy> {
    let of_balancer = || {
        let balancer = conf.load_balancer.as_ref()?;
        match balancer.r#type {
            LoadBalancerType::RingHash => balancer.ring_hash.as_ref()?.hash_policies.clone(),
            LoadBalancerType::Maglev => balancer.maglev.as_ref()?.hash_policies.clone(),
            _ => None,
        }
    };
    conf.hash_policies.clone().or_else(of_balancer).unwrap_or_default()
}

/// The part of a cluster that says how to choose.
pub fn shape(conf: &Conf, cluster: &mut Cluster) {
    let local_zone = conf.locality_awareness.as_ref().and_then(|awareness| awareness.local_zone.as_ref());
    let weighted = local_zone.and_then(|zone| zone.affinity_tags.as_ref()).is_some_and(|tags| !tags.is_empty());
    if weighted {
        let specifier = LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {});
        let common = cluster.common_lb_config.get_or_insert_with(CommonLbConfig::default);
        common.locality_config_specifier = Some(specifier);
    }
    if let Some(balancer) = &conf.load_balancer {
        let (policy, config) = balancing(balancer);
        cluster.lb_policy = policy.into();
        cluster.lb_config = config;
    }
}

fn balancing(balancer: &LoadBalancer) -> (LbPolicy, Option<LbConfig>) {
    match balancer.r#type {
        LoadBalancerType::RoundRobin => (LbPolicy::RoundRobin, None),
        LoadBalancerType::Random => (LbPolicy::Random, None),
        LoadBalancerType::LeastRequest => {
            let config = balancer.least_request.as_ref().map(|asked| {
                let bias = asked.active_request_bias.as_ref().and_then(model::number::IntOrString::number);
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    choice_count: asked.choice_count,
                    active_request_bias: bias
                        .map(|default_value| RuntimeDouble { default_value, ..RuntimeDouble::default() }),
                    ..LeastRequestLbConfig::default()
                })
            });
            (LbPolicy::LeastRequest, config)
        }
        LoadBalancerType::RingHash => {
            let config = balancer.ring_hash.as_ref().map(|asked| {
                let function = match asked.hash_function {
                    Some(HashFunction::MurmurHash2) => ring_hash_lb_config::HashFunction::MurmurHash2,
                    Some(HashFunction::XxHash) | None => ring_hash_lb_config::HashFunction::XxHash,
                };
                LbConfig::RingHashLbConfig(RingHashLbConfig {
                    minimum_ring_size: asked.min_ring_size.map(u64::from),
                    maximum_ring_size: asked.max_ring_size.map(u64::from),
                    hash_function: function.into(),
                })
            });
            (LbPolicy::RingHash, config)
        }
        LoadBalancerType::Maglev => {
            let config = balancer
                .maglev
                .as_ref()
                .map(|asked| LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: asked.table_size.map(u64::from) }));
            (LbPolicy::Maglev, config)
        }
    }
}
