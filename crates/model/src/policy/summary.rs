//! What the policies of each kind say to a proxy, their configurations as JSON: for whoever shows it. The one file here
//! that names kinds.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::kind::Kind;
use crate::policy::{Entry, InboundRule, Matched, Merge, Origin, Proxy, ResourceRules, SubsetRule, whole_proxy};
use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::spec::target_ref::Policy;
use crate::spec::{
    MeshAccessLog, MeshCircuitBreaker, MeshFaultInjection, MeshHealthCheck, MeshHttpRoute, MeshLoadBalancingStrategy,
    MeshMetric, MeshPassthrough, MeshProxyPatch, MeshRateLimit, MeshRetry, MeshTcpRoute, MeshTimeout, MeshTls,
    MeshTrace, MeshTrafficPermission,
};

/// What the policies of one kind say to a proxy. What a kind cannot say is empty.
#[derive(Debug)]
pub struct Summary {
    /// The kind.
    pub kind: Kind,
    /// The policies that hold for the proxy, the weakest first.
    pub policies: Vec<Arc<Resource>>,
    /// What holds for the proxy as a whole.
    pub whole: Option<(Value, Vec<Origin>)>,
    /// What holds for outgoing traffic, by tags.
    pub to: Vec<SubsetRule<Value>>,
    /// What holds for outgoing traffic, by resource.
    pub resources: ResourceRules<Value>,
    /// What holds for incoming traffic, by client; one list for each inbound.
    pub from: Vec<Vec<SubsetRule<Value>>>,
    /// What holds for incoming traffic, rule by rule; one list for each inbound.
    pub inbound: Vec<Vec<InboundRule<Value>>>,
    /// What could not be followed.
    pub warnings: Vec<String>,
}

impl Summary {
    /// Of every kind, in the order in which Kuma applies them. Policies that only count in a dry run are passed over.
    pub fn of_proxy(snapshot: &Snapshot, proxy: Proxy<'_>) -> Vec<Self> {
        let of = At { snapshot, proxy };
        vec![
            of.kind::<MeshHttpRoute>().to().end(),
            of.kind::<MeshTcpRoute>().to().end(),
            of.kind::<MeshTls>().from().rules(Matched::inbound_rules).end(),
            of.kind::<MeshLoadBalancingStrategy>().to().end(),
            of.kind::<MeshPassthrough>().whole(|policy| &policy.default).end(),
            of.kind::<MeshAccessLog>().to().from().rules(Matched::inbound_rules).end(),
            of.kind::<MeshTrace>().whole(|policy| &policy.default).end(),
            of.kind::<MeshFaultInjection>().to().from().rules(Matched::rules).end(),
            of.kind::<MeshRateLimit>().to().from().rules(Matched::inbound_rules).end(),
            of.kind::<MeshTimeout>().to().from().rules(Matched::inbound_rules).end(),
            of.kind::<MeshTrafficPermission>().from().rules(Matched::rules).end(),
            of.kind::<MeshHealthCheck>().to().end(),
            of.kind::<MeshCircuitBreaker>().to().from().rules(Matched::inbound_rules).end(),
            of.kind::<MeshRetry>().to().end(),
            of.kind::<MeshMetric>().whole(|policy| &policy.default).end(),
            of.kind::<MeshProxyPatch>().whole(|policy| &policy.default).end(),
        ]
    }
}

#[derive(Clone, Copy)]
struct At<'a> {
    snapshot: &'a Snapshot,
    proxy: Proxy<'a>,
}

impl<'a> At<'a> {
    fn kind<P: Policy>(self) -> Summing<'a, P> {
        let matched = Matched::<P>::new(self.snapshot, self.proxy, false);
        let summary = Summary {
            kind: P::KIND,
            policies: matched.policies().iter().map(|policy| Arc::clone(&policy.resource)).collect(),
            whole: None,
            to: Vec::new(),
            resources: ResourceRules::default(),
            from: Vec::new(),
            inbound: Vec::new(),
            warnings: matched.warnings().to_vec(),
        };
        Summing { snapshot: self.snapshot, matched, summary }
    }
}

struct Summing<'a, P> {
    snapshot: &'a Snapshot,
    matched: Matched<P>,
    summary: Summary,
}

impl<P: Policy> Summing<'_, P> {
    fn to(mut self) -> Self
    where
        P::To: Entry,
        <P::To as Entry>::Conf: Serialize,
    {
        self.summary.to = self.matched.to_rules().into_iter().map(|rule| rule.map(json)).collect();
        self.summary.resources = self.matched.resource_rules(self.snapshot).map(json);
        self
    }

    fn from(mut self) -> Self
    where
        P::From: Entry,
        <P::From as Entry>::Conf: Serialize,
    {
        let rules = |inbound| self.matched.from_rules(inbound).into_iter().map(|rule| rule.map(json)).collect();
        self.summary.from = (0..self.matched.inbounds()).map(rules).collect();
        self
    }

    fn rules<C: Serialize>(mut self, of: impl Fn(&Matched<P>, usize) -> Vec<InboundRule<C>>) -> Self {
        let shown = |rule: InboundRule<C>| InboundRule { conf: json(rule.conf), origin: rule.origin };
        let rules = |inbound| of(&self.matched, inbound).into_iter().map(shown).collect();
        self.summary.inbound = (0..self.matched.inbounds()).map(rules).collect();
        self
    }

    fn whole<C: Merge + Serialize>(mut self, conf: impl Fn(&P) -> &C) -> Self {
        self.summary.whole = whole_proxy(&self.matched, conf).map(|(conf, origins)| (json(conf), origins));
        self
    }

    fn end(self) -> Summary {
        self.summary
    }
}

/// A configuration always has a JSON form.
fn json(conf: impl Serialize) -> Value {
    serde_json::to_value(conf).unwrap_or_default()
}
