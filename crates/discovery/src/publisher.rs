//! The end that tells: an xDS server for one stream (kds-wire 3.2, 3.8), to a control plane or to Envoy.
//!
//! What a peer may do that is of no use, and what comes of it:
//!
//! | the peer | the publisher |
//! |---|---|
//! | answers what was not sent, or was answered, or has another nonce | ignores that; names that come with it count |
//! | answers of a type that it did not ask for | ignores it all |
//! | refuses | counts it as told: it is told again when it changes |
//! | asks again without names, or for `*` | begins that type anew; what is not answered no longer counts |
//! | asks for names, again or not | tells of each, be it that there is none |
//! | drops names | tells nothing of them any more |
//! | asks for names while it gets everything | changes nothing |
//! | asks for an unknown type | tells it that there is nothing |
//! | says what it holds when it asks first | tells what differs from that |
//! | refuses without a nonce, names no type, wants too much | ends the stream, with a [`Fault`] |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kds_proto::envoy::config::core::v3::ControlPlane;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

use crate::fault::Fault;
use crate::told::{CLUSTERS, ENDPOINTS, MOST_NAMES, MOST_TYPES, Told, check_type, cut};
use crate::view::{Changes, Encoded, Interest, View};

/// What one stream was told so far. `M` is the [moment](View::Moment) of its view.
#[derive(Debug)]
pub struct Publisher<M> {
    identifier: String,
    last_nonce: u64,
    /// By type. Their order is that of the responses, and Envoy wants clusters before endpoints, listeners, routes and
    /// secrets: so they are called.
    types: BTreeMap<Arc<str>, Told<M>>,
}

/// What a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The peer wants a type, or other names of it.
    Subscribed,
    /// It took the last response.
    Acknowledged,
    /// It refused some of the last response.
    Refused {
        /// Its words, cut when they are very long.
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
        check_type(&request.type_url)?;
        let type_url = match self.types.get_key_value(request.type_url.as_str()) {
            Some((known, _)) => Arc::clone(known),
            None => request.type_url.as_str().into(),
        };
        let heard = if request.response_nonce.is_empty() {
            if request.error_detail.is_some() {
                return Err(Fault::RefusalOfNothing(request.type_url.clone()));
            }
            self.subscribe(&type_url, request)?;
            Heard::Subscribed
        } else {
            self.answered(&type_url, request)
        };
        self.check_size(&type_url, request)?;
        Ok((type_url, heard))
    }

    fn subscribe(&mut self, type_url: &Arc<str>, request: &DeltaDiscoveryRequest) -> Result<(), Fault> {
        let holds = || request.initial_resource_versions.clone().into_iter().collect();
        let (more, less) = (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        let Some(told) = self.types.get_mut(type_url) else {
            if self.types.len() >= MOST_TYPES {
                return Err(Fault::TooManyTypes);
            }
            let is_all = more.is_empty() || more.iter().any(is_star);
            let interest = if is_all { Interest::All } else { Interest::Names(more.iter().cloned().collect()) };
            self.types.insert(Arc::clone(type_url), Told::new(interest, holds()));
            return Ok(());
        };
        let begins_again = more.iter().any(is_star) || (more.is_empty() && less.is_empty());
        change(told, request);
        if begins_again {
            *told = Told::new(told.interest.clone(), holds());
        }
        Ok(())
    }

    fn answered(&mut self, type_url: &Arc<str>, request: &DeltaDiscoveryRequest) -> Heard {
        let Some(told) = self.types.get_mut(type_url) else { return Heard::Ignored };
        change(told, request);
        if told.unanswered.as_ref() != Some(&request.response_nonce) {
            return Heard::Ignored;
        }
        told.unanswered = None;
        match &request.error_detail {
            Some(status) => Heard::Refused { message: cut(&status.message) },
            None => Heard::Acknowledged,
        }
    }

    fn check_size(&self, type_url: &str, request: &DeltaDiscoveryRequest) -> Result<(), Fault> {
        let grows = request.resource_names_subscribe.iter().any(|name| !is_star(name))
            || !request.initial_resource_versions.is_empty();
        if grows && self.types.values().map(Told::size).sum::<usize>() > MOST_NAMES {
            return Err(Fault::TooManyNames(type_url.to_owned()));
        }
        Ok(())
    }

    /// Every response that may be sent now. A type whose last response is not answered yet has none.
    ///
    /// Envoy waits for the endpoints of each cluster that changes, so these are told again.
    pub fn offer<V: View<Moment = M> + ?Sized>(&mut self, view: &V, now: &M) -> Vec<DeltaDiscoveryResponse> {
        let Self { identifier, last_nonce, types } = self;
        let mut responses = Vec::new();
        let mut clusters = BTreeSet::new();
        for (type_url, told) in types {
            if **type_url == *ENDPOINTS {
                told.tell_again(&clusters);
            }
            if told.unanswered.is_some() {
                continue;
            }
            let Some(changes) = told.due(view, type_url, now) else { continue };
            if **type_url == *CLUSTERS {
                clusters = changes.put.iter().map(|resource| resource.name.to_string()).collect();
            }
            *last_nonce += 1;
            let nonce = last_nonce.to_string();
            told.unanswered = Some(nonce.clone());
            responses.push(response(type_url, nonce, identifier, changes));
        }
        responses
    }
}

