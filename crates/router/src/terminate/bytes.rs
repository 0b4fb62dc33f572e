//! What was decrypted goes on as it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;

use super::stream::Stream;
use super::{Carried, Refusal, upstream};
use crate::cluster::Cluster;

/// A TLS record's worth for each direction.
const BUFFER: usize = 16 << 10;

/// Carries bytes both ways until both sides are done, or nothing flows for so long.
pub async fn forward(mut client: impl Stream, cluster: &Arc<Cluster>, idle: Duration) -> Result<Carried, Refusal> {
    let Some((mut endpoint, _)) = upstream::connect(cluster).await else { return Err(Refusal::Unreachable) };
    let mut endpoint = super::stream::Idle::new(&mut endpoint, idle);
    // A side that broke is told by the drop of both.
    Ok(copy_bidirectional_with_sizes(&mut client, &mut endpoint, BUFFER, BUFFER).await.unwrap_or_default())
}
