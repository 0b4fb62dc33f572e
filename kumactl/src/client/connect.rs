//! Connections, and why there is none, in the words of Kuma's client.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tower::util::{BoxCloneSyncService, service_fn};
use url::Url;

use crate::io::plain;

type Tcp = BoxCloneSyncService<Uri, TokioIo<TcpStream>, DialError>;

/// Connects by TCP, then by TLS where the address says so.
pub(super) type Connector = HttpsConnector<Tcp>;

/// No connection: `dial tcp 127.0.0.1:5681: connect: connection refused`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DialError(String);

/// Keeps connections for the next request.
pub(super) fn pool(tls: rustls::ClientConfig) -> Pool<Connector, Full<Bytes>> {
    let dial =
        BoxCloneSyncService::new(service_fn(|uri| -> Pin<Box<dyn Future<Output = _> + Send>> { Box::pin(dial(uri)) }));
    Pool::builder(TokioExecutor::new()).build(HttpsConnector::from((dial, tls)))
}

/// Every address of the host in turn; the failure that is told is that of an IPv4 address, if there is one.
async fn dial(uri: Uri) -> Result<TokioIo<TcpStream>, DialError> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = tokio::net::lookup_host((bare, port)).await;
    let addresses: Vec<_> =
        addresses.map_err(|_| DialError(format!("dial tcp: lookup {bare}: no such host")))?.collect();
    let mut failure = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(TokioIo::new(stream)),
            Err(error) if failure.is_none() || address.is_ipv4() => {
                failure = Some(format!("dial tcp {address}: connect: {}", plain(&error)));
            }
            Err(_) => {}
        }
    }
    Err(DialError(failure.unwrap_or_else(|| format!("dial tcp: lookup {bare}: no such host"))))
}

/// Why a request failed: the innermost cause says most.
pub(super) fn reason(error: &legacy::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    let mut last = error.to_string();
    for cause in causes {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return tls_reason(error);
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return tls_reason(error);
            }
            last = plain(error);
        } else {
            last = cause.to_string();
        }
    }
    if last.contains("connection closed before message completed") { "EOF".to_owned() } else { last }
}

fn tls_reason(error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        rustls::Error::InvalidMessage(_) => format!("tls: {error}: does the server speak TLS at this port?"),
        _ => format!("tls: {error}"),
    }
}

/// Why a URL cannot be called at all: `unsupported protocol scheme "ftp"`.
pub(super) fn unsupported_scheme(url: &Url) -> Option<String> {
    let known = ["http", "https"].contains(&url.scheme());
    (!known).then(|| format!("unsupported protocol scheme {:?}", url.scheme()))
}
