//! The end that tells: an xDS server for one stream (kds-wire 3.2, 3.8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kds_proto::envoy::config::core::v3::ControlPlane;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

use crate::fault::Fault;
use crate::view::{Changes, Encoded, Interest, View};

/// Types that one stream may ask for. There are not that many.
const MOST_TYPES: usize = 256;
/// Names that one stream may ask for, of one type.
const MOST_NAMES: usize = 100_000;

/// What one stream was told so far. `M` is the [moment](View::Moment) of its view.
#[derive(Debug)]
pub struct Publisher<M> {
    identifier: String,
    last_nonce: u64,
    types: BTreeMap<Arc<str>, Told<M>>,
}

/// What a stream knows of one type.
#[derive(Debug)]
struct Told<M> {
    interest: Interest,
    /// The moment that was sent last; acknowledged or not, it is not sent again (kds-wire 3.2 rule 4).
    sent: Option<M>,
    /// Nonce of the response that is not answered yet.
    unanswered: Option<String>,
}

/// What a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The peer wants a type.
    Subscribed,
    /// It took the last response.
    Acknowledged,
    /// It refused some of the last response.
    Refused {
        /// Its words.
        message: String,
    },
    /// It answers what was not sent or is answered already; nothing follows from that.
    Ignored,
}

impl<M: Clone> Publisher<M> {
    /// Nothing told yet; `identifier` is what the responses say their sender is called.
    pub fn new(identifier: impl Into<String>) -> Self {
        Self { identifier: identifier.into(), last_nonce: 0, types: BTreeMap::new() }
    }

    /// Takes in a request: its type, and what it says of it.
    ///
    /// # Errors
    /// The peer does not keep to the protocol; the stream has to end.
    pub fn heard(&mut self, request: &DeltaDiscoveryRequest) -> Result<(Arc<str>, Heard), Fault> {
        if request.type_url.is_empty() {
            return Err(Fault::NoType);
        }
        let type_url: Arc<str> = request.type_url.as_str().into();
        let heard = if request.response_nonce.is_empty() {
            if request.error_detail.is_some() {
                return Err(Fault::RefusalOfNothing(request.type_url.clone()));
            }
            self.subscribe(&type_url, request)?;
            Heard::Subscribed
        } else {
            self.answered(&type_url, request)
        };
        Ok((type_url, heard))
    }

    fn subscribe(&mut self, type_url: &Arc<str>, request: &DeltaDiscoveryRequest) -> Result<(), Fault> {
        let before = self.types.get(type_url);
        if before.is_none() && self.types.len() >= MOST_TYPES {
            return Err(Fault::TooManyTypes);
        }
        let interest = interest(before.map(|told| &told.interest), request);
        if let Interest::Names(names) = &interest
            && names.len() > MOST_NAMES
        {
            return Err(Fault::TooManyNames(type_url.to_string()));
        }
        // Who subscribes, be it again, is told everything.
        self.types.insert(Arc::clone(type_url), Told { interest, sent: None, unanswered: None });
        Ok(())
    }

    fn answered(&mut self, type_url: &Arc<str>, request: &DeltaDiscoveryRequest) -> Heard {
        let Some(told) = self.types.get_mut(type_url) else { return Heard::Ignored };
        if told.unanswered.as_ref() != Some(&request.response_nonce) {
            return Heard::Ignored;
        }
        told.unanswered = None;
        match &request.error_detail {
            Some(status) => Heard::Refused { message: status.message.clone() },
            None => Heard::Acknowledged,
        }
    }

