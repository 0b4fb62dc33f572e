//! What a call says of its caller, in its metadata (kds-wire 2.1).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use tonic::metadata::MetadataMap;

use super::ending::Refusal;

/// Largest credential that is looked at, in bytes.
const MAX_CREDENTIAL: usize = 16 << 10;

/// Who calls, by its own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Its zone.
    pub zone: Arc<str>,
    /// Features of the metadata.
    pub features: Vec<String>,
    /// The one credential that it shows.
    pub credential: Option<Arc<str>>,
    /// The other end of its connection.
    pub peer: Option<SocketAddr>,
}

impl Caller {
    /// Reads the metadata of a call.
    ///
    /// # Errors
    /// It names no zone, or none that there can be.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Refusal> {
        let metadata = request.metadata();
        let name = text(metadata, "client-id").filter(|name| !name.is_empty()).ok_or(Refusal::NoZone)?;
        config::zone_name(name).map_err(Refusal::BadName)?;
        let features = metadata.get_all("features").iter().filter_map(|value| value.to_str().ok());
        let features = features.flat_map(|value| value.split(',')).map(|feature| feature.trim().to_owned());
        Ok(Self {
            zone: name.into(),
            features: features.collect(),
            credential: credential(metadata),
            peer: request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer),
        })
    }

    /// Whether it has a feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|has| has == feature)
    }
}

fn text<'a>(metadata: &'a MetadataMap, key: &str) -> Option<&'a str> {
    metadata.get(key)?.to_str().ok()
}

/// The `authorization` value when there is exactly one (kds-wire 1.10).
fn credential(metadata: &MetadataMap) -> Option<Arc<str>> {
    let mut values = metadata.get_all("authorization").iter();
    let (first, second) = (values.next()?, values.next());
    let text = first.to_str().ok().filter(|text| second.is_none() && text.len() <= MAX_CREDENTIAL)?;
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use tonic::Request;

    use super::*;

    fn request(metadata: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        for (key, value) in metadata {
            request.metadata_mut().append(*key, value.parse().unwrap());
        }
        request
    }

    #[test]
    fn features_come_one_by_one_or_with_commas() {
        for features in [
            &[("features", "zone-ping-health"), ("features", "hash-suffix")][..],
            &[("features", "hash-suffix, zone-ping-health")],
        ] {
            let mut metadata = vec![("client-id", "east")];
            metadata.extend_from_slice(features);
            let caller = Caller::of(&request(&metadata)).unwrap();
            assert!(caller.has("hash-suffix") && caller.has("zone-ping-health") && !caller.has("other"));
        }
    }

    #[test]
    fn a_name_that_no_zone_can_have_is_refused() {
        assert_eq!(Caller::of(&request(&[])), Err(Refusal::NoZone));
        assert_eq!(Caller::of(&request(&[("client-id", "")])), Err(Refusal::NoZone));
        for bad in ["a b", "-a", "10.0.0.1", &"a".repeat(64)] {
            assert!(matches!(Caller::of(&request(&[("client-id", bad)])), Err(Refusal::BadName(_))), "{bad}");
        }
    }

    #[test]
    fn one_credential_counts_and_two_are_none() {
        let shown = |values: &[&str]| {
            let mut metadata = vec![("client-id", "east")];
            metadata.extend(values.iter().map(|value| ("authorization", *value)));
            Caller::of(&request(&metadata)).unwrap().credential
        };
        assert_eq!(shown(&["Bearer x"]).as_deref(), Some("Bearer x"));
        assert_eq!(shown(&["a", "b"]), None);
        assert_eq!(shown(&[]), None);
    }
}
