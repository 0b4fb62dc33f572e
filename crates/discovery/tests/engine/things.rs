//! A view of things that are nothing but versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use discovery::{Changes, Encoded, Interest, View};
use kds_proto::Any;

/// Version by name, by type.
pub type Things = BTreeMap<String, BTreeMap<String, u32>>;

/// Everybody holds everything.
pub struct Everything;

impl View for Everything {
    type Moment = Arc<Things>;

    fn changes(&self, type_url: &str, _: &Interest, from: Option<&Arc<Things>>, to: &Arc<Things>) -> Changes {
        let empty = BTreeMap::new();
        let from = from.and_then(|from| from.get(type_url)).unwrap_or(&empty);
        let to = to.get(type_url).unwrap_or(&empty);
        let put = to.iter().filter(|(name, version)| from.get(*name) != Some(version));
        let put = put.map(|(name, version)| Encoded {
            name: name.as_str().into(),
            version: version.to_string().into(),
            resource: Any::default(),
        });
        Changes { put: put.collect(), removed: from.keys().filter(|name| !to.contains_key(*name)).cloned().collect() }
    }
}

/// Things of one type.
pub fn things(type_url: &str, versions: &[(&str, u32)]) -> Things {
    let versions = versions.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect();
    Things::from([(type_url.to_owned(), versions)])
}
