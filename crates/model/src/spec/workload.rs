//! `Workload`: proxies that belong together, counted by their zone (api-and-kumactl 3.29).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::formats::check_display_name;
use crate::violation::Violations;

/// Proxies that belong together: those with its name in `kuma.io/workload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {}

/// What the zone's control plane found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Number of proxies.
    #[serde(default)]
    pub dataplane_proxies: DataplaneProxies,
}

/// Proxies of a workload; zeros are printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataplaneProxies {
    /// Connected to the zone's control plane.
    pub connected: i32,
    /// With every inbound healthy.
    pub healthy: i32,
    /// All of them.
    pub total: i32,
}

impl JsonSpec for Workload {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_display_name(meta, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_printed, faults, meta};

    #[test]
    fn the_zero_status_is_that_of_the_table_of_kinds() {
        let zero = serde_json::to_string(&Status::default()).unwrap();
        assert_eq!(Some(zero.as_str()), Kind::Workload.info().status);
    }

    #[test]
    fn the_spec_is_empty_and_the_name_bounded() {
        assert_printed::<Workload>("{}", "{}");
        let with = |length: usize| faults::<Workload>("{}", &meta(Kind::Workload, &"w".repeat(length), &[]));
        assert!(with(253).is_empty());
        assert_eq!(with(254), ["name: must not be longer than 253 characters"]);
    }
}
