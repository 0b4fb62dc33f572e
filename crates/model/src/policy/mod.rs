//! Which policies hold for a proxy and what they add up to: one matcher for every kind.
//!
//! ```text
//! snapshot ─select─► policies of one kind for one proxy, weakest first ([`Matched`])
//!                      ├─ `from`  ─► rules by client ([`SubsetRule`]), one list per inbound
//!                      ├─ `rules` ─► rules in order ([`InboundRule`]), one list per inbound
//!                      ├─ `to`    ─► rules by service tag ([`SubsetRule`]) and by resource ([`ResourceRules`])
//!                      └─ neither ─► one configuration for the whole proxy
//! ```
//!
//! A kind takes part by its [`Policy`] and by how its configurations add up ([`Merge`]); nothing but [`Summary`] names a
//! kind. The older policies, which select by tags alone, are in [`tagged`]. Every result tells which policies it came from ([`Origin`]), as the API's inspection shows it.

pub mod attachment;
mod entry;
mod inbound;
mod merge;
mod order;
mod outbound;
mod reachable;
mod resolve;
mod select;
mod subset;
mod summary;
pub mod tagged;

use std::sync::Arc;

pub use entry::Entry;
pub use inbound::InboundRule;
pub use merge::Merge;
pub use outbound::{ResourceRule, ResourceRules};
pub use reachable::{ServicePort, reachable};
pub use resolve::{ResourceSection, backend, target};
pub use select::{Matched, MatchedPolicy, Proxy, describes, holds};
pub use subset::{Subset, SubsetRule, Tag, compute};
pub use summary::Summary;

use crate::resource::Resource;
use crate::spec::target_ref::Policy;

/// What a configuration came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The policy.
    pub policy: Arc<Resource>,
    /// Which item of its list, counted from 0.
    pub index: usize,
}

/// Origins without repetition, in order; items of one policy count as one unless `by_item`.
fn origins<'a>(all: impl IntoIterator<Item = &'a Origin>, by_item: bool) -> Vec<Origin> {
    let mut distinct: Vec<Origin> = Vec::new();
    for origin in all {
        let same = |known: &Origin| {
            known.policy.meta.key == origin.policy.meta.key && (!by_item || known.index == origin.index)
        };
        if !distinct.iter().any(same) {
            distinct.push(origin.clone());
        }
    }
    distinct
}

/// What a policy without lists says, merged over all that hold for a proxy; `None` when none does.
pub fn whole_proxy<P: Policy, C: Merge>(matched: &Matched<P>, conf: impl Fn(&P) -> &C) -> Option<(C, Vec<Origin>)> {
    let confs: Vec<&C> = matched.policies().iter().map(|policy| conf(&policy.spec)).collect();
    let merged = C::merge(&confs).into_iter().next()?;
    let all: Vec<Origin> = matched.policies().iter().map(|policy| policy.origin(0)).collect();
    Some((merged, origins(&all, false)))
}

#[cfg(test)]
mod tests;
