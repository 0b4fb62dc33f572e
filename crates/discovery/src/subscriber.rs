//! The end that is told: an xDS client for one stream (kds-wire 3.2, 3.3, 3.8).

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use kds_proto::google::rpc::Status;

use crate::fault::Fault;
use crate::told::cut;

/// What one stream asked for, and whether it has been told everything of it.
#[derive(Debug)]
pub struct Subscriber {
    /// Id of the node, which every answer repeats.
    id: String,
    /// By type: whether a response has been answered.
    types: BTreeMap<Arc<str>, bool>,
}

/// What a peer tells. The nonce never leaves this crate.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The type.
    pub type_url: Arc<str>,
    /// Whether this is everything there is of the type: what is missing is gone (kds-wire 3.3).
    pub complete: bool,
    /// What is new or other than it was.
    pub resources: Vec<Resource>,
    /// Names of what is gone; without meaning when the update is complete.
    pub removed: Vec<String>,
    nonce: String,
}

impl Update {
    /// An update as a peer would send it, for tests of those who take it.
    pub fn new(type_url: &str, complete: bool, resources: Vec<Resource>, removed: Vec<String>) -> Self {
        Self { type_url: type_url.into(), complete, resources, removed, nonce: "1".to_owned() }
    }
}

impl Subscriber {
    /// A subscriber to these types, and the request for each of them (KDS-26): the full node goes with all of them.
    pub fn subscribe<'a>(types: impl IntoIterator<Item = &'a str>, node: &Node) -> (Self, Vec<DeltaDiscoveryRequest>) {
        let types: BTreeMap<Arc<str>, bool> = types.into_iter().map(|type_url| (type_url.into(), false)).collect();
        let request = |type_url: &Arc<str>| DeltaDiscoveryRequest {
            node: Some(node.clone()),
            type_url: type_url.to_string(),
            resource_names_subscribe: vec!["*".to_owned()],
            ..DeltaDiscoveryRequest::default()
        };
        let requests = types.keys().map(request).collect();
        (Self { id: node.id.clone(), types }, requests)
    }

    /// Takes in a response.
    ///
    /// # Errors
    /// It is one that nobody asked for or that cannot be answered; the stream has to end.
    pub fn received(&self, response: DeltaDiscoveryResponse) -> Result<Update, Fault> {
        if response.type_url.is_empty() {
            return Err(Fault::NoType);
        }
        let Some((type_url, answered)) = self.types.get_key_value(response.type_url.as_str()) else {
            return Err(Fault::UnaskedType(response.type_url));
        };
        if response.nonce.is_empty() {
            return Err(Fault::NoNonce(response.type_url));
        }
        Ok(Update {
            type_url: Arc::clone(type_url),
            complete: !answered,
            resources: response.resources,
            removed: response.removed_resources,
            nonce: response.nonce,
        })
    }

    /// The answer to an update that was taken.
    pub fn accepted(&mut self, update: &Update) -> DeltaDiscoveryRequest {
        self.answer(update)
    }

    /// The answer to an update of which some could not be taken; the message says what and why, and is cut when it is
    /// very long.
    pub fn refused(&mut self, update: &Update, message: &str) -> DeltaDiscoveryRequest {
        let status = Status { message: cut(message), ..Status::default() };
        DeltaDiscoveryRequest {
            resource_names_subscribe: vec!["*".to_owned()],
            error_detail: Some(status),
            ..self.answer(update)
        }
    }

    fn answer(&mut self, update: &Update) -> DeltaDiscoveryRequest {
        self.types.insert(Arc::clone(&update.type_url), true);
        DeltaDiscoveryRequest {
            node: Some(Node { id: self.id.clone(), ..Node::default() }),
            type_url: update.type_url.to_string(),
            response_nonce: update.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(type_url: &str, nonce: &str) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse { type_url: type_url.into(), nonce: nonce.into(), ..Default::default() }
    }

    /// KDS-26, KDS-27: one request per type, with `*`, without nonce, with the node.
    #[test]
    fn each_type_is_asked_for_once() {
        let node = Node { id: "east".into(), user_agent_name: "x".into(), ..Node::default() };
        let (_, requests) = Subscriber::subscribe(["Mesh", "Secret"], &node);
        assert_eq!(requests.len(), 2);
        for request in requests {
            assert_eq!(request.node.as_ref(), Some(&node));
            assert_eq!((request.resource_names_subscribe, &*request.response_nonce), (vec!["*".to_owned()], ""));
        }
    }

    /// KDS-39, KDS-42, kds-wire 3.8: the first response is everything; an answer repeats the nonce and the id alone.
    #[test]
    fn the_first_response_of_a_type_is_complete() {
        let node = Node { id: "east".into(), user_agent_name: "x".into(), ..Node::default() };
        let (mut subscriber, _) = Subscriber::subscribe(["Mesh", "Secret"], &node);
        let first = subscriber.received(response("Mesh", "5")).unwrap();
        assert!(first.complete);
        let refusal = subscriber.refused(&first, "no");
        assert_eq!(refusal.node, Some(Node { id: "east".into(), ..Node::default() }));
        assert_eq!((&*refusal.response_nonce, refusal.resource_names_subscribe), ("5", vec!["*".to_owned()]));
        assert_eq!((refusal.error_detail.as_ref().unwrap().code, &*refusal.error_detail.unwrap().message), (0, "no"));
        let second = subscriber.received(response("Mesh", "6")).unwrap();
        assert!(!second.complete && subscriber.received(response("Secret", "7")).unwrap().complete);
        let acknowledgement = subscriber.accepted(&second);
        assert_eq!((&*acknowledgement.response_nonce, acknowledgement.error_detail), ("6", None));
        assert!(acknowledgement.resource_names_subscribe.is_empty());
    }

    #[test]
    fn what_nobody_asked_for_is_a_fault() {
        let (subscriber, _) = Subscriber::subscribe(["Mesh"], &Node::default());
        assert_eq!(subscriber.received(response("", "1")), Err(Fault::NoType));
        assert_eq!(subscriber.received(response("Zone", "1")), Err(Fault::UnaskedType("Zone".into())));
        assert_eq!(subscriber.received(response("Mesh", "")), Err(Fault::NoNonce("Mesh".into())));
    }
}
