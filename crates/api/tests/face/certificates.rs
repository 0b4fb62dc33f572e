//! `apiServer.authn.type: adminClientCerts`: real certificates over real TLS, on every route (api-and-kumactl 2.8).

use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use api::{Listeners, Settings, route};
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use identity::tls::{Clients, Files, client, ensure_certificate};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use runtime::{Clock, Life, drain};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::access::{Caller, Checked, callers, rule};
use crate::support::{Face, settings};

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);
type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

fn params(is_ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(["jo".to_owned()]).unwrap();
    params.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A certificate that signs itself, as Kuma's `kumactl` makes them.
fn own() -> Identity {
    let key = KeyPair::generate().unwrap();
    (params(true).self_signed(&key).unwrap().der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

struct Authority(Issuer<'static, KeyPair>, CertificateDer<'static>);

impl Authority {
    fn new() -> Self {
        let (key, mut params) = (KeyPair::generate().unwrap(), params(true));
        params.extended_key_usages.clear();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self(Issuer::new(params, key), certificate)
    }

    fn issue(&self, not_after: SystemTime) -> Identity {
        let (key, mut params) = (KeyPair::generate().unwrap(), params(false));
        params.not_after = not_after.into();
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        (certificate, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

fn write(file: &Path, certificate: &CertificateDer<'_>) {
    std::fs::write(file, pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()))).unwrap();
}

struct Server {
    face: Face,
    address: SocketAddr,
    folder: tempfile::TempDir,
    life: Life,
}

impl Server {
    /// With these in its folder of client certificates.
    async fn start(settings: Settings, good: &[&CertificateDer<'_>], required: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clients = folder.path().join("clients");
        std::fs::create_dir(&clients).unwrap();
        for (at, certificate) in good.iter().enumerate() {
            write(&clients.join(format!("{at}.pem")), certificate);
        }
        let clients = Clients { file: None, folder: Some(clients), required };
        let files = Files {
            certificate: folder.path().join("cp.crt"),
            key: folder.path().join("cp.key"),
            clients: Some(clients),
            ..Files::default()
        };
        ensure_certificate(&files.certificate, &files.key, &["localhost".to_owned()], chrono::Utc::now()).unwrap();
        let life = Life::new(Clock::system(), drain::Limits::default());
        let face = Face::new(settings).await;
        let listeners = Listeners { https: Some(("127.0.0.1:0".parse().unwrap(), files)), ..Listeners::default() };
        let servers = api::start(listeners, &face.router, &life).await.unwrap();
        Self { face, address: servers.https.unwrap(), folder, life }
    }

    fn client(&self, identity: Option<&Identity>) -> Https {
        let trusted = self.folder.path().join("cp.crt");
        let mut config = client::config(client::Trust::File(&trusted), &[]).unwrap();
        if let Some((certificate, key)) = identity {
            let provider = config.crypto_provider().clone();
            let key = provider.key_provider.load_private_key(key.clone_key()).unwrap();
            let certified = rustls::sign::CertifiedKey::new(vec![certificate.clone()], key);
            config.client_auth_cert_resolver = std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        }
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        Client::builder(TokioExecutor::new()).build(connector)
    }

    /// Status of an answer, or nothing when there is no connection.
    async fn send(
        &self,
        client: &Https,
        method: &Method,
        path: &str,
        bearer: Option<&str>,
        body: &Value,
    ) -> Option<StatusCode> {
        let mut request =
            Request::builder().method(method).uri(format!("https://localhost:{}{path}", self.address.port()));
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let has_body = matches!(*method, Method::PUT | Method::POST);
        let text = if has_body { body.to_string() } else { String::new() };
        let request = request.header("content-type", "application/json").body(Full::from(text)).unwrap();
        let (parts, body) = client.request(request).await.ok()?.into_parts();
        Body::new(body).collect().await.unwrap();
        Some(parts.status)
    }

    async fn is_admin(&self, identity: Option<&Identity>) -> Option<bool> {
        let client = self.client(identity);
        let status = self.send(&client, &Method::GET, "/globalsecrets", None, &json!({})).await?;
        Some(status == StatusCode::OK)
    }
}

fn with_certificates() -> Settings {
    let mut settings = settings();
    settings.authentication.localhost_is_admin = false;
    settings.authentication.tokens = false;
    settings.authentication.client_certificates = true;
    settings
}

/// API-14: who shows a good certificate is an administrator, on every route; tokens do not count.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_knows_an_administrator_by_the_certificate() {
    let (jo, authority) = (own(), Authority::new());
    let issued = authority.issue(SystemTime::now() + std::time::Duration::from_secs(3600));
    let server = Server::start(with_certificates(), &[&jo.0, &authority.1], false).await;
    let mut columns = vec![
        ("certificate in the folder", Some(&jo), None, Caller::Admin),
        ("certificate of an authority in the folder", Some(&issued), None, Caller::Admin),
        ("no certificate", None, None, Caller::Anonymous),
    ];
    let tokens = callers();
    for (name, _, _, token) in &tokens {
        if let Some(token) = token {
            columns.push((name, None, Some(token.as_str()), Caller::Anonymous));
        }
    }
    let mut checked = Checked::default();
    for (name, identity, bearer, caller) in columns {
        let client = server.client(identity);
        let send = async |method: &Method, path: &str, body: &Value| {
            server.send(&client, method, path, bearer, body).await.unwrap()
        };
        checked.every_route(&server.face, name, caller, &rule, send).await;
    }
    let count = checked.end();
    println!("{count} combinations of route, method and caller over TLS");
    assert!(count > 8 * route::all().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_good_gets_no_connection() {
    let (jo, authority, other) = (own(), Authority::new(), Authority::new());
    let (hour, now) = (std::time::Duration::from_secs(3600), SystemTime::now());
    for required in [false, true] {
        let server = Server::start(with_certificates(), &[&jo.0, &authority.1], required).await;
        assert_eq!(server.is_admin(Some(&authority.issue(now + hour))).await, Some(true));
        assert_eq!(server.is_admin(Some(&authority.issue(now - hour))).await, None, "expired");
        assert_eq!(server.is_admin(Some(&other.issue(now + hour))).await, None, "of another authority");
        assert_eq!(server.is_admin(Some(&own())).await, None, "of nobody");
        // The certificate of one and the key of another: whoever has seen a certificate does not own it.
        assert_eq!(server.is_admin(Some(&(jo.0.clone(), own().1))).await, None, "without its key");
        assert_eq!(server.is_admin(None).await, (!required).then_some(false));
    }
}

/// SIGHUP reads the folder again.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_out_of_the_folder_is_no_administrator_any_more() {
    let (jo, flo) = (own(), own());
    let server = Server::start(with_certificates(), &[&jo.0], false).await;
    let clients = server.folder.path().join("clients");
    assert_eq!((server.is_admin(Some(&jo)).await, server.is_admin(Some(&flo)).await), (Some(true), None));
    write(&clients.join("flo.crt"), &flo.0);
    std::fs::remove_file(clients.join("0.pem")).unwrap();
    server.life.reload().notify();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while server.is_admin(Some(&flo)).await != Some(true) {
        assert!(std::time::Instant::now() < deadline, "the folder is not read again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(server.is_admin(Some(&jo)).await, None);
}
