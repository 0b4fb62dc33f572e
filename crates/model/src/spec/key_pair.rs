//! Whether a certificate and a key make an authority, in the words of Go's TLS library.

use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::{Any, Integer, OctetString, Oid, Sequence};
use x509_parser::prelude::{FromDer, ParsedExtension};
use x509_parser::public_key::PublicKey;

use crate::violation::{Path, Violations};

/// Adds what keeps a pair of PEM texts from being an authority: it is no pair, or the certificate may not sign.
pub fn check_authority(at: &Path, certificate: &[u8], key: &[u8], found: &mut Violations) {
    let chain = match read_pair(certificate, key) {
        Ok(chain) => chain,
        Err(reason) => return found.add(at, format!("not a valid TLS key pair: {reason}")),
    };
    for (position, der) in chain.iter().enumerate() {
        let at = at.index(position);
        match X509Certificate::from_der(der) {
            Ok((_, certificate)) => check_signer(&at, &certificate, found),
            Err(_) => return found.add(&at, "not a valid x509 certificate: x509: malformed certificate"),
        }
    }
}

fn check_signer(at: &Path, certificate: &X509Certificate<'_>, found: &mut Violations) {
    let extensions = || certificate.extensions().iter().map(|extension| extension.parsed_extension());
    let is_ca = extensions().any(|extension| matches!(extension, ParsedExtension::BasicConstraints(basic) if basic.ca));
    let usage = extensions().find_map(|extension| match extension {
        ParsedExtension::KeyUsage(usage) => Some(usage),
        _ => None,
    });
    if !is_ca {
        let reason = "basic constraint 'CA' must be set to 'true' (see X509-SVID: 4.1. Basic Constraints)";
        found.add(at, reason);
    }
    if !usage.is_some_and(|usage| usage.key_cert_sign()) {
        found.add(at, "key usage extension 'keyCertSign' must be set (see X509-SVID: 4.3. Key Usage)");
    }
    if usage.is_some_and(|usage| usage.key_agreement()) {
        let reason =
            "key usage extension 'keyAgreement' must NOT be set (see X509-SVID: Appendix A. X.509 Field Reference)";
        found.add(at, reason);
    }
}

/// The certificates of a chain, DER, whose first belongs to the key.
fn read_pair(certificate: &[u8], key: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let chain = read_chain(certificate)?;
    let key = read_key(key)?;
    let leaf = chain.first().map(Vec::as_slice).unwrap_or_default();
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| "x509: malformed certificate")?;
    let private = PrivateKey::read(&key).ok_or("tls: failed to parse private key")?;
    private.check_against(&leaf)?;
    Ok(chain)
}

fn blocks(text: &[u8]) -> Vec<pem::Pem> {
    pem::parse_many(text).unwrap_or_default()
}

fn skipped(labels: &[&str]) -> String {
    format!("[{}]", labels.join(" "))
}

fn read_chain(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let blocks = blocks(text);
    let labels: Vec<&str> = blocks.iter().map(pem::Pem::tag).collect();
    let chain: Vec<Vec<u8>> =
        blocks.iter().filter(|block| block.tag() == "CERTIFICATE").map(|block| block.contents().to_vec()).collect();
    match labels.as_slice() {
        _ if !chain.is_empty() => Ok(chain),
        [] => Err("tls: failed to find any PEM data in certificate input".to_owned()),
        [label] if label.ends_with("PRIVATE KEY") => {
            Err("tls: failed to find certificate PEM data in certificate input, \
                                                          but did find a private key; PEM inputs may have been switched"
                .to_owned())
        }
        labels => Err(format!(
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
             following types: {}",
            skipped(labels)
        )),
    }
}

fn read_key(text: &[u8]) -> Result<Vec<u8>, String> {
    let blocks = blocks(text);
    let labels: Vec<&str> = blocks.iter().map(pem::Pem::tag).collect();
    if let Some(key) = blocks.iter().find(|block| block.tag() == "PRIVATE KEY" || block.tag().ends_with(" PRIVATE KEY"))
    {
        return Ok(key.contents().to_vec());
    }
    Err(match labels.as_slice() {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        ["CERTIFICATE"] => "tls: found a certificate rather than a key in the PEM for the private key".to_owned(),
        labels => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of \
             the following types: {}",
            skipped(labels)
        ),
    })
}

/// What a private key says of its public half without computing it.
#[derive(Debug, PartialEq, Eq)]
enum PrivateKey {
    /// The modulus, without leading zeros.
    Rsa(Vec<u8>),
    /// The point, when it is written down.
    Ec(Option<Vec<u8>>),
    /// Nothing.
    Ed25519,
}

