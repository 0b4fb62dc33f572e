//! What policies say of outgoing traffic: by service tag, and by resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::Kind;
use crate::kri::Kri;
use crate::policy::resolve::{self, ResourceSection};
use crate::policy::subset::{self, Sourced};
use crate::policy::{Entry, Matched, Merge, Origin, SubsetRule, order, origins};
use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::spec::target_ref::{Policy, TargetKind};

/// What holds for a destination that is a resource.
#[derive(Clone, Debug)]
pub struct ResourceRule<C> {
    /// The destination, or the mesh for all of them.
    pub resource: Arc<Resource>,
    /// Name of its port; empty for all.
    pub section: String,
    /// What holds: one configuration, more only for routes of gateways.
    pub conf: Vec<C>,
    /// The items that it came from, the weakest first.
    pub origins: Vec<Origin>,
}

/// What holds for each destination that some item is about, and for the mesh.
#[derive(Clone, Debug)]
pub struct ResourceRules<C> {
    rules: BTreeMap<Kri, ResourceRule<C>>,
}

impl<C> Default for ResourceRules<C> {
    fn default() -> Self {
        Self { rules: BTreeMap::new() }
    }
}

impl<C> ResourceRules<C> {
    /// The same with the configurations in another form.
    pub fn map<D>(self, convert: impl Fn(C) -> D) -> ResourceRules<D> {
        let rule = |rule: ResourceRule<C>| ResourceRule {
            resource: rule.resource,
            section: rule.section,
            conf: rule.conf.into_iter().map(&convert).collect(),
            origins: rule.origins,
        };
        ResourceRules { rules: self.rules.into_iter().map(|(kri, of)| (kri, rule(of))).collect() }
    }

    /// The rules, by identifier.
    pub fn iter(&self) -> impl Iterator<Item = (&Kri, &ResourceRule<C>)> {
        self.rules.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule that is about exactly this.
    pub fn exactly(&self, kri: &Kri) -> Option<&ResourceRule<C>> {
        self.rules.get(kri)
    }

    /// The rule for a destination: that of its port, else that of the whole, else that of the mesh.
    pub fn compute(&self, kri: &Kri) -> Option<&ResourceRule<C>> {
        let whole = || self.rules.get(&kri.with_section(""));
        self.rules.get(kri).or_else(whole).or_else(|| self.of_mesh(&kri.mesh))
    }

    /// The rule for all destinations of a mesh.
    pub fn of_mesh(&self, mesh: &str) -> Option<&ResourceRule<C>> {
        self.rules.iter().find(|(kri, _)| kri.kind == Kind::Mesh && kri.name == mesh).map(|(_, rule)| rule)
    }

    /// What holds for a destination.
    pub fn conf(&self, kri: &Kri) -> Option<&C> {
        self.compute(kri).and_then(|rule| rule.conf.first())
    }
}

impl<P: Policy> Matched<P>
where
    P::To: Entry,
{
    /// Rules by the tag of the destination, the narrower first. Policies with an item about routes are left out: such
    /// items have no tags.
    pub fn to_rules(&self) -> Vec<SubsetRule<<P::To as Entry>::Conf>> {
        let about_routes = |item: &P::To| item.target_ref().kind == TargetKind::MeshHttpRoute;
        let items: Vec<_> = self
            .policies()
            .iter()
            .filter(|policy| policy.spec.top_kind() != TargetKind::MeshHttpRoute)
            .filter(|policy| !policy.spec.to().iter().any(about_routes))
            .flat_map(|policy| {
                let sourced = |(index, item)| Sourced::of(item, policy.origin(index));
                policy.spec.to().iter().enumerate().filter_map(sourced)
            })
            .collect();
        subset::build(&items, false)
    }

    /// Rules by resource.
    pub fn resource_rules(&self, snapshot: &Snapshot) -> ResourceRules<<P::To as Entry>::Conf> {
        let mut items: Vec<(&P::To, &P, Origin)> = self
            .policies()
            .iter()
            .filter(|policy| policy.spec.top_kind() != TargetKind::MeshHttpRoute)
            .flat_map(|policy| {
                let sourced = |(index, item)| (item, &*policy.spec, policy.origin(index));
                policy.spec.to().iter().enumerate().map(sourced)
            })
            .collect();
        items.sort_by(|(a, a_spec, a_origin), (b, b_spec, b_origin)| {
            let (a_meta, b_meta) = (&a_origin.policy.meta, &b_origin.policy.meta);
            order::by_attributes((a_spec.target_ref(), a_meta), (b_spec.target_ref(), b_meta))
                .then_with(|| order::by_destination(a.target_ref(), b.target_ref()))
                .then_with(|| order::by_name(a_meta, b_meta))
        });
        let resolved: Vec<_> = items
            .iter()
            .flat_map(|(item, _, origin)| {
                let sections = resolve::target(snapshot, &origin.policy.meta, item.target_ref());
                sections.into_iter().map(move |section| Resolved { section, item: *item, origin })
            })
            .collect();
        add_up(&resolved)
    }
}

/// An item and one of the resources that it is about.
struct Resolved<'a, E> {
    section: ResourceSection,
    item: &'a E,
    origin: &'a Origin,
}

fn add_up<E: Entry>(items: &[Resolved<'_, E>]) -> ResourceRules<E::Conf> {
    let destinations: BTreeMap<Kri, &ResourceSection> =
        items.iter().filter_map(|item| Some((item.section.kri()?, &item.section))).collect();
    let mut rules = ResourceRules::default();
    for (kri, destination) in destinations {
        let relevant: Vec<_> = items.iter().filter(|item| is_about(&item.section, &kri, destination)).collect();
        let confs: Vec<_> = relevant.iter().map(|item| item.item.conf()).collect();
        let confs: Vec<&E::Conf> = confs.iter().map(|conf| &**conf).collect();
        let rule = ResourceRule {
            resource: Arc::clone(&destination.resource),
            section: destination.section.clone(),
            conf: E::Conf::merge(&confs),
            origins: origins(relevant.iter().map(|item| item.origin), true),
        };
        rules.rules.insert(kri, rule);
    }
    rules
}

/// Whether what is said of `said` holds for a destination: of itself, of the whole that it is a port of, of its mesh.
fn is_about(said: &ResourceSection, kri: &Kri, destination: &ResourceSection) -> bool {
    if said.resource.kind() == Kind::Mesh {
        let of = if destination.resource.kind() == Kind::Mesh { &kri.name } else { &kri.mesh };
        return *said.resource.meta.key.name == **of;
    }
    let same = Kri::of(&said.resource.meta).is_some_and(|said| said == kri.with_section(""));
    match said.resource.kind() {
        Kind::MeshExternalService | Kind::MeshHTTPRoute => same,
        _ => same && (said.section.is_empty() || said.section == destination.section),
    }
}
