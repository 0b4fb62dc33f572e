//! `CircuitBreaker`: the older way to stop calling a failing endpoint.

use kds_proto::kuma::mesh::v1alpha1::CircuitBreaker;
use kds_proto::kuma::mesh::v1alpha1::circuit_breaker::conf::{Detectors, Thresholds};

use crate::resource::Meta;
use crate::spec::{ProtoSpec, tags};
use crate::violation::{Path, Violations};

impl ProtoSpec for CircuitBreaker {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        tags::check_connection(&self.sources, &self.destinations, found);
        let at = Path::of("conf");
        let conf = self.conf.unwrap_or_default();
        let (detects, limits) = (conf.detectors.is_some_and(is_set), conf.thresholds.is_some_and(has_limit));
        if !detects && !limits {
            found.add(&at, "must have at least one of the detector or threshold configured");
            return;
        }
        if conf.detectors.is_some() && !detects {
            found.add(&at.field("detectors"), "can't be empty");
        }
        check_share(&at.field("maxEjectionPercent"), conf.max_ejection_percent, found);
        if let Some(failure) = conf.detectors.and_then(|detectors| detectors.failure) {
            check_share(&at.field("detectors.failure.threshold"), failure.threshold, found);
        }
        if conf.thresholds.is_some() && !limits {
            found.add(&at.field("thresholds"), "can't be empty");
        }
    }
}

fn is_set(detectors: Detectors) -> bool {
    detectors != Detectors::default()
}

fn has_limit(thresholds: Thresholds) -> bool {
    thresholds != Thresholds::default()
}

fn check_share(at: &Path, percent: Option<u32>, found: &mut Violations) {
    if percent.is_some_and(|percent| percent > 100) {
        found.add(at, "has to be in [0.0 - 100.0] range");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kind::Kind;
    use crate::spec::tabled::{between_services, proto_faults as faults};

    #[test]
    fn something_must_break_the_circuit() {
        let faults = |conf| faults(Kind::CircuitBreaker, between_services(json!({"conf": conf})));
        let nothing = ["conf: must have at least one of the detector or threshold configured"];
        assert_eq!(faults(json!(null)), nothing);
        assert_eq!(faults(json!({"detectors": {}, "thresholds": {}, "maxEjectionPercent": 150})), nothing);
        assert!(faults(json!({"detectors": {"totalErrors": {}}})).is_empty());
        assert_eq!(
            faults(json!({"detectors": {}, "thresholds": {"maxRetries": 0}, "maxEjectionPercent": 101})),
            ["conf.detectors: can't be empty", "conf.maxEjectionPercent: has to be in [0.0 - 100.0] range"]
        );
        assert_eq!(
            faults(json!({"detectors": {"failure": {"threshold": 101}}, "thresholds": {}})),
            ["conf.detectors.failure.threshold: has to be in [0.0 - 100.0] range", "conf.thresholds: can't be empty"]
        );
    }

    #[test]
    fn sources_and_destinations_are_those_of_a_connection() {
        assert_eq!(
            faults(
                Kind::CircuitBreaker,
                json!({"sources": [{"match": {"a": "b"}}], "conf": {"thresholds": {"maxRetries": 1}}})
            ),
            [
                "sources[0].match: mandatory tag \"kuma.io/service\" is missing",
                "destinations: must have at least one element"
            ]
        );
    }
}
