//! What happens on the stream of one proxy: counted here, logged where somebody has to act.

use std::sync::Arc;

pub(super) use model::insight::zone::Count;

use super::Door;
use super::configuration::type_of;
use super::introduction::Introduction;
use super::metrics::Metrics;

/// The account of one stream, until it is dropped.
#[derive(Debug)]
pub(super) struct Account {
    proxy: Arc<Introduction>,
    protocol: &'static str,
    metrics: Metrics,
}

impl Account {
    /// A stream that a proxy has opened.
    pub fn open(door: &Door, proxy: &Arc<Introduction>, protocol: &'static str) -> Self {
        let version = proxy.version.as_ref();
        let kuma_dp = version.and_then(|version| version.kuma_dp.as_ref()).map(|part| part.version.as_str());
        let envoy = version.and_then(|version| version.envoy.as_ref()).map(|part| part.version.as_str());
        tracing::info!(proxy = %proxy.key, r#type = %proxy.proxy_type, protocol, kuma_dp, envoy, "proxy connected");
        door.metrics.opened(protocol);
        Self { proxy: Arc::clone(proxy), protocol, metrics: door.metrics.clone() }
    }

    /// Counts what became of a response.
    pub fn count(&self, type_url: &str, what: Count) {
        let result = match what {
            Count::Sent => "sent",
            Count::Acknowledged => "acknowledged",
            Count::Rejected => "refused",
        };
        self.metrics.response(word(type_url), result);
    }

    /// A proxy refused what it was told. It keeps what it had.
    pub fn refused_by_proxy(&self, type_url: &str, message: &str) {
        tracing::warn!(
            proxy = %self.proxy.key,
            r#type = word(type_url),
            message,
            "a proxy refuses configuration and keeps what it had"
        );
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.metrics.closed(self.protocol);
    }
}

/// Value of the label `type`; types that we do not have are one.
fn word(type_url: &str) -> &'static str {
    use envoy::Type;
    match type_of(type_url) {
        Some(Type::Secret) => "secret",
        Some(Type::Cluster) => "cluster",
        Some(Type::Endpoint) => "endpoint",
        Some(Type::Listener) => "listener",
        Some(Type::Route) => "route",
        None => "other",
    }
}
