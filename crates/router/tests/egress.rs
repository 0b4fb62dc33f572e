//! TLS of a mesh that ends in a router and goes on outside.

#![expect(clippy::unwrap_used, reason = "a test: what is missing ends it")]

use std::net::SocketAddr;
use std::time::Duration;

use kds_proto::json::{UnknownFields, from_value};
use prost::{Message, Name};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use router::listeners::Listeners;
use router::resources::Resources;
use router::server::{Refusal, Settings};
use s2n_tls::callbacks::VerifyHostNameCallback;
use s2n_tls::config::Config;
use s2n_tls::{connection::Builder as _, enums::Mode, security};
use s2n_tls_tokio::TlsConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const SNI: &str = "ext{mesh=m}";

struct Mesh {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Mesh {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A leaf with this identity and its key, PEM.
    fn leaf(&self, id: &str) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.distinguished_name = rcgen::DistinguishedName::new();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.ca).unwrap().pem(), key.serialize_pem())
    }
}

fn read<M: Message + Name + Default>(value: Value) -> M {
    from_value(value, UnknownFields::Refused).unwrap()
}

/// A router with one external service behind an address outside; only `spiffe://m/client` may call.
fn router(mesh: &Mesh, outside: SocketAddr) -> (Listeners, SocketAddr) {
    let mut resources = Resources::default();
    let (certificate, key) = mesh.leaf("spiffe://m/zone-egress");
    let identity = json!({"name": "identity", "tlsCertificate": {
        "certificateChain": {"inlineString": certificate}, "privateKey": {"inlineString": key}}});
    resources.put_secret(read(identity)).unwrap();
    let types = "type.googleapis.com/envoy.extensions";
    resources
        .put_cluster(read(json!({"name": "ext", "type": "STATIC", "loadAssignment": {"clusterName": "ext",
            "endpoints": [{"lbEndpoints": [{"endpoint": {"address": {"socketAddress": {
                "address": outside.ip().to_string(), "portValue": outside.port()}}}}]}]}})))
        .unwrap();
    let refused = resources.put_listener(read(json!({
        "name": "egress", "address": {"socketAddress": {"address": "127.0.0.1", "portValue": 0}},
        "filterChains": [{
            "filterChainMatch": {"transportProtocol": "tls", "serverNames": [SNI]},
            "filters": [
                {"name": "rbac", "typedConfig": {"@type": format!("{types}.filters.network.rbac.v3.RBAC"),
                    "statPrefix": "s", "rules": {"policies": {"p": {"permissions": [{"any": true}], "principals": [
                        {"authenticated": {"principalName": {"exact": "spiffe://m/client"}}}]}}}}},
                {"name": "tcp", "typedConfig": {"@type": format!("{types}.filters.network.tcp_proxy.v3.TcpProxy"),
                    "statPrefix": "s", "cluster": "ext"}},
            ],
            "transportSocket": {"name": "tls", "typedConfig": {
                "@type": format!("{types}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "requireClientCertificate": true,
                "commonTlsContext": {
                    "tlsCertificateSdsSecretConfigs": [{"name": "identity", "sdsConfig": {"ads": {}}}],
                    "combinedValidationContext": {
                        "defaultValidationContext": {"matchTypedSubjectAltNames": [
                            {"sanType": "URI", "matcher": {"prefix": "spiffe://m/"}}]},
                        "validationContextSdsSecretConfig": {"name": "ca", "sdsConfig": {"ads": {}}},
                    },
                },
            }},
        }],
    })));
    assert_eq!(refused.unwrap(), []);
    // The authorities arrive last.
    let ca = json!({"name": "ca", "validationContext": {"trustedCa": {"inlineString": mesh.ca.pem()}}});
    resources.put_secret(read(ca)).unwrap();
    let listeners = Listeners::new(Settings { workers: 1, ..Settings::default() });
    assert_eq!(listeners.apply(&resources), Vec::<String>::new());
    let address = listeners.addresses()[0].1;
    (listeners, address)
}

struct Egress;

impl VerifyHostNameCallback for Egress {
    fn verify_host_name(&self, name: &str) -> bool {
        name == "spiffe://m/zone-egress"
    }
}

/// What comes back when a client says something: as a sidecar does it, TLS 1.2, ALPN `kuma`, a server name with braces.
async fn says(at: SocketAddr, trusts: &Mesh, identity: Option<(String, String)>) -> Result<String, String> {
    let mut config = Config::builder();
    config.with_system_certs(false).unwrap().trust_pem(trusts.ca.pem().as_bytes()).unwrap();
    config.set_security_policy(&security::Policy::from_version("20190214").unwrap()).unwrap();
    config.set_application_protocol_preference(["kuma"]).unwrap();
    config.set_verify_host_callback(Egress).unwrap();
    if let Some((certificate, key)) = identity {
        config.load_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        config.set_client_auth_type(s2n_tls::enums::ClientAuthType::Optional).unwrap();
    }
    let config = config.build().unwrap();
    assert!(config.build_connection(Mode::Client).is_ok());
    let stream = TcpStream::connect(at).await.unwrap();
    let told = async {
        let mut tls = TlsConnector::new(config).connect(SNI, stream).await.map_err(|error| error.to_string())?;
        tls.write_all(b"hello").await.map_err(|error| error.to_string())?;
        let mut answer = [0; 5];
        tls.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(PATIENCE, told).await.unwrap()
}

/// Answers what it is told in capitals.
async fn outside() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut said = [0; 5];
                stream.read_exact(&mut said).await?;
                stream.write_all(&said.to_ascii_uppercase()).await
            });
        }
    });
    address
}

/// DP-25, DP-56 in its router half: who proves to be of the mesh and may call reaches the outside, nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_mesh_reach_the_outside() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let (listeners, at) = router(&mesh, outside().await);
    assert_eq!(says(at, &mesh, Some(mesh.leaf("spiffe://m/client"))).await.unwrap(), "HELLO");
    assert!(says(at, &mesh, Some(mesh.leaf("spiffe://m/other"))).await.is_err(), "it may not call");
    assert!(says(at, &mesh, Some(mesh.leaf("spiffe://n/client"))).await.is_err(), "of another mesh by name");
    assert!(says(at, &mesh, Some(other.leaf("spiffe://m/client"))).await.is_err(), "of another mesh by authority");
    assert!(says(at, &mesh, None).await.is_err(), "without a certificate");
    let refused = |refusal| {
        let mut count = 0;
        listeners.each(|_, server, _| count += server.shared().refused(refusal));
        count
    };
    assert_eq!((refused(Refusal::Denied), refused(Refusal::Handshake)), (1, 3));
}
