//! Health checks: how the global knows that this zone lives (kds-wire 1.8).

use std::time::Duration;

use anyhow::{Context, Result};
use kds_proto::kuma::mesh::v1alpha1::ZoneHealthCheckRequest;
use kds_proto::kuma::mesh::v1alpha1::global_kds_service_client::GlobalKdsServiceClient;
use runtime::Clock;
use tonic::Code;

use super::dial::Calls;

/// Until the global says otherwise.
const PERIOD: Duration = Duration::from_secs(300);
/// Shortest period that a global may ask for.
const SHORTEST: Duration = Duration::from_secs(1);
/// For one answer.
const LIMIT: Duration = Duration::from_secs(15);

/// Checks at once and then again and again (KDS-13). Ends well only when the global knows no health checks.
///
/// # Errors
/// A check failed.
pub(crate) async fn keep_checking(mut client: GlobalKdsServiceClient<Calls>, clock: &Clock) -> Result<()> {
    let mut period = PERIOD;
    loop {
        let answer = clock.timeout(LIMIT, client.health_check(ZoneHealthCheckRequest {})).await;
        let answer = answer.with_context(|| format!("no answer to a health check within {} s", LIMIT.as_secs()))?;
        match answer {
            Ok(answer) => period = asked_for(answer.into_inner().interval).unwrap_or(period),
            Err(status) if status.code() == Code::Unimplemented => return Ok(()),
            Err(status) => return Err(anyhow::Error::new(status).context("the health check failed")),
        }
        clock.sleep(period).await;
    }
}

/// A period that the global asks for; zero and nonsense change nothing.
fn asked_for(interval: Option<prost_types::Duration>) -> Option<Duration> {
    let interval = Duration::try_from(interval?).ok()?;
    (!interval.is_zero()).then(|| interval.max(SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KDS-13.
    #[test]
    fn a_positive_interval_is_taken_over() {
        let interval = |seconds, nanos| asked_for(Some(prost_types::Duration { seconds, nanos }));
        assert_eq!(interval(30, 0), Some(Duration::from_secs(30)));
        assert_eq!(interval(0, 1), Some(SHORTEST));
        for nothing in [asked_for(None), interval(0, 0), interval(-5, 0)] {
            assert_eq!(nothing, None);
        }
    }
}
