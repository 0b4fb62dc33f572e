//! What a peer was told of one type, and what it is still to be told. Both publishers keep one of these for each type.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use crate::fault::Fault;
use crate::view::{Changes, Interest, View};

/// Types that one stream may ask for. There are not that many.
pub const MOST_TYPES: usize = 256;
/// Longest name of a type, in bytes.
pub const LONGEST_TYPE: usize = 256;
/// What the names that one stream asks for may take, in bytes, each with what it takes to keep it.
pub const MOST_NAMES: usize = 16 << 20;
/// What it takes to keep a name beside its text, in bytes; about.
const PER_NAME: usize = 64;
/// Longest refusal that is handed on, in bytes.
const LONGEST_MESSAGE: usize = 16 << 10;

/// Type of Envoy's clusters.
pub const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type of the endpoints of Envoy's clusters, of the same name.
pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Type of Envoy's listeners.
pub const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// What a stream knows of one type.
#[derive(Debug)]
pub struct Told<M> {
    pub interest: Interest,
    /// Names that are to be told whether they differ or not: they were asked for since the last response.
    asked: BTreeSet<String>,
    /// What the peer held when it came, version by name. Counts until the first response.
    holds: BTreeMap<String, String>,
    /// The moment that was sent last; acknowledged or not, it is not sent again (kds-wire 3.2 rule 4).
    sent: Option<M>,
    /// Nonce of the response that is not answered yet.
    pub unanswered: Option<String>,
}

impl<M: Clone> Told<M> {
    pub fn new(interest: Interest, holds: BTreeMap<String, String>) -> Self {
        Self { interest, asked: BTreeSet::new(), holds, sent: None, unanswered: None }
    }

    /// What it takes to keep the names, in bytes.
    pub fn size(&self) -> usize {
        let names = match &self.interest {
            Interest::All => 0,
            Interest::Names(names) => names.iter().map(|name| size(name)).sum(),
        };
        names + self.holds.iter().map(|(name, version)| size(name) + size(version)).sum::<usize>()
    }

    /// Nothing counts as told any more.
    pub fn begin_again(&mut self) {
        self.asked.clear();
        self.sent = None;
    }

    /// The peer asks for names, be it again. To who gets everything that means nothing.
    pub fn ask<'a>(&mut self, more: impl IntoIterator<Item = &'a String>) {
        let Interest::Names(names) = &mut self.interest else { return };
        for name in more {
            names.insert(name.clone());
            self.asked.insert(name.clone());
        }
    }

    /// The peer no longer asks for names. It forgets them by itself.
    pub fn drop<'a>(&mut self, less: impl IntoIterator<Item = &'a String>) {
        let Interest::Names(names) = &mut self.interest else { return };
        for name in less {
            names.remove(name);
            self.asked.remove(name);
        }
    }

    /// Names that are to be told again, as far as the peer asked for them.
    pub fn tell_again(&mut self, names: &BTreeSet<String>) {
        let asked = names.iter().filter(|name| is_of(&self.interest, name));
        self.asked.extend(asked.cloned());
    }

    /// What is to be told now, if anything is: everything first, be it nothing; then what differs.
    pub fn due<V: View<Moment = M> + ?Sized>(&mut self, view: &V, type_url: &str, now: &M) -> Option<Changes> {
        // Also when nothing differs: an old moment would keep alive what is long gone.
        let sent = self.sent.replace(now.clone());
        let mut asked = mem::take(&mut self.asked);
        let mut changes = match &self.interest {
            Interest::Names(names) if sent.is_none() => {
                asked.clone_from(names);
                Changes::default()
            }
            interest => view.changes(type_url, interest, sent.as_ref(), now),
        };
        changes.put.retain(|resource| is_of(&self.interest, &resource.name));
        changes.removed.retain(|name| is_of(&self.interest, name));
        if !asked.is_empty() {
            let all = Interest::Names(asked.clone());
            changes.put.retain(|resource| !asked.contains(&*resource.name));
            changes.removed.retain(|name| !asked.contains(name));
            let told = view.changes(type_url, &all, None, now).put;
            let told: Vec<_> = told.into_iter().filter(|resource| asked.contains(&*resource.name)).collect();
            for resource in &told {
                asked.remove(&*resource.name);
            }
            changes.put.extend(told);
            // Who asks for what is not there would wait for it.
            changes.removed.extend(asked);
        }
        if sent.is_none() {
            self.leave_out_held(&mut changes);
            return Some(changes);
        }
        (!changes.put.is_empty() || !changes.removed.is_empty()).then_some(changes)
    }

    /// Leaves out what the peer holds already, and removes what it holds and should not.
    fn leave_out_held(&mut self, changes: &mut Changes) {
        let mut holds = mem::take(&mut self.holds);
        changes
            .put
            .retain(|resource| holds.remove(&*resource.name).is_none_or(|version| *version != *resource.version));
        holds.retain(|name, _| !changes.removed.contains(name) && is_of(&self.interest, name));
        changes.removed.extend(holds.into_keys());
    }
}

fn is_of(interest: &Interest, name: &str) -> bool {
    match interest {
        Interest::All => true,
        Interest::Names(names) => names.contains(name),
    }
}

fn size(name: &str) -> usize {
    name.len() + PER_NAME
}

/// Refuses a name of a type that cannot be one.
pub fn check_type(type_url: &str) -> Result<(), Fault> {
    match type_url.len() {
        0 => Err(Fault::NoType),
        1..=LONGEST_TYPE => Ok(()),
        _ => Err(Fault::LongType),
    }
}

/// The words of a refusal, cut to what a log bears.
pub fn cut(message: &str) -> String {
    if message.len() <= LONGEST_MESSAGE {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(LONGEST_MESSAGE);
    format!("{} …", &message[..end])
}
