//! The directory of instances: Config `cp-catalog`, JSON.

use kds_proto::kuma::system::v1alpha1::Config;
use model::{Key, Kind, Labels, Payload, Resource, Snapshot};
use serde::{Deserialize, Serialize};

/// All instances, by their id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalog {
    pub instances: Vec<Instance>,
}

/// One instance of the global.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Instance {
    pub id: String,
    pub address: String,
    pub inter_cp_port: u16,
    pub leader: bool,
}

impl Instance {
    /// Where it is called.
    pub fn url(&self) -> String {
        let host = if self.address.contains(':') { format!("[{}]", self.address) } else { self.address.clone() };
        format!("https://{host}:{}", self.inter_cp_port)
    }
}

impl Catalog {
    fn key() -> Key {
        Key::global(Kind::Config, "cp-catalog")
    }

    /// As a snapshot has it; empty when there is none, or one that cannot be read.
    pub fn of(snapshot: &Snapshot) -> Self {
        let stored = snapshot.get(&Self::key()).and_then(|stored| stored.spec.message::<Config>().ok());
        stored.and_then(|config| serde_json::from_str(&config.config).ok()).unwrap_or_default()
    }

    /// As it is stored.
    pub fn to_resource(&self) -> Resource {
        let config = Config { config: serde_json::to_string(self).unwrap_or_default() };
        Resource::new(Self::key(), Labels::default(), Payload::from_message(&config))
    }

    /// The leader, if there is one.
    pub fn leader(&self) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.leader)
    }

    /// One instance.
    pub fn get(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::snapshot::Change;

    use super::*;

    #[test]
    fn a_catalog_is_kumas_json() {
        let instance = Instance { id: "g-1".into(), address: "10.0.0.1".into(), inter_cp_port: 5683, leader: true };
        let catalog = Catalog { instances: vec![instance.clone()] };
        let stored = catalog.to_resource();
        assert_eq!(
            stored.spec.message::<Config>().unwrap().config,
            r#"{"instances":[{"id":"g-1","address":"10.0.0.1","interCpPort":5683,"leader":true}]}"#
        );
        let snapshot = Snapshot::empty().apply(1, [Change::Put(Arc::new(stored))]);
        assert_eq!(Catalog::of(&snapshot), catalog);
        assert_eq!((catalog.leader(), catalog.get("g-2")), (Some(&instance), None));
        assert_eq!(Catalog::of(&Snapshot::empty()), Catalog::default());
        assert_eq!(instance.url(), "https://10.0.0.1:5683");
        assert_eq!(Instance { address: "::1".into(), ..instance }.url(), "https://[::1]:5683");
    }
}