impl PrivateKey {
    /// A key of PKCS #1, SEC 1 or PKCS #8.
    fn read(der: &[u8]) -> Option<Self> {
        let (_, sequence) = Sequence::from_der(der).ok()?;
        let (rest, version) = Integer::from_der(&sequence.content).ok()?;
        let (after, next) = Any::from_der(rest).ok()?;
        match next.tag().0 {
            // INTEGER: the modulus of PKCS #1.
            2 => Some(Self::Rsa(without_zeros(next.data))),
            // OCTET STRING: the scalar of SEC 1.
            4 if version.as_u8().ok() == Some(1) => Some(Self::Ec(point(after))),
            // SEQUENCE: the algorithm of PKCS #8.
            16 => {
                let (_, algorithm) = Oid::from_der(next.data).ok()?;
                let (_, inner) = OctetString::from_der(after).ok()?;
                match algorithm.to_id_string().as_str() {
                    "1.3.101.112" => Some(Self::Ed25519),
                    "1.2.840.113549.1.1.1" | "1.2.840.10045.2.1" => Self::read(inner.as_ref()),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn check_against(&self, certificate: &X509Certificate<'_>) -> Result<(), String> {
        const OTHER_TYPE: &str = "tls: private key type does not match public key type";
        const NO_PAIR: &str = "tls: private key does not match public key";
        let info = certificate.public_key();
        let fits = match (info.parsed(), self) {
            (Ok(PublicKey::RSA(public)), Self::Rsa(modulus)) => without_zeros(public.modulus) == *modulus,
            (Ok(PublicKey::EC(public)), Self::Ec(point)) => point.as_ref().is_none_or(|point| point == public.data()),
            (_, Self::Ed25519) if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => true,
            (Ok(PublicKey::RSA(_) | PublicKey::EC(_)), _) => return Err(OTHER_TYPE.to_owned()),
            _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => return Err(OTHER_TYPE.to_owned()),
            _ => return Err("tls: unknown public key algorithm".to_owned()),
        };
        if fits { Ok(()) } else { Err(NO_PAIR.to_owned()) }
    }
}

/// The public point at the end of a key of SEC 1: `[1] BIT STRING`, after the optional name of the curve.
fn point(mut rest: &[u8]) -> Option<Vec<u8>> {
    while let Ok((after, any)) = Any::from_der(rest) {
        if any.tag().0 == 1 {
            let (_, bits) = Any::from_der(any.data).ok()?;
            // The first byte counts unused bits.
            return bits.data.get(1..).map(<[u8]>::to_vec);
        }
        rest = after;
    }
    None
}

fn without_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// The keys of these tests belong to nothing.
#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = include_str!("../../tests/keys/ca-ec.pem");
    const LEAF: &str = include_str!("../../tests/keys/leaf-ec.pem");
    const KEY: &str = include_str!("../../tests/keys/ec.key");
    const KEY_PKCS8: &str = include_str!("../../tests/keys/ec-pkcs8.key");
    const OTHER_KEY: &str = include_str!("../../tests/keys/other-ec.key");
    const RSA_CA: &str = include_str!("../../tests/keys/ca-rsa.pem");
    const RSA_KEY: &str = include_str!("../../tests/keys/rsa.key");
    const RSA_KEY_PKCS8: &str = include_str!("../../tests/keys/rsa-pkcs8.key");

    fn faults(certificate: &str, key: &str) -> Vec<String> {
        let mut found = Violations::default();
        check_authority(&Path::of("cert"), certificate.as_bytes(), key.as_bytes(), &mut found);
        found.into_iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect()
    }

    #[test]
    fn a_certificate_and_its_key_are_a_pair_however_the_key_is_written() {
        for (certificate, key) in [(CA, KEY), (CA, KEY_PKCS8), (RSA_CA, RSA_KEY), (RSA_CA, RSA_KEY_PKCS8)] {
            assert!(faults(certificate, key).is_empty(), "{:?}", faults(certificate, key));
        }
        assert!(faults(&format!("some words\n{CA}\nmore"), KEY).is_empty());
    }

    #[test]
    fn what_is_no_pair_is_told_in_gos_words() {
        let reason = |certificate: &str, key: &str| {
            let [fault] = faults(certificate, key).try_into().unwrap();
            fault.strip_prefix("cert: not a valid TLS key pair: tls: ").unwrap().to_owned()
        };
        assert_eq!(reason("x", KEY), "failed to find any PEM data in certificate input");
        assert_eq!(
            reason(KEY, KEY),
            "failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"
        );
        assert_eq!(reason(CA, ""), "failed to find any PEM data in key input");
        assert_eq!(reason(CA, CA), "found a certificate rather than a key in the PEM for the private key");
        assert_eq!(reason(CA, OTHER_KEY), "private key does not match public key");
        assert_eq!(reason(CA, RSA_KEY), "private key type does not match public key type");
        assert_eq!(reason(CA, &KEY.replace("MHcC", "MHcD")), "failed to parse private key");
        let odd = |text: &str| text.replace("CERTIFICATE", "ODD").replace("EC PRIVATE KEY", "ODD");
        assert_eq!(
            reason(&odd(CA), KEY),
            "failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [ODD]"
        );
        assert_eq!(
            reason(CA, &odd(KEY)),
            "failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [ODD]"
        );
    }

    #[test]
    fn an_authority_may_sign_and_does_nothing_else() {
        assert_eq!(
            faults(LEAF, KEY),
            [
                "cert[0]: basic constraint 'CA' must be set to 'true' (see X509-SVID: 4.1. Basic Constraints)",
                "cert[0]: key usage extension 'keyCertSign' must be set (see X509-SVID: 4.3. Key Usage)",
                "cert[0]: key usage extension 'keyAgreement' must NOT be set (see X509-SVID: Appendix A. X.509 Field Reference)"
            ]
        );
    }

    #[test]
    fn bytes_of_any_shape_are_no_key() {
        for length in 0..64 {
            assert_eq!(PrivateKey::read(&vec![0x30; length]), None);
        }
    }
}
