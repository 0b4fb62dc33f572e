use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use x509_parser::prelude::*;

use super::*;
use crate::ca::{self, Options};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn backend(r#type: &str, conf: serde_json::Value) -> CertificateAuthorityBackend {
    let spec = serde_json::json!({"name": "ca-1", "type": r#type, "conf": conf});
    kds_proto::json::from_value(spec, kds_proto::json::UnknownFields::Refused).unwrap()
}

/// A pair as the control plane makes it, with serial number 0.
static BUILTIN: LazyLock<ca::Authority> = LazyLock::new(|| {
    let options = Options::of(&backend("builtin", serde_json::json!({}))).unwrap();
    ca::Authority::generate("default", &options, now()).unwrap()
});

const EC_CA: &str = include_str!("../../../model/tests/keys/ca-ec.pem");
const EC_KEY: &str = include_str!("../../../model/tests/keys/ec.key");
const EC_PKCS8: &str = include_str!("../../../model/tests/keys/ec-pkcs8.key");
/// Of 1024 bits.
const WEAK_KEY: &str = include_str!("../../../model/tests/keys/rsa.key");

fn builtin() -> Authority {
    read(&BUILTIN.certificate_pem, &BUILTIN.key_pem).unwrap()
}

fn read(certificate: &str, key: &str) -> Result<Authority, AuthorityError> {
    Authority::read(certificate.as_bytes(), "the certificate's file", key.as_bytes(), "the key's file")
}

fn web(key: KeyType) -> Request {
    let pairs = [("kuma.io/service", "web"), ("kuma.io/protocol", "http"), ("kuma.io/zone", "east")];
    let tags: BTreeMap<String, BTreeSet<String>> =
        pairs.iter().map(|(tag, value)| ((*tag).to_owned(), [(*value).to_owned()].into())).collect();
    Request::of_workload(names::of_tags("default", &tags).unwrap(), DEFAULT_LIFETIME, key)
}

fn check(pem: &[u8], look: impl FnOnce(&X509Certificate<'_>)) {
    let (_, pem) = parse_x509_pem(pem).unwrap();
    look(&pem.parse_x509().unwrap());
}

/// DP-18 and DP-19, field by field as in the recorded certificate of `web`; the type of the key is ours.
#[test]
fn a_leaf_has_the_recorded_profile() {
    let authority = builtin();
    let leaf = authority.issue(&web(KeyType::EcdsaP256), now()).unwrap();
    check(authority.trust(), |own| {
        assert_eq!(own.raw_serial(), [0]);
        check(&leaf.certificate, |leaf| {
            assert_eq!(leaf.issuer().to_string(), "O=Kuma, OU=Mesh, CN=default");
            assert_eq!(leaf.issuer().as_raw(), own.subject().as_raw());
            assert_eq!(leaf.subject().iter().count(), 0);
            assert_eq!(leaf.validity().not_before.timestamp(), 1_800_000_000 - 10);
            assert_eq!(leaf.validity().not_after.timestamp(), 1_800_000_000 + 24 * 3600);
            let usage = leaf.key_usage().unwrap().unwrap();
            // Digital signature, key encipherment, key agreement.
            assert!(usage.critical && usage.value.flags == 0b1_0101);
            let extended = leaf.extended_key_usage().unwrap().unwrap();
            assert!(!extended.critical && extended.value.server_auth && extended.value.client_auth);
            let basic = leaf.basic_constraints().unwrap().unwrap();
            assert!(basic.critical && !basic.value.ca);
            let names = leaf.subject_alternative_name().unwrap().unwrap();
            assert!(names.critical);
            let uris = [
                "spiffe://default/web",
                "kuma://kuma.io/protocol/http",
                "kuma://kuma.io/service/web",
                "kuma://kuma.io/zone/east",
            ];
            assert_eq!(names.value.general_names, uris.map(GeneralName::URI));
            leaf.verify_signature(Some(own.public_key())).unwrap();
            assert_eq!(leaf.public_key().algorithm.algorithm.to_id_string(), "1.2.840.10045.2.1");
            let identifiers = |certificate: &X509Certificate<'_>| {
                certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
                    _ => None,
                })
            };
            let own_identifier = own.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
            assert_eq!(identifiers(leaf), own_identifier);
        });
    });
    assert_eq!(leaf.renewal(), now() + Duration::from_secs(24 * 3600 / 5 * 4));
    let again = authority.issue(&web(KeyType::EcdsaP256), now()).unwrap();
    assert_ne!((&again.certificate, &again.key), (&leaf.certificate, &leaf.key));
    let text = format!("{leaf:?} {authority:?}");
    assert!(!text.contains("PRIVATE") && !text.contains("BEGIN"), "{text}");
}

