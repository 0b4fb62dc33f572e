//! `Zone`: a zone that the global control plane knows (api-and-kumactl 3.2). Nothing in it can be wrong.

use kds_proto::kuma::system::v1alpha1::Zone;

use crate::spec::ProtoSpec;

impl ProtoSpec for Zone {}

/// Whether a zone takes part; it does until somebody says otherwise.
pub fn is_enabled(zone: &Zone) -> bool {
    zone.enabled.unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_enabled_until_disabled() {
        assert!(is_enabled(&Zone { enabled: None }));
        assert!(!is_enabled(&Zone { enabled: Some(false) }));
    }
}
