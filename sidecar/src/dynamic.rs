//! What the control plane has for this program itself: it travels as a listener of Envoy that answers on a socket.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header;
use runtime::{Clock, Life};
use serde::Deserialize;

use crate::dns::{Names, Records};
use crate::http::{Target, get};
use crate::lasting;
use crate::metrics::{Application, Targets};
use crate::sockets::Sockets;

/// Looks for news again and again. Where nothing is for us there is no socket.
pub fn follow(sockets: &Sockets, refresh: Duration, names: Names, scraped: Arc<Targets>, life: &Life) {
    let (socket, clock) = (sockets.dynamic.clone(), life.clock().clone());
    life.tasks().spawn(lasting("dynamic-configuration"), move || {
        let (socket, clock) = (socket.clone(), clock.clone());
        let take = Take { names: names.clone(), scraped: Arc::clone(&scraped) };
        async move { poll(&Target::Unix(&socket), refresh, &take, &clock).await }
    });
}

struct Take {
    names: Names,
    scraped: Arc<Targets>,
}

impl Take {
    fn take(&self, path: &str, body: &Bytes) -> Result<()> {
        match path {
            "/dns" => self.names.replace(&serde_json::from_slice::<Records>(body)?),
            _ => self.scraped.replace(serde_json::from_slice::<MeshMetric>(body)?.observability.metrics.applications),
        }
        Ok(())
    }
}

/// Of MeshMetric; what goes to OpenTelemetry is not ours yet.
#[derive(Deserialize)]
struct MeshMetric {
    observability: Observability,
}

#[derive(Deserialize)]
struct Observability {
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(default)]
    applications: Vec<Application>,
}

async fn poll(target: &Target<'_>, refresh: Duration, take: &Take, clock: &Clock) -> Result<()> {
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    loop {
        for path in ["/dns", "/meshmetric"] {
            if let Err(error) = look(target, path, &mut known, take).await {
                tracing::warn!(path, error = format!("{error:#}"), "cannot take what the control plane has for us");
            }
        }
        clock.sleep(refresh).await;
    }
}

async fn look<'p>(
    target: &Target<'_>,
    path: &'p str,
    known: &mut BTreeMap<&'p str, String>,
    take: &Take,
) -> Result<()> {
    let tag = known.get(path).cloned();
    let headers: Vec<(&str, &str)> = tag.as_deref().map(|tag| ("if-none-match", tag)).into_iter().collect();
    let answer = match get(target, path, &headers).await {
        Ok(answer) => answer,
        // Nothing is for us, or nothing any more, or Envoy is not there yet.
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => {
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    match answer.status {
        304 | 404 => Ok(()),
        200 => {
            // Forgotten first: what cannot be taken is asked for again.
            known.remove(path);
            take.take(path, &answer.body).with_context(|| format!("{path} cannot be understood"))?;
            if let Some(tag) = answer.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()) {
                known.insert(path, tag.to_owned());
            }
            tracing::info!(path, "took what the control plane has for us");
            Ok(())
        }
        status => bail!("status {status}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::IntoResponse;
    use axum::routing::get as route;
    use tokio::net::UnixListener;

    use super::*;

    /// As recorded: a tag, and 304 for who knows it.
    #[tokio::test]
    async fn names_are_taken_once_for_each_change() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let full = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&full);
        let answer = move |headers: HeaderMap| async move {
            if headers.get("if-none-match").is_some_and(|tag| tag == "2b18") {
                return StatusCode::NOT_MODIFIED.into_response();
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let records = r#"{"records":[{"name":"web.svc.mesh.local","ips":["241.0.0.52","::ffff:f100:34"]}]}"#;
            ([("etag", "2b18")], records).into_response()
        };
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/dns", route(answer))).await.unwrap() });
        let take = Take { names: Names::default(), scraped: Targets::new(None, &[]) };
        let (target, mut known) = (Target::Unix(&socket), BTreeMap::new());
        for _ in 0..3 {
            look(&target, "/dns", &mut known, &take).await.unwrap();
            look(&target, "/meshmetric", &mut known, &take).await.unwrap();
        }
        assert_eq!(full.load(Ordering::SeqCst), 1);
        assert_eq!(take.names.len(), 1);
        let nowhere = folder.path().join("nowhere");
        look(&Target::Unix(&nowhere), "/dns", &mut known, &take).await.unwrap();
    }

    #[test]
    fn workloads_of_a_mesh_metric_are_scraped() {
        let take = Take { names: Names::default(), scraped: Targets::new(None, &[]) };
        let body =
            r#"{"observability":{"metrics":{"applications":[{"name":"a","path":"/m","port":80}],"backends":[]}}}"#;
        take.take("/meshmetric", &Bytes::from_static(body.as_bytes())).unwrap();
        assert!(format!("{:?}", take.scraped).contains("port: 80"));
        assert!(take.take("/dns", &Bytes::from_static(b"x")).is_err());
    }
}
