//! What policies add up to, against the recorded answers of `_rules` (api-and-kumactl 1.9): the resources are those that
//! the same control plane listed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::Dataplane;
use model::policy::{Entry, InboundRule, Matched, Merge, Origin, Proxy, ResourceRules, SubsetRule};
use model::resource::Key;
use model::spec::target_ref::Policy;
use model::spec::{
    MeshCircuitBreaker, MeshHealthCheck, MeshLoadBalancingStrategy, MeshRetry, MeshTcpRoute, MeshTimeout, MeshTls,
    MeshTrafficPermission,
};
use model::{Change, Kind, Resource, Snapshot, rest_form};
use serde::Serialize;
use serde_json::{Value, json};

/// The calls of a recording, by name.
fn calls(recording: &str) -> BTreeMap<String, Value> {
    let path = format!("{}/../api/tests/recorded/{recording}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let call = |line: &str| {
        let call: Value = serde_json::from_str(line).unwrap();
        (call["name"].as_str().unwrap().to_owned(), call)
    };
    text.lines().map(call).collect()
}

/// A resource as the API shows it; `None` for kinds that it only shows in part.
fn resource(document: &Value) -> Option<Arc<Resource>> {
    rest_form::read(document.clone()).ok().map(Arc::new)
}

fn snapshot(calls: &BTreeMap<String, Value>) -> Snapshot {
    let lists = calls.iter().filter(|(name, _)| name.starts_with("list-") || name.starts_with("cp-"));
    let items = lists.filter_map(|(_, call)| call["response"]["items"].as_array()).flatten();
    let puts: Vec<Change> = items.filter_map(resource).map(Change::Put).collect();
    Snapshot::empty().apply(1, puts)
}

fn meta(resource: &Resource) -> Value {
    let meta = &resource.meta;
    json!({
        "labels": serde_json::to_value(&meta.labels).unwrap(),
        "mesh": &*meta.key.mesh,
        "name": &*meta.key.name,
        "type": meta.key.kind.info().name,
    })
}

fn subset_rules<C: Serialize>(rules: &[SubsetRule<C>]) -> Value {
    let rule = |rule: &SubsetRule<C>| {
        let matchers: Vec<Value> =
            rule.subset.0.iter().map(|tag| json!({"key": tag.key, "not": tag.not, "value": tag.value})).collect();
        let origin: Vec<Value> = rule.origins.iter().map(|origin| meta(&origin.policy)).collect();
        json!({"conf": rule.conf, "matchers": matchers, "origin": origin})
    };
    rules.iter().map(rule).collect()
}

fn origin(origin: &Origin) -> Value {
    json!({"resourceMeta": meta(&origin.policy), "ruleIndex": origin.index})
}

fn resource_rules<C: Serialize>(rules: &ResourceRules<C>) -> Vec<Value> {
    let rule = |rule: &model::policy::ResourceRule<C>| {
        let origins: Vec<Value> = rule.origins.iter().map(origin).collect();
        json!({"conf": rule.conf, "origin": origins, "resourceMeta": meta(&rule.resource),
            "resourceSectionName": rule.section})
    };
    rules.iter().map(|(_, r)| rule(r)).collect()
}

/// One recorded answer and the control plane's resources.
struct Recorded {
    snapshot: Snapshot,
    dataplane: Arc<Resource>,
    answer: Value,
}

impl Recorded {
    fn rules(&self, kind: Kind) -> Value {
        let rules = self.answer["rules"].as_array().unwrap();
        rules.iter().find(|rule| rule["type"] == kind.info().name).cloned().unwrap_or(json!({}))
    }

    fn matched<P: Policy>(&self) -> Matched<P> {
        let dataplane = self.dataplane.spec.message::<Dataplane>().unwrap();
        Matched::new(&self.snapshot, Proxy { meta: &self.dataplane.meta, dataplane: &dataplane }, false)
    }

    fn inbound(&self, position: usize) -> Value {
        let dataplane = self.dataplane.spec.message::<Dataplane>().unwrap();
        let inbound = &dataplane.networking.as_ref().unwrap().inbound[position];
        json!({"port": inbound.port, "tags": inbound.tags})
    }

