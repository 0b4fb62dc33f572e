//! The REST API of a control plane, from the client's side (api-and-kumactl 1.2, 1.8, 1.9, 4.1).

mod answer;
mod connect;
mod tls;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as Pool;
use serde_json::Value;
use url::Url;

pub use answer::{Answer, CallError};

use crate::settings::ApiServer;
use crate::version;
use connect::{Connector, unsupported_scheme};

/// Longest answer that is read, bytes: a dump of a large proxy's configuration has some tens of megabytes.
const LONGEST_ANSWER: usize = 256 << 20;

/// Most pages of one list; a server that goes on for longer is broken.
const MOST_PAGES: usize = 10_000;

/// Speaks to one control plane.
pub struct Client {
    base: Url,
    headers: HeaderMap,
    timeout: Option<Duration>,
    pool: Pool<Connector, Full<Bytes>>,
}

impl Client {
    /// A client of a control plane; nothing is connected yet. `timeout` bounds a whole call.
    ///
    /// # Errors
    /// The address is no URL, or a file with a certificate or key cannot be used.
    pub fn new(server: &ApiServer, timeout: Option<Duration>) -> Result<Self, CallError> {
        let broken = |reason: String| CallError::NoControlPlane(reason);
        let base = Url::parse(&server.url)
            .map_err(|error| broken(format!("Failed to parse API Server URL {:?}: {error}", server.url)))?;
        let tls = tls::config(server).map_err(broken)?;
        Ok(Self { base, headers: headers(server).map_err(broken)?, timeout, pool: connect::pool(tls) })
    }

    /// `GET` of a path given by its segments.
    ///
    /// # Errors
    /// No answer came, or a refusal did.
    pub async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, CallError> {
        self.call(Method::GET, path, query, None).await
    }

