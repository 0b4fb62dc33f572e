//! The certificate authorities of a `Mesh`: what a write must satisfy, and which secrets they use.

use kds_proto::kuma::mesh::v1alpha1::{CertificateAuthorityBackend, Mesh};
use kds_proto::kuma::system::v1alpha1::DataSource;
use kds_proto::kuma::system::v1alpha1::data_source::Type;
use serde_json::Value;

use crate::spec::data_source::check_chosen;
use crate::spec::formats::is_dns_name;
use crate::spec::key_pair;
use crate::spec::proto_json::{self, from_value};
use crate::violation::{Path, Violations};

/// Adds what is wrong with the authorities, in so far as the mesh itself tells (see [`check_loaded_backends`]).
pub(super) fn check_backends(mesh_name: &str, mesh: &Mesh, found: &mut Violations) {
    let Some(mtls) = &mesh.mtls else { return };
    for (position, backend) in mtls.backends.iter().enumerate() {
        let at = Path::of("mtls.backends").index(position);
        match backend.r#type.as_str() {
            "builtin" | "provided" if mtls.skip_validation => {}
            "builtin" => check_builtin(&at.field("conf"), mesh_name, backend, found),
            "provided" => check_provided(&at.field("conf"), backend, found),
            _ => {
                found.add(&at.field("type"), "could not find installed plugin for this type");
                return;
            }
        }
    }
}

/// Adds what is wrong with certificates and keys that a mesh refers to but does not hold.
///
/// `load` reads a secret of the mesh or a file; its error is reported for both members, as Kuma does.
pub fn check_loaded_backends(
    mesh: &Mesh,
    load: impl Fn(&DataSource) -> Result<Vec<u8>, String>,
    found: &mut Violations,
) {
    let Some(mtls) = mesh.mtls.as_ref().filter(|mtls| !mtls.skip_validation) else { return };
    for (position, backend) in mtls.backends.iter().enumerate().filter(|(_, backend)| backend.r#type == "provided") {
        let at = Path::of("mtls.backends").index(position).field("conf");
        let Ok(Provided { certificate: Some(certificate), key: Some(key) }) = Provided::of(backend) else { continue };
        if held(&certificate).is_some() && held(&key).is_some() {
            continue;
        }
        let read = |source: &DataSource| held(source).map_or_else(|| load(source), Ok);
        match read(&key).and_then(|key| Ok((read(&certificate)?, key))) {
            Ok((certificate, key)) => key_pair::check_authority(&at.field("cert"), &certificate, &key, found),
            Err(reason) => {
                for member in ["cert", "key"] {
                    found.add(&at.field(member), format!("could not load data: {reason}"));
                }
            }
        }
    }
}

