//! `MeshCircuitBreaker`: when to stop calling.

use kds_proto::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use kds_proto::envoy::config::cluster::v3::{CircuitBreakers, OutlierDetection};
use kds_proto::envoy::r#type::v3::Percent;
use model::number::IntOrString;
use model::spec::mesh_circuit_breaker::{Conf, Consecutive};

const ALWAYS: Option<u32> = Some(100);
const NEVER: Option<u32> = Some(0);

/// How much may be under way.
pub fn limits(conf: &Conf) -> Option<CircuitBreakers> {
    let limits = conf.connection_limits.as_ref()?;
    let thresholds = Thresholds {
        max_connections: limits.max_connections,
        max_connection_pools: limits.max_connection_pools,
        max_pending_requests: limits.max_pending_requests,
        max_retries: limits.max_retries,
        max_requests: limits.max_requests,
        track_remaining: true,
        ..Thresholds::default()
    };
    Some(CircuitBreakers { thresholds: vec![thresholds], ..CircuitBreakers::default() })
}

/// How bad hosts are found and left alone. A detector that is not asked for is switched off: Envoy has some on.
pub fn outliers(conf: &Conf) -> Option<OutlierDetection> {
    let asked = conf.outlier_detection.as_ref().filter(|asked| asked.disabled != Some(true))?;
    let mut outliers = OutlierDetection {
        interval: asked.interval.map(Into::into),
        base_ejection_time: asked.base_ejection_time.map(Into::into),
        max_ejection_percent: asked.max_ejection_percent,
        split_external_local_origin_errors: asked.split_external_and_local_errors.unwrap_or(false),
        ..OutlierDetection::default()
    };
    let detectors = asked.detectors.clone().unwrap_or_default();
    let in_a_row = |detector: Option<Consecutive>| detector.and_then(|detector| detector.consecutive);
    let enforced = |count: Option<u32>| if count.is_some() { ALWAYS } else { NEVER };
    outliers.consecutive_5xx = in_a_row(detectors.total_failures);
    outliers.enforcing_consecutive_5xx = enforced(outliers.consecutive_5xx);
    outliers.consecutive_gateway_failure = in_a_row(detectors.gateway_failures);
    outliers.enforcing_consecutive_gateway_failure = enforced(outliers.consecutive_gateway_failure);
    outliers.consecutive_local_origin_failure = in_a_row(detectors.local_origin_failures);
    outliers.enforcing_consecutive_local_origin_failure = enforced(outliers.consecutive_local_origin_failure);
    if asked.detectors.is_none() {
        return Some(outliers);
    }
    let rate = detectors.success_rate;
    outliers.enforcing_success_rate = if rate.is_some() { ALWAYS } else { NEVER };
    outliers.enforcing_local_origin_success_rate = outliers.enforcing_success_rate;
    if let Some(rate) = rate {
        outliers.success_rate_minimum_hosts = rate.minimum_hosts;
        outliers.success_rate_request_volume = rate.request_volume;
        outliers.success_rate_stdev_factor = rate.standard_deviation_factor.as_ref().and_then(thousandths);
    }
    let share = detectors.failure_percentage;
    outliers.enforcing_failure_percentage = if share.is_some() { ALWAYS } else { NEVER };
    outliers.enforcing_failure_percentage_local_origin = outliers.enforcing_failure_percentage;
    if let Some(share) = share {
        outliers.failure_percentage_minimum_hosts = share.minimum_hosts;
        outliers.failure_percentage_request_volume = share.request_volume;
        outliers.failure_percentage_threshold = share.threshold;
    }
    Some(outliers)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "validated as positive and small")]
fn thousandths(number: &IntOrString) -> Option<u32> {
    // 1.9 is a little less than 1.9 in binary; its thousandths are 1900.
    number.number().map(|number| (number * 1000.0 + 1e-6) as u32)
}

/// The share of healthy hosts below which health is ignored.
pub fn panic_threshold(conf: &Conf) -> Option<Percent> {
    let asked = conf.outlier_detection.as_ref().filter(|asked| asked.disabled != Some(true))?;
    asked.healthy_panic_threshold.as_ref()?.number().map(|value| Percent { value })
}
