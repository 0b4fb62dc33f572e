use std::sync::atomic::Ordering;

use kds_proto::json::{UnknownFields, from_value};
use prost::{Message, Name};
use serde_json::{Value, json};

use super::*;

fn read<M: Message + Name + Default>(value: Value) -> M {
    from_value(value, UnknownFields::Refused).unwrap()
}

fn chain(name: &str, cluster: &str, tags: Option<Value>) -> Value {
    let mut proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "statPrefix": "s", "cluster": cluster,
    });
    if let Some(tags) = tags {
        proxy["metadataMatch"] = json!({"filterMetadata": {"envoy.lb": tags}});
    }
    json!({
        "filterChainMatch": {"transportProtocol": "tls", "serverNames": [name]},
        "filters": [{"name": "envoy.filters.network.tcp_proxy", "typedConfig": proxy}],
    })
}

fn listener(chains: Vec<Value>) -> ListenerResource {
    let inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
    read(json!({
        "name": "inbound:127.0.0.1:10001",
        "address": {"socketAddress": {"address": "127.0.0.1", "portValue": 10001}},
        "enableReusePort": true,
        "trafficDirection": "INBOUND",
        "listenerFilters": [{"name": "envoy.filters.listener.tls_inspector", "typedConfig": {"@type": inspector}}],
        "filterChains": chains,
    }))
}

fn cluster(name: &str, more: Value) -> ClusterResource {
    let mut value = json!({
        "name": name, "altStatName": "s", "connectTimeout": "5s", "type": "EDS",
        "edsClusterConfig": {"edsConfig": {"ads": {}, "resourceApiVersion": "V3"}},
    });
    for (key, more) in more.as_object().unwrap() {
        value[key] = more.clone();
    }
    read(value)
}

fn endpoint(last: u8, more: Value) -> Value {
    let address = json!({"socketAddress": {"address": format!("10.0.0.{last}"), "portValue": 80}});
    let mut value = json!({"endpoint": {"address": address}});
    for (key, more) in more.as_object().unwrap() {
        value[key] = more.clone();
    }
    value
}

fn tagged(last: u8, version: &str) -> Value {
    endpoint(last, json!({"metadata": {"filterMetadata": {"envoy.lb": {"version": version}}}}))
}

fn assignment(name: &str, endpoints: Vec<Value>) -> ClusterLoadAssignment {
    read(json!({"clusterName": name, "endpoints": [{"lbEndpoints": endpoints}]}))
}

/// Where so many connections for a name go: last part of the address and count, sorted.
fn shares(resources: &Resources, name: &str, connections: usize) -> Vec<(u8, usize)> {
    let listener = resources.listeners().values().next().unwrap();
    let route = listener.table.find(name.as_bytes()).unwrap();
    let mut shares = BTreeMap::new();
    for _ in 0..connections {
        let Some(host) = route.cluster.next(None) else { return Vec::new() };
        let SocketAddr::V4(address) = host.address() else { unreachable!() };
        *shares.entry(address.ip().octets()[3]).or_default() += 1;
    }
    shares.into_iter().collect()
}

/// DP-40 in its router half; resources may come in any order.
#[test]
fn a_route_with_tags_reaches_those_that_have_them() {
    let mut resources = Resources::default();
    let v1 = Some(json!({"version": "v1"}));
    let (all, some) = ("b{mesh=m}", "b{mesh=m,version=v1}");
    let chains = vec![chain(all, "m:b", None), chain(some, "m:b", v1)];
    assert!(resources.put_listener(listener(chains)).unwrap().is_empty());
    assert_eq!(shares(&resources, all, 3), []);
    resources.put_assignment(&assignment("m:b", vec![tagged(1, "v1"), tagged(2, "v2"), tagged(3, "v1")])).unwrap();
    assert_eq!(shares(&resources, all, 3), [], "the cluster itself is missing");
    let subsets = json!({"lbSubsetConfig": {
        "fallbackPolicy": "ANY_ENDPOINT",
        "subsetSelectors": [{"keys": ["version"], "fallbackPolicy": "NO_FALLBACK"}],
    }});
    resources.put_cluster(cluster("m:b", subsets)).unwrap();
    assert_eq!(shares(&resources, all, 300), [(1, 100), (2, 100), (3, 100)]);
    assert_eq!(shares(&resources, some, 300), [(1, 150), (3, 150)]);
    resources.put_assignment(&assignment("m:b", vec![tagged(2, "v2")])).unwrap();
    assert_eq!(shares(&resources, some, 3), [], "nobody has them, and nobody else will do");
    resources.remove_cluster("m:b");
    assert_eq!(shares(&resources, all, 3), []);
}

