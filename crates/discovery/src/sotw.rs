//! The end that tells, state of the world: each request lists all names, each response carries whole resources. Envoy
//! speaks it when it is not configured for the other (zone-dataplane 1.4).
//!
//! Clusters and listeners are told all together whenever one of them differs, since what is missing is gone. Of the other
//! types those are told that differ; Envoy drops them when what refers to them goes.
//!
//! What was refused is not told again before it changes: the proxy keeps what it had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use kds_proto::envoy::config::core::v3::ControlPlane;
use kds_proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};

use crate::fault::Fault;
use crate::publisher::Heard;
use crate::told::{CLUSTERS, ENDPOINTS, LISTENERS, MOST_NAMES, MOST_TYPES, Told, check_type, cut};
use crate::view::{Encoded, Interest, View};

/// What one stream was told so far. `M` is the [moment](View::Moment) of its view.
#[derive(Debug)]
pub struct Publisher<M> {
    identifier: String,
    last_nonce: u64,
    /// By type, in the order in which Envoy wants them.
    types: BTreeMap<Arc<str>, Type<M>>,
}

#[derive(Debug)]
struct Type<M> {
    told: Told<M>,
    /// Nonce of the last response, answered or not; empty before.
    nonce: String,
}

impl<M: Clone> Publisher<M> {
    /// Nothing told yet; `identifier` is what the responses say their sender is called.
    pub fn new(identifier: impl Into<String>) -> Self {
        Self { identifier: identifier.into(), last_nonce: 0, types: BTreeMap::new() }
    }

    /// Takes in a request: its type, and what it says of it. One that answers an older response than the last of its
    /// type is ignored with all its names: the answer to the last one is on its way.
    ///
    /// # Errors
    /// The peer does not keep to the protocol; the stream has to end.
    pub fn heard(&mut self, request: &DiscoveryRequest) -> Result<(Arc<str>, Heard), Fault> {
        check_type(&request.type_url)?;
        let interest = interest(request);
        let Some((type_url, _)) = self.types.get_key_value(request.type_url.as_str()) else {
            // A nonce of an earlier stream says nothing here.
            if self.types.len() >= MOST_TYPES {
                return Err(Fault::TooManyTypes);
            }
            let type_url: Arc<str> = request.type_url.as_str().into();
            let told = Told::new(interest, BTreeMap::new());
            self.types.insert(Arc::clone(&type_url), Type { told, nonce: String::new() });
            return self.check_size(&type_url).map(|()| (type_url, Heard::Subscribed));
        };
        let type_url = Arc::clone(type_url);
        let Some(Type { told, nonce }) = self.types.get_mut(&type_url) else { return Ok((type_url, Heard::Ignored)) };
        if !request.response_nonce.is_empty() && request.response_nonce != *nonce {
            return Ok((type_url, Heard::Ignored));
        }
        let differs = told.interest != interest;
        replace(told, interest);
        let heard = match (&request.error_detail, request.response_nonce.is_empty()) {
            (Some(_), true) => return Err(Fault::RefusalOfNothing(request.type_url.clone())),
            (Some(status), false) if told.unanswered.take().is_some() => {
                Heard::Refused { message: cut(&status.message) }
            }
            (None, false) if told.unanswered.take().is_some() => Heard::Acknowledged,
            _ if differs => Heard::Subscribed,
            _ => Heard::Ignored,
        };
        if differs {
            self.check_size(&type_url)?;
        }
        Ok((type_url, heard))
    }

    fn check_size(&self, type_url: &str) -> Result<(), Fault> {
        let size: usize = self.types.values().map(|one| one.told.size()).sum();
        if size > MOST_NAMES { Err(Fault::TooManyNames(type_url.to_owned())) } else { Ok(()) }
    }

    /// Every response that may be sent now. A type whose last response is not answered yet has none.
    ///
    /// Envoy waits for the endpoints of each cluster that changes, so these are told again.
    pub fn offer<V: View<Moment = M> + ?Sized>(&mut self, view: &V, now: &M) -> Vec<DiscoveryResponse> {
        let Self { identifier, last_nonce, types } = self;
        let mut responses = Vec::new();
        let mut clusters = BTreeSet::new();
        for (type_url, Type { told, nonce }) in types {
            if **type_url == *ENDPOINTS {
                told.tell_again(&clusters);
            }
            if told.unanswered.is_some() {
                continue;
            }
            let is_first = nonce.is_empty();
            let Some(changes) = told.due(view, type_url, now) else { continue };
            if **type_url == *CLUSTERS {
                clusters = changes.put.iter().map(|resource| resource.name.to_string()).collect();
            }
            let is_whole = is_whole(type_url);
            // Nothing can be said of what is gone but by leaving it out.
            if changes.put.is_empty() && !is_whole {
                continue;
            }
            let resources =
                if is_whole && !is_first { view.changes(type_url, &told.interest, None, now).put } else { changes.put };
            *last_nonce += 1;
            *nonce = last_nonce.to_string();
            told.unanswered = Some(nonce.clone());
            responses.push(response(type_url, nonce, identifier, resources));
        }
        responses
    }
}

/// Whether a response of a type is everything there is.
fn is_whole(type_url: &str) -> bool {
    matches!(type_url, CLUSTERS | LISTENERS)
}

fn interest(request: &DiscoveryRequest) -> Interest {
    let names = &request.resource_names;
    if names.iter().any(|name| name == "*") || (names.is_empty() && is_whole(&request.type_url)) {
        return Interest::All;
    }
    Interest::Names(names.iter().cloned().collect())
}

/// Takes over what a peer asks for now. What it did not ask for before is told; the rest is, when it changes.
fn replace<M: Clone>(told: &mut Told<M>, interest: Interest) {
    match (&told.interest, &interest) {
        (Interest::Names(before), Interest::Names(now)) => {
            let (more, less): (Vec<String>, Vec<String>) =
                (now.difference(before).cloned().collect(), before.difference(now).cloned().collect());
            told.ask(&more);
            told.drop(&less);
        }
        (before, now) if before == now => {}
        _ => {
            told.interest = interest;
            told.begin_again();
        }
    }
}

fn response(type_url: &str, nonce: &str, identifier: &str, resources: Vec<Encoded>) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version(&resources),
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        resources: resources.into_iter().map(|resource| resource.resource).collect(),
        control_plane: Some(ControlPlane { identifier: identifier.to_owned() }),
        ..DiscoveryResponse::default()
    }
}

/// Equal for equal resources, on every instance.
fn version(resources: &[Encoded]) -> String {
    let mut names: Vec<_> = resources.iter().map(|resource| (&*resource.name, &*resource.version)).collect();
    names.sort_unstable();
    let mut digest = Context::new(&SHA256);
    for part in names.into_iter().flat_map(|(name, version)| [name, version]) {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    let digest = digest.finish();
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