/// DP-19: Kuma's type of key, by setting.
#[test]
fn a_leaf_can_have_an_rsa_key() {
    let leaf = builtin().issue(&web("rsa-2048".parse().unwrap()), now()).unwrap();
    check(&leaf.certificate, |leaf| match leaf.public_key().parsed().unwrap() {
        public_key::PublicKey::RSA(key) => assert_eq!(key.key_size(), 2048),
        _ => panic!("no RSA key"),
    });
    assert_eq!("dsa".parse::<KeyType>().unwrap_err(), "\"dsa\" is no type of key; use ecdsa-p256 or rsa-2048");
}

#[test]
fn authorities_of_others_issue_whatever_their_keys() {
    for (certificate, key) in [(EC_CA, EC_KEY), (EC_CA, EC_PKCS8)] {
        let authority = read(&format!("words\n{certificate}{EC_CA}"), key).unwrap();
        let leaf = authority.issue(&web(KeyType::EcdsaP256), now()).unwrap();
        check(certificate.as_bytes(), |own| {
            check(&leaf.certificate, |leaf| {
                leaf.verify_signature(Some(own.public_key())).unwrap();
                assert_eq!(leaf.issuer().as_raw(), own.subject().as_raw());
            });
        });
        assert_eq!(certificates(authority.trust()).unwrap().len(), 2, "what stands beside it is trusted too");
    }
}

#[test]
fn a_pair_that_cannot_issue_is_told_with_its_place() {
    let error = |certificate: &str, key: &str| read(certificate, key).unwrap_err().to_string();
    let no_pair = "the key in the key's file does not belong to the certificate in the certificate's file; store the key that \
                   the certificate was made with";
    assert_eq!(error(EC_CA, &BUILTIN.key_pem), no_pair);
    assert_eq!(error(&BUILTIN.certificate_pem, EC_KEY), no_pair);
    assert_eq!(
        error(&BUILTIN.certificate_pem, WEAK_KEY),
        "the key's file holds no private key: it has to be RSA of 2048 bits or more, ECDSA or Ed25519"
    );
    assert_eq!(error("", EC_KEY), "the certificate's file holds no certificate: it is empty");
    assert!(error(EC_CA, EC_CA).starts_with("the key's file holds no private key: "));
    assert!(
        error(&EC_CA.replace("MII", "MMI"), EC_KEY).starts_with("the certificate's file holds no certificate: "),
        "{}",
        error(&EC_CA.replace("MII", "MMI"), EC_KEY)
    );
    let many = EC_CA.repeat(65);
    assert_eq!(error(&many, EC_KEY), "the certificate's file holds no certificate: it holds more than 64");
}

#[test]
fn a_backend_says_where_its_pair_is() {
    let load = |source: &DataSource| match &source.r#type {
        Some(Source::Secret(name)) if name == "default.ca-builtin-cert-ca-1" => {
            Ok(BUILTIN.certificate_pem.clone().into_bytes())
        }
        Some(Source::Secret(name)) if name == "default.ca-builtin-key-ca-1" => Ok(BUILTIN.key_pem.clone().into_bytes()),
        Some(Source::Secret(_)) => Err("it is not there".to_owned()),
        Some(Source::InlineString(text)) => Ok(text.clone().into_bytes()),
        _ => panic!("{source:?}"),
    };
    let of = |backend: &CertificateAuthorityBackend| Authority::of("default", backend, &load);
    assert!(of(&backend("builtin", serde_json::json!({}))).is_ok());
    let inline = serde_json::json!({"cert": {"inlineString": EC_CA}, "key": {"inlineString": EC_KEY}});
    assert!(of(&backend("provided", inline)).is_ok());
    let error = |backend: &CertificateAuthorityBackend| of(backend).unwrap_err().to_string();
    let secret = serde_json::json!({"cert": {"inlineString": EC_CA}, "key": {"secret": "mine"}});
    assert_eq!(
        error(&backend("provided", secret)),
        "cannot read the key from Secret \"mine\" of mesh \"default\": it is not there"
    );
    assert_eq!(error(&backend("provided", serde_json::json!({}))), "its settings name no certificate or no key");
    assert_eq!(error(&backend("vault", serde_json::json!({}))), "its type \"vault\" is none that issues certificates");
}

#[test]
fn hosts_are_names_and_addresses() {
    let hosts = ["10.0.0.7", "fd00::7", "proxy.example"].map(str::to_owned);
    let request = Request::of_hosts(hosts.into(), Use::Server, DEFAULT_LIFETIME, KeyType::default());
    let leaf = builtin().issue(&request, now()).unwrap();
    check(&leaf.certificate, |leaf| {
        let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
        let v6 = "fd00::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let wanted = [
            GeneralName::IPAddress(&[10, 0, 0, 7]),
            GeneralName::IPAddress(&v6),
            GeneralName::DNSName("proxy.example"),
        ];
        assert_eq!(*names, wanted);
        let extended = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && !extended.client_auth);
    });
}

#[test]
fn a_name_that_is_no_text_of_a_certificate_is_refused() {
    let request = Request::of_workload(vec!["kuma://tag/ä".to_owned()], DEFAULT_LIFETIME, KeyType::default());
    assert!(builtin().issue(&request, now()).is_err());
}