    /// `GET` of JSON.
    ///
    /// # Errors
    /// No answer came, a refusal did, or the answer is no JSON.
    pub async fn get_json(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, CallError> {
        self.get(path, query).await?.expect_ok()?.json()
    }

    /// Every page of a list, as one list: `total`, `items` and an empty `next`.
    ///
    /// # Errors
    /// As [`Client::get_json`].
    pub async fn get_all(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, CallError> {
        let mut list = self.get_json(path, query).await?;
        for _ in 0..MOST_PAGES {
            let Some(next) = list["next"].as_str().and_then(|next| Url::parse(next).ok()) else { break };
            let pairs: Vec<(String, String)> = next.query_pairs().into_owned().collect();
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let mut page = self.get_json(path, &pairs).await?;
            let more = page["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            list["next"] = if more.is_empty() { Value::Null } else { page["next"].take() };
            if let Some(items) = list["items"].as_array_mut() {
                items.extend(more);
            }
        }
        Ok(list)
    }

    /// `PUT` of JSON.
    ///
    /// # Errors
    /// No answer came, or a refusal did.
    pub async fn put(&self, path: &[&str], body: &Value) -> Result<Answer, CallError> {
        self.call(Method::PUT, path, &[], Some(body.to_string())).await
    }

    /// `POST` of JSON.
    ///
    /// # Errors
    /// No answer came, or a refusal did.
    pub async fn post(&self, path: &[&str], body: &Value) -> Result<Answer, CallError> {
        self.call(Method::POST, path, &[], Some(body.to_string())).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// No answer came, or a refusal did.
    pub async fn delete(&self, path: &[&str]) -> Result<Answer, CallError> {
        self.call(Method::DELETE, path, &[], None).await
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Answer, CallError> {
        let url = self.url(path, query);
        if let Some(reason) = unsupported_scheme(&url) {
            let authority = url.host_str().unwrap_or_default();
            let address = format!("{}://{authority}/{}", url.scheme(), path.join("/"));
            return Err(CallError::Unreachable(format!("{} {address:?}: {reason}", title(&method))));
        }
        let said = format!("{} {:?}", title(&method), url.as_str());
        let work = self.exchange(&method, &url, body);
        let outcome = match self.timeout {
            Some(limit) => {
                let begin = Instant::now();
                let outcome = tokio::time::timeout(limit, work).await;
                // A timer is coarser than a very short limit.
                outcome.ok().filter(|_| begin.elapsed() <= limit).ok_or_else(|| {
                    let reason = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
                    CallError::TimedOut(format!("{said}: {reason}"))
                })?
            }
            None => work.await,
        };
        let answer = outcome.map_err(|reason| CallError::Unreachable(format!("{said}: {reason}")))?;
        answer.unless_refused()
    }

    async fn exchange(&self, method: &Method, url: &Url, body: Option<String>) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(url.as_str());
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&self.headers);
            if body.is_some() {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
        }
        let request = request.body(Full::from(body.unwrap_or_default())).map_err(|error| error.to_string())?;
        let response = self.pool.request(request).await.map_err(|error| connect::reason(&error))?;
        read(response, LONGEST_ANSWER).await
    }

    /// The URL of a path below the address of the control plane; every segment is escaped.
    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            let mut sorted = query.to_vec();
            sorted.sort_unstable();
            url.query_pairs_mut().clear().extend_pairs(sorted);
        }
        url
    }
}

/// The content of a public address, such as the file of a policy on the web; `None` unless the answer is a 200.
///
/// # Errors
/// Nothing answered, or what answered is too long.
pub async fn fetch(url: &str, limit: Duration, longest: usize) -> Result<Option<Vec<u8>>, String> {
    const MOST_REDIRECTS: usize = 10;
    let tls = tls::config(&ApiServer::default())?;
    let pool: Pool<Connector, Full<Bytes>> = connect::pool(tls);
    let mut url = Url::parse(url).map_err(|error| format!("parse {url:?}: {error}"))?;
    let work = async {
        for _ in 0..MOST_REDIRECTS {
            let request = Request::get(url.as_str()).body(Full::default()).map_err(|error| error.to_string())?;
            let response = pool.request(request).await.map_err(|error| connect::reason(&error))?;
            let target = response.headers().get(http::header::LOCATION).and_then(|target| target.to_str().ok());
            match target.filter(|_| response.status().is_redirection()) {
                Some(target) => url = url.join(target).map_err(|error| error.to_string())?,
                None if response.status() == 200 => return Ok(Some(read(response, longest).await?.body.to_vec())),
                None => return Ok(None),
            }
        }
        Err(format!("stopped after {MOST_REDIRECTS} redirects"))
    };
    let outcome = tokio::time::timeout(limit, work).await;
    let outcome = outcome.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
    outcome.map_err(|reason| format!("Get {:?}: {reason}", url.as_str()))
}

async fn read(response: http::Response<hyper::body::Incoming>, longest: usize) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), longest).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            format!("the answer is longer than {} MiB, which is the most that is read", longest >> 20)
        } else {
            error.to_string()
        }
    })?;
    Ok(Answer { status, body: body.to_bytes() })
}

/// `Get`, as Go says it.
fn title(method: &Method) -> String {
    let name = method.as_str();
    let rest = name.get(1..).unwrap_or_default().to_lowercase();
    format!("{}{rest}", name.get(..1).unwrap_or_default())
}

fn headers(server: &ApiServer) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let agent = HeaderValue::from_str(&version::user_agent()).map_err(|error| error.to_string())?;
    headers.insert(USER_AGENT, agent);
    let mut add = |key: &str, value: &str| {
        let name = HeaderName::try_from(key).map_err(|_| format!("header {key:?}: this is no name of a header"))?;
        let value = HeaderValue::try_from(value).map_err(|_| format!("header {key:?}: its value is not allowed"))?;
        headers.append(name, value);
        Ok::<(), String>(())
    };
    for header in &server.headers {
        add(&header.key, &header.value)?;
    }
    if let Some(token) = server.token() {
        add("authorization", &format!("Bearer {token}"))?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