#[test]
fn a_cluster_without_subsets_does_not_mind_tags() {
    let mut resources = Resources::default();
    resources.put_cluster(cluster("c", json!({}))).unwrap();
    resources.put_assignment(&assignment("c", vec![tagged(1, "v1"), tagged(2, "v2")])).unwrap();
    resources.put_listener(listener(vec![chain("n", "c", Some(json!({"version": "v1"})))])).unwrap();
    assert_eq!(shares(&resources, "n", 100), [(1, 50), (2, 50)]);
}

#[test]
fn weights_health_and_doubled_addresses_count() {
    let mut resources = Resources::default();
    resources.put_cluster(cluster("c", json!({}))).unwrap();
    let endpoints = vec![
        endpoint(1, json!({"loadBalancingWeight": 2})),
        endpoint(1, json!({"loadBalancingWeight": 9})),
        endpoint(2, json!({"loadBalancingWeight": 1, "healthStatus": "HEALTHY"})),
        endpoint(3, json!({"loadBalancingWeight": 5, "healthStatus": "UNHEALTHY"})),
    ];
    resources.put_assignment(&assignment("c", endpoints)).unwrap();
    resources.put_listener(listener(vec![chain("n", "c", None)])).unwrap();
    assert_eq!(shares(&resources, "n", 300), [(1, 200), (2, 100)]);
}

#[test]
fn a_static_cluster_brings_its_endpoints() {
    let mut resources = Resources::default();
    let more = json!({
        "type": "STATIC", "edsClusterConfig": null, "connectTimeout": "0.250s",
        "loadAssignment": {"clusterName": "c", "endpoints": [
            {"lbEndpoints": [endpoint(1, json!({})), endpoint(2, json!({}))]},
            {"priority": 1, "lbEndpoints": [endpoint(3, json!({}))]},
        ]},
    });
    resources.put_cluster(cluster("c", more)).unwrap();
    resources.put_listener(listener(vec![chain("n", "c", None)])).unwrap();
    assert_eq!(shares(&resources, "n", 100), [(1, 50), (2, 50)]);
    let route = resources.listeners().values().next().unwrap().table.find(b"n").unwrap();
    assert_eq!(route.cluster.settings().connect_timeout, Duration::from_millis(250));
}

