//! What policies say of incoming traffic, inbound by inbound.

use crate::policy::subset::{self, Sourced};
use crate::policy::{Entry, Matched, MatchedPolicy, Merge, Origin, SubsetRule, order, origins};
use crate::spec::mesh_access_log;
use crate::spec::mesh_fault_injection;
use crate::spec::mesh_traffic_permission;
use crate::spec::target_ref::{Policy, Rule};

/// One of `rules`, or one of `from` of a kind that takes `from` for `rules`.
#[derive(Clone, Debug)]
pub struct InboundRule<C> {
    /// What it says.
    pub conf: C,
    /// Which item of which policy it is.
    pub origin: Origin,
}

/// One of `rules`, whatever the kind.
pub trait RuleEntry {
    /// What it says.
    type Conf: Merge;

    /// What it says.
    fn conf(&self) -> &Self::Conf;
}

impl<C: Merge> RuleEntry for Rule<C> {
    type Conf = C;

    fn conf(&self) -> &C {
        &self.default
    }
}

impl RuleEntry for mesh_access_log::Rule {
    type Conf = mesh_access_log::Conf;

    fn conf(&self) -> &Self::Conf {
        &self.default
    }
}

impl RuleEntry for mesh_traffic_permission::Rule {
    type Conf = mesh_traffic_permission::RuleConf;

    fn conf(&self) -> &Self::Conf {
        &self.default
    }
}

impl RuleEntry for mesh_fault_injection::Rule {
    type Conf = mesh_fault_injection::Conf;

    fn conf(&self) -> &Self::Conf {
        &self.default
    }
}

impl<P: Policy> Matched<P>
where
    P::From: Entry,
{
    /// Rules by client for one inbound, the narrower first.
    pub fn from_rules(&self, inbound: usize) -> Vec<SubsetRule<<P::From as Entry>::Conf>> {
        let items: Vec<_> = self
            .of_inbound(inbound)
            .flat_map(|policy| {
                let sourced = |(index, item)| Sourced::of(item, policy.origin(index));
                policy.spec.from().iter().enumerate().filter_map(sourced)
            })
            .collect();
        subset::build(&items, true)
    }
}

impl<P: Policy> Matched<P>
where
    P::Rule: RuleEntry,
{
    /// The `rules` of one inbound, the weakest policy first.
    pub fn rules(&self, inbound: usize) -> Vec<InboundRule<<P::Rule as RuleEntry>::Conf>> {
        self.in_order(inbound).into_iter().flat_map(rules_of).collect()
    }

    /// The same order that all rules are built in: [`Matched::policies`], whose order is stable among equals.
    fn in_order(&self, inbound: usize) -> Vec<&MatchedPolicy<P>> {
        let mut policies: Vec<_> = self.of_inbound(inbound).collect();
        policies.sort_by(|a, b| {
            order::by_attributes((a.spec.target_ref(), &a.resource.meta), (b.spec.target_ref(), &b.resource.meta))
                .then_with(|| order::by_name(&a.resource.meta, &b.resource.meta))
        });
        policies
    }
}

fn rules_of<P: Policy>(policy: &MatchedPolicy<P>) -> Vec<InboundRule<<P::Rule as RuleEntry>::Conf>>
where
    P::Rule: RuleEntry,
{
    let rule =
        |(index, item): (usize, &P::Rule)| InboundRule { conf: item.conf().clone(), origin: policy.origin(index) };
    policy.spec.rules().iter().enumerate().map(rule).collect()
}

impl<P: Policy, C: Merge> Matched<P>
where
    P::Rule: RuleEntry<Conf = C>,
    P::From: Entry<Conf = C>,
{
    /// The `rules` of one inbound, `from` taken for `rules` where a policy has only that; the weakest policy first.
    pub fn inbound_rules(&self, inbound: usize) -> Vec<InboundRule<C>> {
        let of_policy = |policy: &MatchedPolicy<P>| {
            if !policy.spec.rules().is_empty() {
                return rules_of(policy);
            }
            let rule = |(index, item): (usize, &P::From)| InboundRule {
                conf: item.conf().into_owned(),
                origin: policy.origin(index),
            };
            policy.spec.from().iter().enumerate().map(rule).collect()
        };
        self.in_order(inbound).into_iter().flat_map(of_policy).collect()
    }

    /// What holds for all traffic to one inbound: its rules merged; `None` when there is none.
    pub fn inbound_conf(&self, inbound: usize) -> Option<(C, Vec<Origin>)> {
        let rules = self.inbound_rules(inbound);
        let confs: Vec<&C> = rules.iter().map(|rule| &rule.conf).collect();
        let conf = C::merge(&confs).into_iter().next()?;
        Some((conf, origins(rules.iter().map(|rule| &rule.origin), true)))
    }
}
