//! A proxy's configuration as a view: what differs between two of them.

use std::fmt::Write as _;
use std::sync::Arc;

use discovery::{Changes, Encoded, Interest, View};
use envoy::{Configuration, Emitted, Type};

/// What one proxy shall hold; a moment is its whole configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served;

impl View for Served {
    type Moment = Arc<Configuration>;

    fn changes(&self, type_url: &str, interest: &Interest, from: Option<&Self::Moment>, to: &Self::Moment) -> Changes {
        let Some(r#type) = type_of(type_url) else { return Changes::default() };
        let version_before = |name: &str| from.and_then(|from| Some(version(from, from.get(r#type, name)?)));
        let mut changes = Changes::default();
        let mut look = |resource: &Emitted| {
            let version = version(to, resource);
            if version_before(&resource.name) != Some(version) {
                changes.put.push(encoded(resource, version));
            }
        };
        match interest {
            Interest::All => to.of(r#type).for_each(&mut look),
            Interest::Names(names) => names.iter().filter_map(|name| to.get(r#type, name)).for_each(&mut look),
        }
        let before = from.into_iter().flat_map(|from| from.of(r#type));
        changes.removed.extend(before.filter(|old| to.get(r#type, &old.name).is_none()).map(|old| old.name.clone()));
        changes
    }
}

/// The type of a URL, if proxies get any of it.
pub(super) fn type_of(type_url: &str) -> Option<Type> {
    Type::ALL.into_iter().find(|known| known.url() == type_url)
}

/// Hash of the content. Endpoints change with their cluster: Envoy waits for those of each cluster that changes.
fn version(of: &Configuration, resource: &Emitted) -> [u8; 16] {
    let mut version = resource.version;
    let cluster = (resource.r#type == Type::Endpoint).then(|| of.get(Type::Cluster, &resource.name)).flatten();
    if let Some(cluster) = cluster {
        version.iter_mut().zip(cluster.version).for_each(|(byte, other)| *byte ^= other);
    }
    version
}

fn encoded(resource: &Emitted, version: [u8; 16]) -> Encoded {
    let mut text = String::with_capacity(32);
    for byte in version {
        // A text takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    Encoded { name: resource.name.as_str().into(), version: text.into(), resource: resource.any() }
}