    /// Every response that may be sent now. A type whose last response is not answered yet has none.
    pub fn offer<V: View<Moment = M> + ?Sized>(&mut self, view: &V, now: &M) -> Vec<DeltaDiscoveryResponse> {
        let Self { identifier, last_nonce, types } = self;
        let mut responses = Vec::new();
        for (type_url, told) in types.iter_mut().filter(|(_, told)| told.unanswered.is_none()) {
            let changes = view.changes(type_url, &told.interest, told.sent.as_ref(), now);
            let is_first = told.sent.is_none();
            // Also when nothing differs: an old moment would keep alive what is long gone.
            told.sent = Some(now.clone());
            if !is_first && changes.put.is_empty() && changes.removed.is_empty() {
                continue;
            }
            *last_nonce += 1;
            let nonce = last_nonce.to_string();
            told.unanswered = Some(nonce.clone());
            responses.push(response(type_url, nonce, identifier, changes));
        }
        responses
    }
}

/// What a peer is interested in after a subscription.
fn interest(before: Option<&Interest>, request: &DeltaDiscoveryRequest) -> Interest {
    let (more, less) = (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
    let is_all = |name: &String| name == "*";
    if more.iter().any(is_all) || (before.is_none() && more.is_empty()) {
        return Interest::All;
    }
    let mut names = match before {
        Some(Interest::All) if !less.iter().any(is_all) => return Interest::All,
        Some(Interest::Names(names)) => names.clone(),
        _ => BTreeSet::new(),
    };
    names.extend(more.iter().cloned());
    names.retain(|name| !less.contains(name));
    Interest::Names(names)
}

fn response(type_url: &str, nonce: String, identifier: &str, changes: Changes) -> DeltaDiscoveryResponse {
    let resource = |Encoded { name, version, resource }: Encoded| Resource {
        name: name.to_string(),
        version: version.to_string(),
        resource: Some(resource),
        ..Resource::default()
    };
    DeltaDiscoveryResponse {
        type_url: type_url.to_owned(),
        nonce,
        resources: changes.put.into_iter().map(resource).collect(),
        removed_resources: changes.removed,
        control_plane: Some(ControlPlane { identifier: identifier.to_owned() }),
        ..DeltaDiscoveryResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kds_proto::google::rpc::Status;

    use super::*;

    type Moment = BTreeMap<&'static str, u32>;

    /// Every type holds the same: the moment itself.
    struct Everything;

    impl View for Everything {
        type Moment = Moment;

        fn changes(&self, type_url: &str, _: &Interest, from: Option<&Moment>, to: &Moment) -> Changes {
            if type_url == "Unknown" {
                return Changes::default();
            }
            let empty = Moment::new();
            let from = from.unwrap_or(&empty);
            let put = to.iter().filter(|(name, version)| from.get(*name) != Some(version));
            let put = put.map(|(name, version)| Encoded {
                name: (*name).into(),
                version: version.to_string().into(),
                resource: kds_proto::Any::default(),
            });
            let removed = from.keys().filter(|name| !to.contains_key(*name));
            Changes { put: put.collect(), removed: removed.map(|name| (*name).to_owned()).collect() }
        }
    }

    fn request(type_url: &str, nonce: &str) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest { type_url: type_url.into(), response_nonce: nonce.into(), ..Default::default() }
    }

    fn summary(responses: &[DeltaDiscoveryResponse]) -> Vec<(String, String, usize, Vec<String>)> {
        let one = |response: &DeltaDiscoveryResponse| {
            let (type_url, nonce) = (response.type_url.clone(), response.nonce.clone());
            (type_url, nonce, response.resources.len(), response.removed_resources.clone())
        };
        responses.iter().map(one).collect()
    }

    fn heard(publisher: &mut Publisher<Moment>, request: &DeltaDiscoveryRequest) -> Heard {
        publisher.heard(request).unwrap().1
    }

    /// KDS-29, KDS-31, KDS-32, KDS-33: everything first, then differences, one response of a type at a time.
    #[test]
    fn differences_follow_the_whole_one_at_a_time() {
        let mut publisher = Publisher::new("global");
        let first = Moment::from([("a", 1), ("b", 1)]);
        assert!(publisher.offer(&Everything, &first).is_empty());
        assert_eq!(heard(&mut publisher, &request("Mesh", "")), Heard::Subscribed);
        assert_eq!(heard(&mut publisher, &request("Unknown", "")), Heard::Subscribed);
        let told = publisher.offer(&Everything, &first);
        assert_eq!(summary(&told), [("Mesh".into(), "1".into(), 2, vec![]), ("Unknown".into(), "2".into(), 0, vec![])]);
        assert_eq!(told[0].control_plane.as_ref().unwrap().identifier, "global");

        let second = Moment::from([("a", 2)]);
        assert!(publisher.offer(&Everything, &second).is_empty());
        assert_eq!(heard(&mut publisher, &request("Mesh", "1")), Heard::Acknowledged);
        let told = publisher.offer(&Everything, &second);
        assert_eq!(summary(&told), [("Mesh".into(), "3".into(), 1, vec!["b".into()])]);
        assert_eq!(heard(&mut publisher, &request("Mesh", "3")), Heard::Acknowledged);
        assert!(publisher.offer(&Everything, &second).is_empty());
    }

    /// KDS-34: what was refused is not sent again before it changes.
    #[test]
    fn what_was_refused_is_not_sent_again() {
        let mut publisher = Publisher::new("global");
        let first = Moment::from([("a", 1)]);
        heard(&mut publisher, &request("Mesh", ""));
        publisher.offer(&Everything, &first);
        let error_detail = Some(Status { message: "bad".into(), ..Status::default() });
        let refusal = DeltaDiscoveryRequest { error_detail, ..request("Mesh", "1") };
        assert_eq!(heard(&mut publisher, &refusal), Heard::Refused { message: "bad".into() });
        assert!(publisher.offer(&Everything, &first).is_empty());
        assert_eq!(publisher.offer(&Everything, &Moment::from([("a", 2)])).len(), 1);
    }

    #[test]
    fn an_answer_to_nothing_changes_nothing() {
        let mut publisher = Publisher::new("global");
        assert_eq!(heard(&mut publisher, &request("Mesh", "7")), Heard::Ignored);
        heard(&mut publisher, &request("Mesh", ""));
        publisher.offer(&Everything, &Moment::new());
        assert_eq!(heard(&mut publisher, &request("Mesh", "7")), Heard::Ignored);
        assert!(publisher.offer(&Everything, &Moment::from([("a", 1)])).is_empty());
        assert_eq!(heard(&mut publisher, &request("Mesh", "1")), Heard::Acknowledged);
        assert_eq!(heard(&mut publisher, &request("Mesh", "1")), Heard::Ignored);
    }

    #[test]
    fn who_breaks_the_protocol_is_told_how() {
        let mut publisher: Publisher<Moment> = Publisher::new("global");
        assert_eq!(publisher.heard(&request("", "")), Err(Fault::NoType));
        let error_detail = Some(Status::default());
        let nothing = DeltaDiscoveryRequest { error_detail, ..request("Mesh", "") };
        assert_eq!(publisher.heard(&nothing), Err(Fault::RefusalOfNothing("Mesh".into())));
        for number in 0..MOST_TYPES {
            publisher.heard(&request(&number.to_string(), "")).unwrap();
        }
        assert_eq!(publisher.heard(&request("one more", "")), Err(Fault::TooManyTypes));
    }

    #[test]
    fn names_are_added_and_dropped() {
        let names = |more: &[&str], less: &[&str]| DeltaDiscoveryRequest {
            resource_names_subscribe: more.iter().map(|name| (*name).to_owned()).collect(),
            resource_names_unsubscribe: less.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        let set = |names: &[&str]| Interest::Names(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(interest(None, &names(&[], &[])), Interest::All);
        assert_eq!(interest(None, &names(&["*"], &[])), Interest::All);
        assert_eq!(interest(None, &names(&["a", "b"], &[])), set(&["a", "b"]));
        assert_eq!(interest(Some(&set(&["a"])), &names(&["b"], &["a"])), set(&["b"]));
        assert_eq!(interest(Some(&Interest::All), &names(&["a"], &["*"])), set(&["a"]));
    }
}