/// One that is refused costs only itself.
#[test]
fn what_a_router_does_not_do_is_refused_by_name() {
    let mut resources = Resources::default();
    resources.put_cluster(cluster("good", json!({}))).unwrap();
    resources.put_assignment(&assignment("good", vec![endpoint(1, json!({}))])).unwrap();
    let refused = |more: Value| resources_refusal(cluster("bad", more));
    assert_eq!(
        refused(json!({"transportSocket": {"name": "tls"}, "respectDnsTtl": true})),
        r#"Cluster "bad": not supported by this router: respectDnsTtl"#
    );
    assert!(refused(json!({"transportSocket": {"name": "quic"}})).ends_with(r#"the transport socket "quic""#));
    assert!(refused(json!({"type": "LOGICAL_DNS"})).ends_with("type must be EDS, STATIC or STRICT_DNS"));
    assert!(refused(json!({"lbPolicy": "RANDOM"})).ends_with("lbPolicy must be ROUND_ROBIN"));
    assert!(refused(json!({"connectTimeout": "0s"})).ends_with("connectTimeout must be positive"));

    let named = json!({"clusterName": "good", "endpoints": [{"lbEndpoints": [
        {"endpoint": {"address": {"socketAddress": {"address": "example.com", "portValue": 80}}}}]}]});
    let error = resources.put_assignment(&read(named)).unwrap_err().to_string();
    assert_eq!(error, r#"ClusterLoadAssignment "good": "example.com" is no IP address"#);

    let mut terminated = chain("t", "good", None);
    terminated["transportSocket"] = json!({"name": "tls"});
    let mut sourced = chain("s", "good", None);
    sourced["filterChainMatch"]["sourcePorts"] = json!([1]);
    let chains = vec![
        chain("good", "good", None),
        terminated,
        sourced,
        chain("*.wild", "good", None),
        chain("GOOD", "good", Some(json!({"a": "b"}))),
        chain("last", "good", None),
    ];
    let refused: Vec<String> =
        resources.put_listener(listener(chains)).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 4, "{refused:#?}");
    assert!(
        refused[0].contains(r#"the filter chain of "t": not supported by this router: the transport socket "tls""#)
    );
    assert!(refused[1].contains("sourcePorts"));
    assert!(refused[2].contains(r#"the pattern "*.wild""#));
    assert!(refused[3].contains(r#""GOOD" is taken by cluster "good""#));
    assert_eq!(shares(&resources, "good", 1), [(1, 1)]);
    assert_eq!(shares(&resources, "last", 1), [(1, 1)]);

    let mut other = listener(vec![chain("other", "good", None)]);
    other.transparent = Some(true);
    let error = resources.put_listener(other).unwrap_err().to_string();
    assert_eq!(error, r#"Listener "inbound:127.0.0.1:10001": not supported by this router: transparent"#);
    assert_eq!(shares(&resources, "good", 1), [(1, 1)], "the one that was there is kept");
}

fn resources_refusal(cluster: ClusterResource) -> String {
    Resources::default().put_cluster(cluster).unwrap_err().to_string()
}

#[test]
fn counts_and_clusters_survive_an_update_of_the_listener() {
    let mut resources = Resources::default();
    resources.put_cluster(cluster("c", json!({}))).unwrap();
    resources.put_assignment(&assignment("c", vec![endpoint(1, json!({})), endpoint(2, json!({}))])).unwrap();
    resources.put_listener(listener(vec![chain("n", "c", None)])).unwrap();
    let before = {
        let table = &resources.listeners().values().next().unwrap().table;
        Arc::clone(table.find(b"n").unwrap())
    };
    before.counters.connections.fetch_add(7, Ordering::Relaxed);
    resources.put_listener(listener(vec![chain("m", "c", None), chain("n", "c", None)])).unwrap();
    let table = Arc::clone(&resources.listeners().values().next().unwrap().table);
    assert!(Arc::ptr_eq(&before, table.find(b"n").unwrap()));
    assert!(Arc::ptr_eq(&before.cluster, &table.find(b"m").unwrap().cluster), "one place, one order");
    resources.remove_listener("inbound:127.0.0.1:10001");
    assert!(resources.listeners().is_empty());
}

/// zone-dataplane 5.4: a listener without destinations says who it is.
#[test]
fn a_chain_without_a_match_answers_everybody() {
    let mut resources = Resources::default();
    let config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
        "response": {"inlineString": "{}"},
    });
    let filters = json!([{"name": "envoy.filters.network.direct_response", "typedConfig": config}]);
    assert!(resources.put_listener(listener(vec![json!({"filters": filters})])).unwrap().is_empty());
    let table = &resources.listeners().values().next().unwrap().table;
    assert_eq!(table.answer().unwrap().as_ref(), b"{}");
}