fn is_star(name: &String) -> bool {
    name == "*"
}

/// Takes other names into what a peer is interested in.
fn change<M: Clone>(told: &mut Told<M>, request: &DeltaDiscoveryRequest) {
    let (more, less) = (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
    if more.iter().any(is_star) {
        if told.interest != Interest::All {
            told.interest = Interest::All;
            told.begin_again();
        }
        return;
    }
    if less.iter().any(is_star) && told.interest == Interest::All {
        told.interest = Interest::Names(BTreeSet::new());
    }
    told.ask(more);
    told.drop(less);
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

    fn named(type_url: &str, nonce: &str, more: &[&str], less: &[&str]) -> DeltaDiscoveryRequest {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        DeltaDiscoveryRequest {
            resource_names_subscribe: owned(more),
            resource_names_unsubscribe: owned(less),
            ..request(type_url, nonce)
        }
    }

    /// Names put and removed by the only response.
    fn told(publisher: &mut Publisher<Moment>, now: &Moment) -> (Vec<String>, Vec<String>) {
        let mut responses = publisher.offer(&Everything, now);
        assert_eq!(responses.len(), 1, "{responses:?}");
        let response = responses.remove(0);
        (response.resources.into_iter().map(|resource| resource.name).collect(), response.removed_resources)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn who_asks_for_names_is_told_of_each() {
        let mut publisher = Publisher::new("zone");
        let first = Moment::from([("a", 1), ("b", 1), ("c", 1)]);
        heard(&mut publisher, &named("T", "", &["a", "none"], &[]));
        assert_eq!(told(&mut publisher, &first), (names(&["a"]), names(&["none"])));
        // Before and with an answer; of "a" once more, because it is asked for.
        assert_eq!(heard(&mut publisher, &named("T", "", &["b"], &[])), Heard::Subscribed);
        assert!(publisher.offer(&Everything, &first).is_empty());
        assert_eq!(heard(&mut publisher, &named("T", "1", &["a"], &["none"])), Heard::Acknowledged);
        assert_eq!(told(&mut publisher, &first), (names(&["a", "b"]), names(&[])));
        // With an answer that is none, too.
        assert_eq!(heard(&mut publisher, &named("T", "1", &["c"], &["a"])), Heard::Ignored);
        assert_eq!(heard(&mut publisher, &request("T", "2")), Heard::Acknowledged);
        let second = Moment::from([("a", 2), ("b", 2), ("c", 1)]);
        assert_eq!(told(&mut publisher, &second), (names(&["b", "c"]), names(&[])));
        heard(&mut publisher, &request("T", "3"));
        assert_eq!(told(&mut publisher, &Moment::from([("c", 1)])), (names(&[]), names(&["b"])));
        // From names to everything, and back.
        assert_eq!(heard(&mut publisher, &named("T", "4", &["*"], &[])), Heard::Acknowledged);
        assert_eq!(told(&mut publisher, &second).0, names(&["a", "b", "c"]));
        assert_eq!(heard(&mut publisher, &named("T", "5", &["c"], &["*"])), Heard::Acknowledged);
        assert_eq!(told(&mut publisher, &second), (names(&["c"]), names(&[])));
    }

    #[test]
    fn who_drops_all_names_hears_nothing() {
        let mut publisher = Publisher::new("zone");
        heard(&mut publisher, &named("T", "", &["a"], &[]));
        told(&mut publisher, &Moment::from([("a", 1)]));
        heard(&mut publisher, &named("T", "1", &[], &["a"]));
        assert!(publisher.offer(&Everything, &Moment::from([("a", 2)])).is_empty());
        assert!(publisher.offer(&Everything, &Moment::new()).is_empty());
    }

    #[test]
    fn who_comes_back_is_told_what_differs_from_what_it_holds() {
        let mut publisher = Publisher::new("zone");
        let held = |versions: &[(&str, &str)]| DeltaDiscoveryRequest {
            initial_resource_versions: versions.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            ..request("T", "")
        };
        heard(&mut publisher, &held(&[("a", "1"), ("b", "1"), ("gone", "7")]));
        let now = Moment::from([("a", 1), ("b", 2), ("c", 1)]);
        assert_eq!(told(&mut publisher, &now), (names(&["b", "c"]), names(&["gone"])));
        // Later that counts no more.
        heard(&mut publisher, &request("T", "1"));
        assert_eq!(told(&mut publisher, &Moment::from([("a", 3), ("b", 2), ("c", 1)])).0, names(&["a"]));
    }

    /// A second subscription starts the type anew: everything again, and the answer to the old response is none.
    #[test]
    fn who_asks_again_is_told_everything_again() {
        let mut publisher = Publisher::new("global");
        let now = Moment::from([("a", 1)]);
        heard(&mut publisher, &named("T", "", &["*"], &[]));
        assert_eq!(told(&mut publisher, &now).0, names(&["a"]));
        for again in [named("T", "", &["*"], &[]), request("T", "")] {
            assert_eq!(heard(&mut publisher, &again), Heard::Subscribed);
            assert_eq!(told(&mut publisher, &now).0, names(&["a"]));
        }
        assert_eq!(heard(&mut publisher, &request("T", "1")), Heard::Ignored);
        assert_eq!(heard(&mut publisher, &request("T", "3")), Heard::Acknowledged);
        // Names mean nothing to who gets everything.
        heard(&mut publisher, &named("T", "", &["a"], &["b"]));
        assert!(publisher.offer(&Everything, &now).is_empty());
    }

    /// zone-dataplane 1.4 rule 4: Envoy waits for the endpoints of a cluster that changed.
    #[test]
    fn endpoints_follow_their_cluster() {
        let mut publisher = Publisher::new("zone");
        let now = Moment::from([("a", 1), ("b", 1)]);
        heard(&mut publisher, &named(ENDPOINTS, "", &["a"], &[]));
        publisher.offer(&Everything, &now);
        heard(&mut publisher, &request(ENDPOINTS, "1"));
        heard(&mut publisher, &request(CLUSTERS, ""));
        let told = publisher.offer(&Everything, &now);
        assert_eq!(told.iter().map(|told| &*told.type_url).collect::<Vec<_>>(), [CLUSTERS, ENDPOINTS]);
        assert_eq!(told[1].resources.iter().map(|resource| &*resource.name).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn nobody_fills_the_memory_with_names_or_words() {
        let mut publisher: Publisher<Moment> = Publisher::new("global");
        let long = "x".repeat(300);
        assert_eq!(publisher.heard(&request(&long, "")), Err(Fault::LongType));
        let (mut asked, mut ended) = (0, None);
        while ended.is_none() && asked < 1000 {
            let name = format!("{asked}{}", "x".repeat(1 << 16));
            ended = publisher.heard(&named("T", "", &[&name], &[])).err();
            asked += 1;
        }
        assert_eq!(ended, Some(Fault::TooManyNames("T".into())));
        assert!(asked > 200);

        let mut publisher = Publisher::new("global");
        heard(&mut publisher, &request("T", ""));
        publisher.offer(&Everything, &Moment::new());
        let error_detail = Some(Status { message: "ä".repeat(1 << 20), ..Status::default() });
        let Heard::Refused { message } =
            heard(&mut publisher, &DeltaDiscoveryRequest { error_detail, ..request("T", "1") })
        else {
            panic!("no refusal")
        };
        assert!(message.len() < 1 << 15);
    }
}
