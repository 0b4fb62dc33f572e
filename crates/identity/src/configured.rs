//! How callers are recognised and servers encrypted, out of the configuration (api-and-kumactl 5.2).

use std::net::IpAddr;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use config::Effective;
use runtime::Fatal;
use serde::Deserialize;

use crate::caller::Authentication;
use crate::tls::{Clients, Files, ensure_certificate};
use crate::token::{StaticKey, Validator};

/// The `apiServer.authn.type` by which a client's certificate makes it an administrator.
const CLIENT_CERTIFICATES: &str = "adminClientCerts";

/// A public key in the configuration; exactly one of `key` and `keyFile`, which the configuration has checked.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PublicKey {
    kid: String,
    mesh: String,
    key: String,
    key_file: String,
}

impl Authentication {
    /// `apiServer.authn`.
    ///
    /// # Errors
    /// A public key cannot be read.
    pub fn configured(effective: &Effective) -> Result<Self, Fatal> {
        let Validator { static_keys, use_secrets } =
            Validator::configured(effective, "apiServer.authn.tokens.validator")?;
        Ok(Self {
            localhost_is_admin: effective.flag("apiServer.authn.localhostIsAdmin"),
            tokens: effective.text("apiServer.authn.type") == "tokens",
            client_certificates: effective.text("apiServer.authn.type") == CLIENT_CERTIFICATES,
            use_secrets,
            static_keys,
        })
    }
}

impl Validator {
    /// A section of the configuration that says which keys count, `apiServer.authn.tokens.validator` say.
    ///
    /// # Errors
    /// A public key cannot be read.
    pub fn configured(effective: &Effective, section: &str) -> Result<Self, Fatal> {
        Ok(Self {
            use_secrets: effective.flag(&format!("{section}.useSecrets")),
            static_keys: static_keys(effective, &format!("{section}.publicKeys"))?,
        })
    }
}

/// Public keys of tokens that are issued offline.
fn static_keys(effective: &Effective, path: &str) -> Result<Vec<StaticKey>, Fatal> {
    let unusable = |which: &str| Fatal::new(format!("cannot use the public key {which:?} of {path}"));
    let keys: Vec<PublicKey> = serde_json::from_value(effective.setting(path).value.json())
        .map_err(|error| Fatal::new(format!("cannot use {path}")).caused_by(error))?;
    let parse = |PublicKey { kid, mesh, key, key_file }: PublicKey| {
        let pem = match &*key_file {
            "" => key.into_bytes(),
            file => crate::tls::read(file.as_ref(), "public key").map_err(|error| unusable(&kid).caused_by(error))?,
        };
        StaticKey::parse(kid.clone(), (!mesh.is_empty()).then_some(mesh), &pem)
            .map_err(|reason| unusable(&kid).caused_by(reason))
    };
    keys.into_iter().map(parse).collect()
}

impl Files {
    /// Certificate, key and limits of a server, `apiServer.https` say; after what is automatic was filled in.
    pub fn configured(effective: &Effective, server: &str) -> Self {
        let text = |word: &str| effective.text(&format!("{server}.{word}")).to_owned();
        Self {
            certificate: text("tlsCertFile").into(),
            key: text("tlsKeyFile").into(),
            clients: None,
            min_version: text("tlsMinVersion"),
            max_version: text("tlsMaxVersion"),
            cipher_suites: effective.texts(&format!("{server}.tlsCipherSuites")).to_vec(),
        }
    }

