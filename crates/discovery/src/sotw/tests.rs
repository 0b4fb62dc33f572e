use kds_proto::Any;
use kds_proto::google::rpc::Status;

use super::*;
use crate::view::Changes;

/// Versions by name, by type.
type Moment = BTreeMap<&'static str, BTreeMap<&'static str, u32>>;

const SECRETS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

struct Plan;

impl View for Plan {
    type Moment = Moment;

    fn changes(&self, type_url: &str, _: &Interest, from: Option<&Moment>, to: &Moment) -> Changes {
        let empty = BTreeMap::new();
        let from = from.and_then(|from| from.get(type_url)).unwrap_or(&empty);
        let to = to.get(type_url).unwrap_or(&empty);
        let put = to.iter().filter(|(name, version)| from.get(*name) != Some(version));
        let put = put.map(|(name, version)| Encoded {
            name: (*name).into(),
            version: version.to_string().into(),
            resource: Any { type_url: (*name).into(), value: version.to_string().into() },
        });
        let removed = from.keys().filter(|name| !to.contains_key(*name)).map(|name| (*name).to_owned());
        Changes { put: put.collect(), removed: removed.collect() }
    }
}

fn moment(clusters: &[(&'static str, u32)], endpoints: &[(&'static str, u32)]) -> Moment {
    let of = |resources: &[(&'static str, u32)]| resources.iter().copied().collect();
    Moment::from([
        (CLUSTERS, of(clusters)),
        (ENDPOINTS, of(endpoints)),
        (LISTENERS, of(&[("in", 1)])),
        (SECRETS, of(&[("ca", 1), ("identity", 1)])),
    ])
}

fn request(type_url: &str, nonce: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: type_url.into(),
        response_nonce: nonce.into(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

fn heard(publisher: &mut Publisher<Moment>, type_url: &str, nonce: &str, names: &[&str]) -> Heard {
    publisher.heard(&request(type_url, nonce, names)).unwrap().1
}

/// Type, nonce and names of each response.
fn told(publisher: &mut Publisher<Moment>, now: &Moment) -> Vec<(String, String, Vec<String>)> {
    let responses = publisher.offer(&Plan, now).into_iter();
    responses
        .map(|told| (told.type_url, told.nonce, told.resources.into_iter().map(|one| one.type_url).collect()))
        .collect()
}

fn one(type_url: &str, nonce: &str, names: &[&str]) -> Vec<(String, String, Vec<String>)> {
    vec![(type_url.to_owned(), nonce.to_owned(), names.iter().map(|name| (*name).to_owned()).collect())]
}

/// The requests of the recorded session of a sidecar, in their order: names before the first answer, an answer to a
/// response that is not the last any more, clusters with endpoints after them.
#[test]
fn a_recorded_envoy_gets_what_it_asks_for() {
    let mut publisher = Publisher::new("cp");
    let first = moment(&[("a", 1), ("b", 1)], &[("a", 1), ("b", 1)]);
    assert_eq!(heard(&mut publisher, CLUSTERS, "", &[]), Heard::Subscribed);
    assert_eq!(told(&mut publisher, &first), one(CLUSTERS, "1", &["a", "b"]));
    assert_eq!(heard(&mut publisher, ENDPOINTS, "", &["b", "a"]), Heard::Subscribed);
    assert_eq!(heard(&mut publisher, CLUSTERS, "1", &[]), Heard::Acknowledged);
    assert_eq!(told(&mut publisher, &first), one(ENDPOINTS, "2", &["a", "b"]));
    assert_eq!(heard(&mut publisher, SECRETS, "", &["identity"]), Heard::Subscribed);
    assert_eq!(heard(&mut publisher, SECRETS, "", &["ca", "identity"]), Heard::Subscribed);
    assert_eq!(heard(&mut publisher, ENDPOINTS, "2", &["a", "b"]), Heard::Acknowledged);
    assert_eq!(told(&mut publisher, &first), one(SECRETS, "3", &["ca", "identity"]));
    assert_eq!(heard(&mut publisher, LISTENERS, "", &[]), Heard::Subscribed);
    assert_eq!(heard(&mut publisher, SECRETS, "3", &["ca", "identity"]), Heard::Acknowledged);
    assert_eq!(told(&mut publisher, &first), one(LISTENERS, "4", &["in"]));
    assert_eq!(heard(&mut publisher, LISTENERS, "4", &[]), Heard::Acknowledged);
    assert_eq!(told(&mut publisher, &first), []);

    let second = moment(&[("a", 2), ("b", 1)], &[("a", 1), ("b", 1)]);
    let both = [one(CLUSTERS, "5", &["a", "b"]), one(ENDPOINTS, "6", &["a"])].concat();
    assert_eq!(told(&mut publisher, &second), both);
    assert_eq!(heard(&mut publisher, ENDPOINTS, "2", &["a", "b"]), Heard::Ignored);
    assert_eq!(heard(&mut publisher, CLUSTERS, "5", &[]), Heard::Acknowledged);
    assert_eq!(heard(&mut publisher, ENDPOINTS, "6", &["a", "b"]), Heard::Acknowledged);
    assert_eq!(told(&mut publisher, &second), []);
}

#[test]
fn names_come_and_go_and_what_is_gone_is_left_out() {
    let mut publisher = Publisher::new("cp");
    let first = moment(&[("a", 1), ("b", 1)], &[("a", 1), ("b", 1)]);
    heard(&mut publisher, ENDPOINTS, "", &["a", "none"]);
    assert_eq!(told(&mut publisher, &first), one(ENDPOINTS, "1", &["a"]));
    assert_eq!(heard(&mut publisher, ENDPOINTS, "1", &["a"]), Heard::Acknowledged);
    assert_eq!(heard(&mut publisher, ENDPOINTS, "1", &["a", "b"]), Heard::Subscribed);
    assert_eq!(told(&mut publisher, &first), one(ENDPOINTS, "2", &["b"]));
    assert_eq!(heard(&mut publisher, ENDPOINTS, "2", &[]), Heard::Acknowledged);
    assert_eq!(told(&mut publisher, &moment(&[], &[])), []);

    heard(&mut publisher, CLUSTERS, "", &[]);
    assert_eq!(told(&mut publisher, &first), one(CLUSTERS, "3", &["a", "b"]));
    heard(&mut publisher, CLUSTERS, "3", &[]);
    assert_eq!(told(&mut publisher, &moment(&[("b", 1)], &[])), one(CLUSTERS, "4", &["b"]));
}

#[test]
fn what_was_refused_waits_for_a_change() {
    let mut publisher = Publisher::new("cp");
    let bad = moment(&[("a", 1)], &[]);
    heard(&mut publisher, CLUSTERS, "", &[]);
    told(&mut publisher, &bad);
    let error_detail = Some(Status { message: "no".into(), ..Status::default() });
    let refusal = DiscoveryRequest { error_detail, ..request(CLUSTERS, "1", &[]) };
    assert_eq!(publisher.heard(&refusal).unwrap().1, Heard::Refused { message: "no".into() });
    assert_eq!(publisher.heard(&refusal).unwrap().1, Heard::Ignored);
    assert_eq!(told(&mut publisher, &bad), []);
    assert_eq!(told(&mut publisher, &moment(&[("a", 2)], &[])), one(CLUSTERS, "2", &["a"]));
    let of_nothing = DiscoveryRequest { response_nonce: String::new(), ..refusal };
    assert_eq!(publisher.heard(&of_nothing), Err(Fault::RefusalOfNothing(CLUSTERS.into())));
}

/// A version is of the content alone: the same from every instance, whatever came before.
#[test]
fn equal_content_has_an_equal_version() {
    let now = moment(&[("a", 1), ("b", 1)], &[]);
    let version = |moments: &[&Moment]| {
        let mut publisher = Publisher::new("cp");
        heard(&mut publisher, CLUSTERS, "", &[]);
        let mut last = String::new();
        for moment in moments {
            for told in publisher.offer(&Plan, moment) {
                heard(&mut publisher, CLUSTERS, &told.nonce, &[]);
                last = told.version_info;
            }
        }
        last
    };
    assert_eq!(version(&[&now]), version(&[&moment(&[("b", 2)], &[]), &now]));
    assert_ne!(version(&[&now]), version(&[&moment(&[("a", 1), ("b", 2)], &[])]));
}

#[test]
fn nobody_asks_for_too_much() {
    let mut publisher: Publisher<Moment> = Publisher::new("cp");
    assert_eq!(publisher.heard(&request("", "", &[])), Err(Fault::NoType));
    for number in 0..MOST_TYPES {
        publisher.heard(&request(&number.to_string(), "", &[])).unwrap();
    }
    assert_eq!(publisher.heard(&request("more", "", &[])), Err(Fault::TooManyTypes));
    let name = "x".repeat(MOST_NAMES);
    assert_eq!(publisher.heard(&request("1", "", &[&name])), Err(Fault::TooManyNames("1".into())));
}
