//! A proxy's first question to its control plane: `POST /bootstrap` (zone-dataplane 1.2).

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kds_proto::bootstrap::{PATH, Request, Response};
use runtime::{Clock, Fatal};

use crate::tls::client::{self, Trust};

/// For one question and its answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest answer.
const LARGEST: usize = 4 << 20;
const JSON: &str = "application/json";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control plane has no such proxy, and was given none; it may get one.
    #[error("the control plane knows no proxy of this name")]
    Unknown,
    /// The control plane refuses; asking again does not help.
    #[error("the control plane refuses this proxy: {0}")]
    Refused(String),
    /// There was no answer, or not one that can be understood; that may pass.
    #[error("{0}")]
    Failed(String),
}

/// How long to ask.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between two questions (`KUMA_CONTROL_PLANE_RETRY_BACKOFF`).
    pub pause: Duration,
    /// In all; `None`: for ever (`KUMA_CONTROL_PLANE_RETRY_MAX_DURATION`).
    pub limit: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { pause: Duration::from_secs(3), limit: Some(Duration::from_secs(300)) }
    }
}

/// Asks one control plane.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
}

impl Client {
    /// For a control plane at an address like `https://localhost:5678`.
    ///
    /// # Errors
    /// The address is none, or whom to trust cannot be read.
    pub fn new(address: &str, trust: Trust<'_>) -> Result<Self, Fatal> {
        let unusable = |cause: String| {
            let remedy = "it has the form https://localhost:5678";
            Fatal::new(format!("the address of the control plane cannot be {address:?}"))
                .caused_by(cause)
                .remedy(remedy)
        };
        let given: Uri = address.parse().map_err(|error: http::uri::InvalidUri| unusable(error.to_string()))?;
        let scheme = given.scheme_str().filter(|scheme| ["https", "http"].contains(scheme));
        let (Some(scheme), Some(authority)) = (scheme, given.authority()) else {
            return Err(unusable("it must be an https URL with a host".to_owned()));
        };
        let uri = Uri::builder().scheme(scheme).authority(authority.clone()).path_and_query(PATH);
        let uri = uri.build().map_err(|error| unusable(error.to_string()))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(client::config(trust, &[])?)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self { pool: Pool::builder(TokioExecutor::new()).build(connector), uri })
    }

    /// Asks once.
    ///
    /// # Errors
    /// There is no answer, or a refusal.
    pub async fn ask(&self, request: &Request) -> Result<Response, Error> {
        tokio::time::timeout(ANSWER, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(Error::Failed(format!("no answer within {} s", ANSWER.as_secs()))))
    }

    /// Asks until there is an answer, a refusal, or patience ends.
    ///
    /// # Errors
    /// The last failure.
    pub async fn ask_until(&self, request: &Request, patience: Patience, clock: &Clock) -> Result<Response, Error> {
        let began = clock.elapsed();
        loop {
            let error = match self.ask(request).await {
                Err(error @ (Error::Unknown | Error::Failed(_))) => error,
                ended => return ended,
            };
            if patience.limit.is_some_and(|limit| clock.elapsed() - began + patience.pause > limit) {
                return Err(error);
            }
            tracing::info!(
                control_plane = %self.uri,
                reason = %error,
                again_in_s = patience.pause.as_secs(),
                "no bootstrap yet: is this the address of a zone's control plane?"
            );
            clock.sleep(patience.pause).await;
        }
    }

    async fn exchange(&self, request: &Request) -> Result<Response, Error> {
        let failed = |error: &dyn std::error::Error| Error::Failed(chain(error));
        let body = serde_json::to_vec(request).map_err(|error| failed(&error))?;
        let call = http::Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, JSON)
            .header(ACCEPT, JSON)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| failed(&error))?;
        let answer = self.pool.request(call).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| failed(&*error))?.to_bytes();
        let text = || String::from_utf8_lossy(&body).trim().to_owned();
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map_err(|error| Error::Failed(format!("the answer is no bootstrap: {error}"))),
            StatusCode::NOT_FOUND if body.is_empty() => Err(Error::Unknown),
            StatusCode::NOT_FOUND => {
                let hint = "is it the port for proxies (5678), not that of the API?";
                Err(Error::Failed(format!("nobody answers for {PATH} there: {hint}")))
            }
            status if status.is_client_error() => Err(Error::Refused(text())),
            status => Err(Error::Failed(format!("the control plane answers {status}: {}", text()))),
        }
    }
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection after the other.
    async fn control_plane(answers: &'static [&'static str]) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let len = stream.read(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request[..len]).to_ascii_lowercase();
                assert!(text.starts_with("post /bootstrap") && text.contains("accept: application/json"), "{text}");
                let (status, body) = answer.split_once(' ').unwrap();
                let len = body.len();
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Client::new(&address, Trust::Anybody).unwrap()
    }

    async fn ask(answers: &'static [&'static str]) -> Result<Response, String> {
        let client = control_plane(answers).await;
        let patience = Patience { pause: Duration::from_millis(1), limit: None };
        client.ask_until(&Request::default(), patience, &Clock::system()).await.map_err(|error| error.to_string())
    }

    /// DP-2, DP-4 in their client half: only what may pass is asked again.
    #[tokio::test]
    async fn asks_again_unless_it_is_refused() {
        let answers = &["404 ", "500 busy", "200 {\"bootstrap\":\"bm9kZTo=\"}"];
        assert_eq!(ask(answers).await.unwrap().bootstrap, b"node:");
        let refused = ask(&["404 ", "422 token is missing"]).await.unwrap_err();
        assert_eq!(refused, "the control plane refuses this proxy: token is missing");
    }

    #[tokio::test]
    async fn patience_ends() {
        let client = control_plane(&["404 page not found", "404 page not found"]).await;
        let patience = Patience { pause: Duration::from_millis(1), limit: Some(Duration::ZERO) };
        let error = client.ask_until(&Request::default(), patience, &Clock::system()).await.unwrap_err();
        assert!(error.to_string().contains("5678"), "{error}");
    }

    #[test]
    fn an_address_is_a_url() {
        for address in ["localhost:5678", "ftp://a", "https://", "/a"] {
            let error = Client::new(address, Trust::Anybody).unwrap_err().to_string();
            assert!(error.starts_with("the address of the control plane cannot be"), "{error}");
        }
    }
}