    /// Makes the certificate in the work directory, unless it is there or the configuration names another.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn ensure_automatic(effective: &Effective, now: DateTime<Utc>) -> Result<(), Fatal> {
        if !effective.certificate_is_automatic() {
            return Ok(());
        }
        let mut hosts = vec![runtime::host::name(), "localhost".to_owned()];
        hosts.extend(runtime::host::addresses().iter().map(IpAddr::to_string));
        let files = Self::configured(effective, "general");
        if ensure_certificate(&files.certificate, &files.key, &hosts, now)? {
            tracing::info!(file = %files.certificate.display(), "made a TLS certificate");
        }
        Ok(())
    }

    /// `apiServer.https`, where clients may have certificates.
    ///
    /// # Errors
    /// A client certificate is required and nothing says which are good.
    pub fn of_the_api(effective: &Effective) -> Result<Self, Fatal> {
        let path = |key: &str| Some(effective.text(key)).filter(|text| !text.is_empty()).map(PathBuf::from);
        let clients = Clients {
            file: path("apiServer.https.tlsCaFile"),
            folder: path("apiServer.auth.clientCertsDir"),
            required: effective.flag("apiServer.https.requireClientCert"),
        };
        let remedy = "set apiServer.auth.clientCertsDir to a folder with client certificates, or \
                      apiServer.https.tlsCaFile to the authority that signs them";
        let nobody = clients.file.is_none() && clients.folder.is_none();
        let certificates_count = effective.text("apiServer.authn.type") == CLIENT_CERTIFICATES;
        if clients.required && nobody {
            return Err(Fatal::new("apiServer.https.requireClientCert is set without an authority").remedy(remedy));
        }
        if certificates_count && nobody {
            tracing::warn!("apiServer.authn.type is {CLIENT_CERTIFICATES} and no client certificate is good; {remedy}");
        }
        let asked = clients.required || certificates_count;
        Ok(Self { clients: asked.then_some(clients), ..Self::configured(effective, "apiServer.https") })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use config::{Loader, Role};

    use super::*;
    use crate::SigningKey;

    fn with_keys(keys: &serde_json::Value) -> Effective {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let yaml = serde_json::json!({"apiServer": {"authn": {"tokens": {"validator": {"publicKeys": keys}}}}});
        file.write_all(yaml.to_string().as_bytes()).unwrap();
        Loader::new(Role::Global).file(file.path()).load().unwrap().effective
    }

    #[test]
    fn public_keys_come_from_the_configuration_or_a_file_it_names() {
        let pem = SigningKey::generate(1).unwrap().public_pem().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(pem.as_bytes()).unwrap();
        let keys = serde_json::json!([
            {"kid": "a", "key": pem}, {"kid": "b", "keyFile": file.path(), "mesh": "demo"}]);
        let authentication = Authentication::configured(&with_keys(&keys)).unwrap();
        let ids: Vec<_> = authentication.static_keys.iter().map(|key| (key.id.as_str(), key.mesh.as_deref())).collect();
        assert_eq!(ids, [("a", None), ("b", Some("demo"))]);
        assert!(authentication.localhost_is_admin && authentication.tokens && authentication.use_secrets);

        let bad = Authentication::configured(&with_keys(&serde_json::json!([{"kid": "c", "key": "x"}]))).unwrap_err();
        assert!(bad.to_string().starts_with("cannot use the public key \"c\" of apiServer.authn"), "{bad}");
    }

    #[test]
    fn client_certificates_need_an_authority() {
        let load = |sets: &[&str]| {
            let loader = sets.iter().fold(Loader::new(Role::Zone), |loader, set| loader.set(set));
            Files::of_the_api(&loader.load().unwrap().effective)
        };
        assert!(load(&["apiServer.https.requireClientCert=true"]).is_err());
        let files = load(&["apiServer.https.requireClientCert=true", "apiServer.https.tlsCaFile=/ca.pem"]).unwrap();
        assert_eq!(files.clients, Some(Clients { file: Some("/ca.pem".into()), folder: None, required: true }));
        assert_eq!(files.min_version, "TLSv1_2");
        let admins = ["apiServer.authn.type=adminClientCerts", "apiServer.auth.clientCertsDir=/certs"];
        let clients = load(&admins).unwrap().clients;
        assert_eq!(clients, Some(Clients { file: None, folder: Some("/certs".into()), required: false }));
        assert_eq!(load(&["apiServer.https.tlsCaFile=/ca.pem"]).unwrap().clients, None, "nobody looks at it");
    }
}