    /// On the global some policies came after the lists: what speaks of those is left out.
    fn expect(&self, kind: Kind, member: &str, actual: Value) {
        let expected = self.rules(kind).get(member).cloned().unwrap_or(json!([]));
        let text = expected.to_string();
        let listed = |name: &str| self.snapshot.get(&Key::new(kind, "default", name)).is_some();
        let origins = text.split("\"name\":\"").skip(1).filter_map(|rest| rest.split_once('"')).collect::<Vec<_>>();
        let of_kind = format!("\"type\":\"{kind}\"");
        if origins.iter().any(|(name, rest)| rest.starts_with(&format!(",{of_kind}")) && !listed(name)) {
            println!("{kind} {member}: not comparable");
            return;
        }
        assert_eq!(sorted(actual), sorted(expected), "{kind} {member}");
    }

    fn to<P: Policy>(&self)
    where
        P::To: Entry,
        <P::To as Entry>::Conf: Serialize,
    {
        let matched = self.matched::<P>();
        self.expect(P::KIND, "toRules", subset_rules(&matched.to_rules()));
        let by_resource = resource_rules(&matched.resource_rules(&self.snapshot));
        self.expect(P::KIND, "toResourceRules", by_resource.into());
    }

    /// The recording shows only inbounds with rules.
    fn from<P: Policy>(&self)
    where
        P::From: Entry,
        <P::From as Entry>::Conf: Serialize,
    {
        let matched = self.matched::<P>();
        let rules = (0..matched.inbounds()).map(|inbound| (inbound, subset_rules(&matched.from_rules(inbound))));
        let shown = rules.filter(|(_, rules)| rules != &json!([]));
        self.expect(
            P::KIND,
            "fromRules",
            shown.map(|(i, rules)| json!({"inbound": self.inbound(i), "rules": rules})).collect(),
        );
    }

    fn inbound_rules<P: Policy, C: Merge + Serialize>(
        &self,
        rules: impl Fn(&Matched<P>, usize) -> Vec<InboundRule<C>>,
    ) {
        let matched = self.matched::<P>();
        let rule = |rule: &InboundRule<C>| json!({"conf": [rule.conf], "origin": [origin(&rule.origin)]});
        let of = |inbound| rules(&matched, inbound).iter().map(rule).collect::<Value>();
        let shown = (0..matched.inbounds()).map(|i| (i, of(i))).filter(|(_, rules)| rules != &json!([]));
        self.expect(
            P::KIND,
            "inboundRules",
            shown.map(|(i, rules)| json!({"inbound": self.inbound(i), "rules": rules})).collect(),
        );
    }
}

/// The recorded rules of resources come in no order.
fn sorted(mut value: Value) -> Value {
    if let Value::Array(items) = &mut value
        && items.iter().any(|item| !item["resourceMeta"].is_null())
    {
        items.sort_by_key(|item| (item["resourceMeta"].to_string(), item["resourceSectionName"].to_string()));
    }
    value
}

#[test]
fn rules_add_up_as_recorded() {
    let mut compared = 0;
    for recording in ["zone", "global"] {
        let calls = calls(recording);
        let snapshot = snapshot(&calls);
        for (name, call) in
            calls.iter().filter(|(name, _)| name.starts_with("inspect-dp-") && name.ends_with("-_rules"))
        {
            let answer = call["response"].clone();
            let key = Key::new(Kind::Dataplane, "default", answer["resource"]["name"].as_str().unwrap());
            let Some(dataplane) = snapshot.get(&key).cloned() else { panic!("{recording}: {name}: no {key}") };
            println!("{recording}: {name}");
            let recorded = Recorded { snapshot: snapshot.clone(), dataplane, answer };
            recorded.to::<MeshTimeout>();
            recorded.to::<MeshRetry>();
            recorded.to::<MeshCircuitBreaker>();
            recorded.to::<MeshLoadBalancingStrategy>();
            recorded.to::<MeshHealthCheck>();
            recorded.to::<MeshTcpRoute>();
            recorded.from::<MeshTimeout>();
            recorded.from::<MeshTls>();
            recorded.from::<MeshTrafficPermission>();
            recorded.inbound_rules::<MeshTimeout, _>(Matched::inbound_rules);
            recorded.inbound_rules::<MeshCircuitBreaker, _>(Matched::inbound_rules);
            recorded.inbound_rules::<MeshTls, _>(Matched::inbound_rules);
            compared += 1;
        }
    }
    assert_eq!(compared, 4);
}