/// The backend that uses a secret of the mesh, by name; such a secret must not be deleted (api-and-kumactl 1.10).
pub fn backend_using<'a>(mesh_name: &str, mesh: &'a Mesh, secret: &str) -> Option<&'a str> {
    let names_it = |source: Option<DataSource>| matches!(source, Some(DataSource { r#type: Some(Type::Secret(name)) }) if name == secret);
    let backends = mesh.mtls.iter().flat_map(|mtls| &mtls.backends);
    let user = backends.into_iter().find(|backend| match backend.r#type.as_str() {
        "builtin" => [certificate_secret(mesh_name, &backend.name), key_secret(mesh_name, &backend.name)]
            .contains(&secret.to_owned()),
        "provided" => Provided::of(backend).is_ok_and(|made| names_it(made.certificate) || names_it(made.key)),
        _ => false,
    });
    user.map(|backend| backend.name.as_str())
}

/// Where the certificate and the key of a backend's authority are.
///
/// # Errors
/// The backend is of an unknown type, or its settings name none.
pub fn authority_sources(
    mesh_name: &str,
    backend: &CertificateAuthorityBackend,
) -> Result<(DataSource, DataSource), String> {
    let secret = |name: String| DataSource { r#type: Some(Type::Secret(name)) };
    match backend.r#type.as_str() {
        "builtin" => {
            Ok((secret(certificate_secret(mesh_name, &backend.name)), secret(key_secret(mesh_name, &backend.name))))
        }
        "provided" => match Provided::of(backend) {
            Ok(Provided { certificate: Some(certificate), key: Some(key) }) => Ok((certificate, key)),
            Ok(_) => Err("its settings name no certificate or no key".to_owned()),
            Err(fault) => Err(format!("its settings cannot be read: {fault}")),
        },
        other => Err(format!("its type {other:?} is none that issues certificates")),
    }
}

/// Name of the secret that holds the certificate of a builtin authority.
pub fn certificate_secret(mesh_name: &str, backend: &str) -> String {
    format!("{mesh_name}.ca-builtin-cert-{backend}")
}

/// Name of the secret that holds the key of a builtin authority.
pub fn key_secret(mesh_name: &str, backend: &str) -> String {
    format!("{mesh_name}.ca-builtin-key-{backend}")
}

fn check_builtin(at: &Path, mesh_name: &str, backend: &CertificateAuthorityBackend, found: &mut Violations) {
    const LONGEST: usize = 255;
    let settings = settings(backend).and_then(|settings| check_certificate_settings(&settings));
    if let Err(fault) = settings {
        found.add(at, format!("could not convert backend config: {fault}"));
    }
    // Kuma repeats the path below the settings.
    let at = at.field("mtls.backends.name");
    let secret = certificate_secret(mesh_name, &backend.name);
    if secret.len() > LONGEST {
        found.add(&at, format!("Backend name is too long. Max length: {LONGEST}"));
    }
    if !is_dns_name(&secret) || secret.chars().any(char::is_uppercase) {
        found.add(&at, format!("{:?} name must be valid dns name", backend.name));
    }
}

/// `caCert` has `RSAbits`, a number, and `expiration`, a text.
fn check_certificate_settings(settings: &Value) -> Result<(), proto_json::Error> {
    match settings.get("caCert").filter(|value| !value.is_null()) {
        Some(certificate) if !certificate.is_object() => from_value::<Mesh>(certificate).map(|_| ()),
        Some(certificate) => {
            from_value::<u32>(&certificate["RSAbits"])?;
            from_value::<String>(&certificate["expiration"]).map(|_| ())
        }
        None => Ok(()),
    }
}

fn check_provided(at: &Path, backend: &CertificateAuthorityBackend, found: &mut Violations) {
    let Provided { certificate, key } = match Provided::of(backend) {
        Ok(made) => made,
        Err(fault) => {
            found.add(at, format!("could not convert backend config: {fault}"));
            return;
        }
    };
    let mut missing = Violations::default();
    for (member, source) in [("cert", &certificate), ("key", &key)] {
        match source {
            None => missing.add(&at.field(member), "has to be defined"),
            Some(source) => check_chosen(&at.field(member), source, &mut missing),
        }
    }
    if missing.is_empty()
        && let (Some(certificate), Some(key)) = (certificate.as_ref().and_then(held), key.as_ref().and_then(held))
    {
        key_pair::check_authority(&at.field("cert"), &certificate, &key, found);
    }
    found.extend(missing);
}

/// Settings of an authority whose certificate and key the user brings.
struct Provided {
    certificate: Option<DataSource>,
    key: Option<DataSource>,
}

impl Provided {
    fn of(backend: &CertificateAuthorityBackend) -> Result<Self, proto_json::Error> {
        let settings = settings(backend)?;
        let member = |name: &str| settings.get(name).filter(|value| !value.is_null()).map(from_value).transpose();
        Ok(Self { certificate: member("cert")?, key: member("key")? })
    }
}

fn settings(backend: &CertificateAuthorityBackend) -> Result<Value, proto_json::Error> {
    backend.conf.as_ref().map_or(Ok(Value::Null), proto_json::struct_to_value)
}

/// Bytes that stand in the document itself.
pub fn held(source: &DataSource) -> Option<Vec<u8>> {
    match source.r#type.as_ref()? {
        Type::Inline(bytes) => Some(bytes.clone()),
        Type::InlineString(text) => Some(text.clone().into_bytes()),
        Type::Secret(_) | Type::File(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mesh(backend: Value) -> Mesh {
        from_value(&json!({"mtls": {"backends": [backend]}})).unwrap()
    }

    fn faults(name: &str, backend: Value) -> String {
        let mut found = Violations::default();
        check_backends(name, &mesh(backend), &mut found);
        found.to_string()
    }

    #[test]
    fn a_builtin_authority_is_named_as_its_secrets_can_be() {
        let at = "mtls.backends[0].conf";
        let builtin = |name: &str| faults("m", json!({"name": name, "type": "builtin"}));
        assert_eq!(builtin("ca-1"), "");
        assert_eq!(builtin("CA"), format!(r#"{at}.mtls.backends.name: "CA" name must be valid dns name"#));
        let long = "a".repeat(250);
        assert!(
            builtin(&long)
                .starts_with(&format!("{at}.mtls.backends.name: Backend name is too long. Max length: 255; "))
        );
        let settings = |conf: Value| faults("m", json!({"name": "a", "type": "builtin", "conf": conf}));
        assert_eq!(settings(json!({"caCert": {"RSAbits": 4096, "expiration": "10y"}})), "");
        assert_eq!(
            settings(json!({"caCert": {"RSAbits": "x"}})),
            format!("{at}: could not convert backend config: invalid character 'x' looking for beginning of value")
        );
    }

    #[test]
    fn a_provided_authority_says_where_its_pair_is() {
        let at = "mtls.backends[0].conf";
        let provided = |conf: Value| faults("m", json!({"name": "a", "type": "provided", "conf": conf}));
        assert_eq!(provided(json!({"cert": {"secret": "c"}, "key": {"file": "/k"}})), "");
        assert_eq!(
            provided(json!({"cert": {"secret": ""}, "key": {}})),
            format!(
                "{at}.cert.secret: cannot be empty; {at}.key: data source has to be chosen. Available sources: secret, file, inline"
            )
        );
        assert_eq!(
            provided(json!({"cert": "x"})),
            format!(
                "{at}: could not convert backend config: json: cannot unmarshal string into Go value of type map[string]json.RawMessage"
            )
        );
        let unchecked = json!({"mtls": {"skipValidation": true, "backends": [{"type": "provided"}, {"type": "x"}]}});
        let mut found = Violations::default();
        check_backends("m", &from_value(&unchecked).unwrap(), &mut found);
        assert_eq!(found.to_string(), "mtls.backends[1].type: could not find installed plugin for this type");
    }

    #[test]
    fn what_is_elsewhere_is_checked_when_it_can_be_read() {
        let mesh = mesh(
            json!({"name": "a", "type": "provided", "conf": {"cert": {"secret": "c"}, "key": {"inlineString": "k"}}}),
        );
        let faults = |loaded: Result<Vec<u8>, String>| {
            let mut found = Violations::default();
            check_loaded_backends(&mesh, |_| loaded.clone(), &mut found);
            found.to_string()
        };
        let at = "mtls.backends[0].conf";
        assert_eq!(
            faults(Err("no such secret".to_owned())),
            format!("{at}.cert: could not load data: no such secret; {at}.key: could not load data: no such secret")
        );
        assert_eq!(
            faults(Ok(b"x".to_vec())),
            format!("{at}.cert: not a valid TLS key pair: tls: failed to find any PEM data in certificate input")
        );
    }

    #[test]
    fn a_secret_in_use_is_known_by_its_backend() {
        let builtin = mesh(json!({"name": "a", "type": "builtin"}));
        assert_eq!(backend_using("m", &builtin, "m.ca-builtin-key-a"), Some("a"));
        assert_eq!(backend_using("m", &builtin, "m.ca-builtin-key-b"), None);
        let provided =
            mesh(json!({"name": "b", "type": "provided", "conf": {"cert": {"secret": "s"}, "key": {"file": "/k"}}}));
        assert_eq!(backend_using("m", &provided, "s"), Some("b"));
    }
}
