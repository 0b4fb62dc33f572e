//! Connects to a host of a cluster, and tells those that cannot be reached from the others.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::{Cluster, Host};

/// First and longest pause between two tries of a host that was left out.
const PROBE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Connects to an endpoint, and to another one when the first cannot be reached.
pub async fn connect(cluster: &Arc<Cluster>) -> Option<(TcpStream, Arc<Host>)> {
    let mut failed = None;
    for _ in 0..2 {
        let host = cluster.next(failed.as_ref())?;
        match timeout(cluster.settings().connect_timeout, TcpStream::connect(host.address())).await {
            Ok(Ok(endpoint)) => {
                if host.answered() {
                    cluster.lay_out();
                }
                return Some((endpoint, host));
            }
            Ok(Err(error)) => tracing::debug!(endpoint = %host.address(), %error, "cannot connect"),
            Err(_) => tracing::debug!(endpoint = %host.address(), "no connection in time"),
        }
        if host.failed() {
            tracing::warn!(endpoint = %host.address(), cluster = cluster.name(), "left out: it cannot be reached");
            cluster.lay_out();
            tokio::spawn(readmit(Arc::downgrade(cluster), Arc::clone(&host)));
        }
        failed = Some(host);
    }
    None
}

/// Tries a host that was left out until it answers, or is no endpoint of the cluster any more.
async fn readmit(cluster: Weak<Cluster>, host: Arc<Host>) {
    let mut pause = PROBE.0;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PROBE.1);
        let Some(cluster) = cluster.upgrade().filter(|cluster| cluster.has(&host) && host.is_ejected()) else { return };
        let answer = timeout(cluster.settings().connect_timeout, TcpStream::connect(host.address())).await;
        if matches!(answer, Ok(Ok(_))) && host.answered() {
            tracing::info!(endpoint = %host.address(), cluster = cluster.name(), "taken in again: it answers");
            return cluster.lay_out();
        }
    }
}
