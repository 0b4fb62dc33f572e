//! Rules for groups of services or clients that tags describe: what `from` and the older `to` add up to.
//!
//! Every combination of the tags that the items name, absence included, is a group of its own; its configuration is
//! the sum of the items that cover it. So the first rule that contains an element is the one that holds for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::labels::SERVICE_TAG;
use crate::policy::{Entry, Merge, Origin, origins};
use crate::spec::target_ref::{TargetKind, TargetRef};

/// A tag that a member of a group has, or has not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// Name of the tag.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The tag must have another value, or be absent.
    pub not: bool,
}

/// A group: whoever satisfies every tag. Without tags everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subset(pub Vec<Tag>);

impl Subset {
    /// The group that a reference describes; `None` for references to resources alone.
    fn of(target: &TargetRef) -> Option<Self> {
        let own = || target.tags.iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
        let service = || (SERVICE_TAG.to_owned(), target.name.clone().unwrap_or_default());
        let tags: BTreeMap<String, String> = match target.kind {
            TargetKind::Mesh => BTreeMap::new(),
            TargetKind::MeshSubset => own().collect(),
            TargetKind::MeshService => [service()].into(),
            TargetKind::MeshServiceSubset => own().chain([service()]).collect(),
            _ => return None,
        };
        Some(Self(tags.into_iter().map(|(key, value)| Tag { key, value, not: false }).collect()))
    }

    /// How many tags must be there.
    pub fn positives(&self) -> usize {
        self.0.iter().filter(|tag| !tag.not).count()
    }

    /// Whether an element with these tags is a member.
    pub fn contains(&self, element: &BTreeMap<String, String>) -> bool {
        let has = |tag: &Tag| element.get(&tag.key) == Some(&tag.value);
        if self.0.is_empty() {
            return true;
        }
        // Something without any tag is no member of a group that is described by tags, not even by absent ones.
        !element.is_empty() && self.0.iter().all(|tag| has(tag) != tag.not)
    }

    /// Whether every member of `other` is a member of this.
    fn covers(&self, other: &Self) -> bool {
        self.0.iter().all(|tag| {
            let mut same_key = other.0.iter().filter(|theirs| theirs.key == tag.key).peekable();
            same_key.peek().is_some() && same_key.all(|theirs| implies(theirs, tag))
        })
    }

    /// Whether something can be a member of both, absent tags apart.
    fn intersects(&self, other: &Self) -> bool {
        let positive = |subset: &Self| -> Vec<Tag> { subset.0.iter().filter(|tag| !tag.not).cloned().collect() };
        let theirs = positive(other);
        positive(self).iter().all(|tag| theirs.iter().all(|other| other.key != tag.key || other == tag))
    }
}

/// Whether whatever satisfies `a` satisfies `b`; both speak of one key.
fn implies(a: &Tag, b: &Tag) -> bool {
    match (a.not, b.not) {
        (true, true) | (false, false) => a.value == b.value,
        (false, true) => a.value != b.value,
        (true, false) => false,
    }
}

/// What holds for a group.
#[derive(Clone, Debug)]
pub struct SubsetRule<C> {
    /// The group.
    pub subset: Subset,
    /// What holds.
    pub conf: C,
    /// The policies that it came from, the weakest first.
    pub origins: Vec<Origin>,
}

impl<C> SubsetRule<C> {
    /// The same with its configuration in another form.
    pub fn map<D>(self, convert: impl FnOnce(C) -> D) -> SubsetRule<D> {
        SubsetRule { subset: self.subset, conf: convert(self.conf), origins: self.origins }
    }
}

/// The rule that holds for an element.
pub fn compute<'a, C>(rules: &'a [SubsetRule<C>], element: &BTreeMap<String, String>) -> Option<&'a SubsetRule<C>> {
    rules.iter().find(|rule| rule.subset.contains(element))
}

/// An item and where it came from.
pub(super) struct Sourced<C> {
    pub subset: Subset,
    pub conf: C,
    pub origin: Origin,
}

impl<C: Merge> Sourced<C> {
    /// An item that describes a group by tags; `None` for others.
    pub(super) fn of<E: Entry<Conf = C>>(entry: &E, origin: Origin) -> Option<Self> {
        Some(Self { subset: Subset::of(entry.target_ref())?, conf: entry.conf().into_owned(), origin })
    }
}

/// The rules that items add up to, those with more tags first. `negations`: groups are told apart by absent tags too, as
/// clients are; destinations have one tag and need none.
pub(super) fn build<C: Merge>(items: &[Sourced<C>], negations: bool) -> Vec<SubsetRule<C>> {
    let keys: BTreeSet<&str> = items.iter().flat_map(|item| &item.subset.0).map(|tag| tag.key.as_str()).collect();
    if !negations && keys.len() <= 1 {
        let mut seen = BTreeSet::new();
        let distinct = items.iter().map(|item| &item.subset).filter(|subset| seen.insert((*subset).clone()));
        let mut rules: Vec<_> = distinct.flat_map(|subset| rules_of(subset.clone(), items)).collect();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.subset.0.len()));
        return rules;
    }
    let subsets: Vec<&Subset> = items.iter().map(|item| &item.subset).collect();
    let mut rules = Vec::new();
    for group in cliques(&subsets) {
        let tags: BTreeSet<&Tag> = group.iter().flat_map(|position| &subsets[*position].0).collect();
        rules.extend(combinations(&tags).into_iter().flat_map(|subset| rules_of(subset, items)));
    }
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.subset.positives()));
    rules
}

