//! Metrics of Envoy, of the workload and of this program, in one answer (`kuma-mh-….sock`).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use kds_proto::bootstrap::Aggregate;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use runtime::{Fatal, Life, Metrics};
use serde::Deserialize;

use crate::http::{Target, get, serve_unix};
use crate::sockets::Sockets;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text";
/// What a scraper says that workloads may want to hear.
const PASSED_ON: [&str; 3] = ["accept", "user-agent", "x-prometheus-scrape-timeout-seconds"];

/// A workload with metrics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Application {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Where; this machine unless given.
    #[serde(default)]
    pub address: String,
    /// Where.
    pub port: u16,
    /// Where.
    #[serde(default)]
    pub path: String,
}

/// Who is asked for metrics.
#[derive(Debug)]
pub struct Targets {
    admin: Option<SocketAddr>,
    applications: RwLock<Arc<[Application]>>,
}

impl Targets {
    /// Envoy, and what the control plane named with the bootstrap.
    pub fn new(admin: Option<SocketAddr>, aggregate: &[Aggregate]) -> Arc<Self> {
        let application = |one: &Aggregate| {
            let port = u16::try_from(one.port).ok()?;
            Some(Application { name: one.name.clone(), address: one.address.clone(), port, path: one.path.clone() })
        };
        let applications: Arc<[Application]> = aggregate.iter().filter_map(application).collect();
        Arc::new(Self { admin, applications: RwLock::new(applications) })
    }

    /// Takes other workloads.
    pub fn replace(&self, applications: Vec<Application>) {
        *self.applications.write().unwrap_or_else(PoisonError::into_inner) = applications.into();
    }

    fn applications(&self) -> Arc<[Application]> {
        Arc::clone(&self.applications.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Whose {
    target: String,
}

#[derive(Clone)]
struct Scrape {
    targets: Arc<Targets>,
    own: Metrics,
    failures: Family<Whose, Counter>,
}

/// Serves all metrics until the very end.
///
/// # Errors
/// There can be no such socket.
pub fn serve(sockets: &Sockets, targets: Arc<Targets>, own: &Metrics, life: &Life) -> Result<(), Fatal> {
    let failures = Family::<Whose, Counter>::default();
    own.register(|registry| {
        let help = "Scrapes in which somebody gave no metrics, by target";
        registry.register("dp_metrics_scrape_failures", help, failures.clone());
    });
    let scrape = Scrape { targets, own: own.clone(), failures };
    serve_unix(&sockets.metrics, Router::new().fallback(gather).with_state(scrape), life)
}

/// Metrics of one.
struct Part {
    text: String,
    open_metrics: bool,
}

async fn gather(State(scrape): State<Scrape>, uri: Uri, headers: HeaderMap) -> Response {
    let applications = scrape.targets.applications();
    let passed: Vec<(&str, &str)> =
        PASSED_ON.iter().filter_map(|name| Some((*name, headers.get(*name)?.to_str().ok()?))).collect();
    let of_applications = applications.iter().map(|one| {
        let passed = &passed;
        async move {
            let address: IpAddr = one.address.parse().unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
            let path = if one.path.is_empty() { "/metrics" } else { &one.path };
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            (one.name.clone(), part(SocketAddr::new(address, one.port), &path, passed).await)
        }
    });
    let of_envoy = async {
        let query = uri.query().map(|query| format!("{query}&")).unwrap_or_default();
        let path = format!("/stats?{query}format=prometheus&text_readouts");
        Some(("envoy".to_owned(), part(scrape.targets.admin?, &path, &[]).await))
    };
    let (gathered, of_envoy) = tokio::join!(join_all(of_applications), of_envoy);
    let mut parts = Vec::new();
    for (target, part) in gathered.into_iter().chain(of_envoy) {
        match part {
            Ok(part) => parts.push(part),
            Err(error) => {
                tracing::debug!(target, error, "no metrics");
                scrape.failures.get_or_create(&Whose { target }).inc();
            }
        }
    }
    let open_metrics = parts.iter().any(|part| part.open_metrics);
    let own = scrape.own.text().unwrap_or_default();
    let texts = parts.iter().map(|part| part.text.as_str()).chain([own.as_str()]);
    let content_type = if open_metrics { runtime::metrics::CONTENT_TYPE } else { TEXT };
    ([(header::CONTENT_TYPE, content_type)], merged(texts, open_metrics)).into_response()
}

async fn part(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Part, String> {
    let answer = get(&Target::Tcp(address), path, headers).await.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("status {}", answer.status));
    }
    let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let open_metrics = content_type.is_some_and(|content_type| content_type.starts_with(OPEN_METRICS));
    Ok(Part { text: String::from_utf8_lossy(&answer.body).into_owned(), open_metrics })
}

/// One text of several: empty lines and ends go, an end is put where the format wants one.
fn merged<'a>(texts: impl Iterator<Item = &'a str>, open_metrics: bool) -> String {
    let mut all = String::new();
    for line in texts.flat_map(str::lines).filter(|line| !line.trim().is_empty() && !line.starts_with("# EOF")) {
        all.push_str(line);
        all.push('\n');
    }
    if open_metrics {
        all.push_str("# EOF\n");
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::routing::get as route;
    use runtime::Clock;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::drain_limits;

    async fn server(path: &'static str, content_type: &'static str, text: &'static str) -> SocketAddr {
        let answer = move |uri: Uri| async move {
            let seen = uri.query().map(|query| format!("# seen {query}\n")).unwrap_or_default();
            ([(header::CONTENT_TYPE, content_type)], seen + text)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().route(path, route(answer))).await.unwrap() });
        address
    }

    #[tokio::test]
    async fn all_metrics_are_one_answer_and_who_fails_is_left_out() {
        let envoy = server("/stats", "text/plain", "envoy_up 1\n\n").await;
        let workload = server("/m", "application/openmetrics-text; version=1.0.0", "app_up 1\n# EOF\n").await;
        let folder = tempfile::tempdir().unwrap();
        let sockets = Sockets::take(folder.path(), "web", "default").await.unwrap();
        let (life, own) = (Life::new(Clock::system(), drain_limits(Duration::from_secs(1))), Metrics::default());
        let targets = Targets::new(Some(envoy), &[]);
        serve(&sockets, Arc::clone(&targets), &own, &life).unwrap();
        let ask = async || get(&Target::Unix(&sockets.metrics), "/metrics?usedonly=", &[]).await.unwrap();
        let text = |answer: &crate::http::Answer| String::from_utf8(answer.body.to_vec()).unwrap();

        let answer = ask().await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], TEXT);
        assert!(text(&answer).starts_with("# seen usedonly=&format=prometheus&text_readouts\nenvoy_up 1\n"));

        let one = |name: &str, port| Application { name: name.into(), address: String::new(), port, path: "m".into() };
        targets.replace(vec![one("app", workload.port()), one("gone", 1)]);
        let answer = ask().await;
        assert!(answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with(OPEN_METRICS));
        let told = text(&answer);
        assert!(told.starts_with("app_up 1\n") && told.contains("envoy_up 1\n"), "{told}");
        assert!(told.contains("dp_metrics_scrape_failures_total{target=\"gone\"} 1"), "{told}");
        assert_eq!(told.matches("# EOF").count(), 1, "{told}");
    }
}