fn rules_of<C: Merge>(subset: Subset, items: &[Sourced<C>]) -> Vec<SubsetRule<C>> {
    let relevant: Vec<&Sourced<C>> = items.iter().filter(|item| item.subset.covers(&subset)).collect();
    let confs: Vec<&C> = relevant.iter().map(|item| &item.conf).collect();
    let from = origins(relevant.iter().map(|item| &item.origin), false);
    let rule = |conf| SubsetRule { subset: subset.clone(), conf, origins: from.clone() };
    C::merge(&confs).into_iter().map(rule).collect()
}

/// Every choice of one value, or of none, for each key: the last key varies slowest, the last value comes first.
fn combinations(tags: &BTreeSet<&Tag>) -> Vec<Subset> {
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tag in tags {
        by_key.entry(&tag.key).or_default().push(&tag.value);
    }
    let mut all = vec![Vec::new()];
    for (key, values) in by_key.iter().rev() {
        let tag = |value: &str, not| Tag { key: (*key).to_owned(), value: value.to_owned(), not };
        let mut choices: Vec<Vec<Tag>> = values.iter().rev().map(|value| vec![tag(value, false)]).collect();
        choices.push(values.iter().map(|value| tag(value, true)).collect());
        all = all
            .iter()
            .flat_map(|rest| choices.iter().map(move |choice| [choice.as_slice(), rest.as_slice()].concat()))
            .collect();
    }
    // The counter starts at its second state and ends with its first.
    all.rotate_left(1);
    all.into_iter().map(Subset).collect()
}

/// The largest sets of items of which every two intersect (Bron and Kerbosch), in the order of their positions as text,
/// the last first.
fn cliques(subsets: &[&Subset]) -> Vec<Vec<usize>> {
    let edges: Vec<BTreeSet<usize>> = (0..subsets.len())
        .map(|a| (0..subsets.len()).filter(|b| a != *b && subsets[a].intersects(subsets[*b])).collect())
        .collect();
    let mut found = Vec::new();
    extend(&edges, &BTreeSet::new(), (0..subsets.len()).collect(), BTreeSet::new(), &mut found);
    let text = |clique: &Vec<usize>| clique.iter().map(usize::to_string).collect::<Vec<_>>().join(":");
    found.sort_by_key(|clique| std::cmp::Reverse(text(clique)));
    found
}

fn extend(
    edges: &[BTreeSet<usize>],
    clique: &BTreeSet<usize>,
    mut candidates: BTreeSet<usize>,
    mut excluded: BTreeSet<usize>,
    found: &mut Vec<Vec<usize>>,
) {
    if candidates.is_empty() && excluded.is_empty() {
        found.push(clique.iter().copied().collect());
        return;
    }
    let pivot = candidates.union(&excluded).max_by_key(|node| edges[**node].intersection(&candidates).count());
    let pivot_edges = pivot.map(|pivot| edges[*pivot].clone()).unwrap_or_default();
    for node in candidates.clone().difference(&pivot_edges) {
        let mut larger = clique.clone();
        larger.insert(*node);
        let both = |set: &BTreeSet<usize>| set.intersection(&edges[*node]).copied().collect();
        extend(edges, &larger, both(&candidates), both(&excluded), found);
        candidates.remove(node);
        excluded.insert(*node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str, not: bool) -> Tag {
        Tag { key: key.into(), value: value.into(), not }
    }

    fn element(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
        tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_member_satisfies_every_tag() {
        let group = Subset(vec![tag("service", "web", false), tag("zone", "east", true)]);
        assert!(group.contains(&element(&[("service", "web"), ("zone", "west")])));
        assert!(group.contains(&element(&[("service", "web")])), "an absent tag is another value");
        assert!(!group.contains(&element(&[("service", "web"), ("zone", "east")])));
        assert!(!group.contains(&element(&[("zone", "west")])));
        assert!(Subset::default().contains(&element(&[])));
        assert!(Subset(vec![tag("zone", "east", true)]).contains(&element(&[("service", "web")])));
    }

    #[test]
    fn combinations_are_every_choice_for_every_key() {
        let (a1, a2, b1) = (tag("a", "1", false), tag("a", "2", false), tag("b", "1", false));
        let text: Vec<String> = combinations(&[&a1, &a2, &b1].into())
            .iter()
            .map(|subset| {
                subset.0.iter().map(|t| format!("{}{}{} ", if t.not { "!" } else { "" }, t.key, t.value)).collect()
            })
            .collect();
        assert_eq!(text, ["a1 b1 ", "!a1 !a2 b1 ", "a2 !b1 ", "a1 !b1 ", "!a1 !a2 !b1 ", "a2 b1 "]);
        assert_eq!(combinations(&BTreeSet::new()), [Subset::default()]);
    }

    #[test]
    fn cliques_are_sets_of_items_that_can_hold_together() {
        let service = |name| Subset(vec![tag("service", name, false)]);
        let (all, web, api) = (Subset::default(), service("web"), service("api"));
        assert_eq!(cliques(&[&all, &web, &api]), [vec![0, 2], vec![0, 1]]);
        assert_eq!(cliques(&[&web]), [vec![0]]);
    }
}
