//! Certificates that vouch for themselves, for a first TLS set-up.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use chrono::{DateTime, TimeDelta, Utc};
use clap::{ArgMatches, Command};
use identity::SigningKey;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    RsaKeySize,
};

use crate::command::Session;
use crate::failure::Failure;
use crate::flags;
use crate::io::{Io, plain};

/// How long a certificate is good.
const LIFETIME: TimeDelta = TimeDelta::days(3650);

/// How far back it is dated, for clocks that are behind.
const BACKDATED: TimeDelta = TimeDelta::minutes(5);

/// The command.
pub(super) fn command() -> Command {
    Command::new("tls-certificate")
        .about("Make a key and a certificate that vouches for itself")
        .arg(flags::option("type", "TYPE", "who will use it: client or server").required(true))
        .arg(
            flags::option("hostname", "NAMES", "names or addresses of its owner")
                .required(true)
                .value_delimiter(',')
                .action(clap::ArgAction::Append),
        )
        .arg(flags::option("key-file", "PATH", "where the key goes; - for standard output").default_value("key.pem"))
        .arg(
            flags::option("cert-file", "PATH", "where the certificate goes; - for standard output")
                .default_value("cert.pem"),
        )
        .arg(flags::option("key-type", "TYPE", "type of the key: rsa or ecdsa [default: rsa]"))
}

/// Writes both files, or prints them.
pub(super) fn run(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let purpose = match flags::known(matches, "type") {
        "client" => ExtendedKeyUsagePurpose::ClientAuth,
        "server" => ExtendedKeyUsagePurpose::ServerAuth,
        other => return Err(Failure::other(format!("invalid certificate type {other:?}"))),
    };
    let failed = |error: rcgen::Error| Failure::other(format!("could not generate certificate: {error}"));
    let key = match flags::known(matches, "key-type") {
        "" | "rsa" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        "ecdsa" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        other => return Err(Failure::other(format!("invalid key type {other:?}"))),
    }
    .map_err(failed)?;
    let hosts = flags::texts(matches, "hostname");
    let certificate = certificate(&key, purpose, hosts, session.io.clock.now()).map_err(failed)?;
    let (key_file, cert_file) = (flags::known(matches, "key-file"), flags::known(matches, "cert-file"));
    put(key_file, &key_pem(&key)?, 0o400, "key", session.io)?;
    put(cert_file, &certificate, 0o600, "cert", session.io)?;
    if key_file != "-" && cert_file != "-" {
        writeln!(session.io.stdout, "Private key saved in {key_file}")?;
        writeln!(session.io.stdout, "Certificate saved in {cert_file}")?;
    }
    Ok(())
}

/// The key in the form of its algorithm (`RSA PRIVATE KEY`, `EC PRIVATE KEY`), which the oldest readers know too.
fn key_pem(key: &KeyPair) -> Result<String, Failure> {
    let failed = |reason: String| Failure::other(format!("could not generate certificate: {reason}"));
    if key.is_compatible(&rcgen::PKCS_RSA_SHA256) {
        return Ok(SigningKey::parse(1, key.serialize_pem().as_bytes()).map_err(failed)?.private_pem());
    }
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.serialized_der());
    let der: EcPrivateKeyRfc5915Der<'_> = pair
        .map_err(|error| failed(error.to_string()))?
        .private_key()
        .as_der()
        .map_err(|_| failed("the cryptographic library refused".to_owned()))?;
    let unix = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(pem::encode_config(&pem::Pem::new("EC PRIVATE KEY", der.as_ref()), unix))
}

fn certificate(
    key: &KeyPair,
    purpose: ExtendedKeyUsagePurpose,
    hosts: Vec<String>,
    now: DateTime<Utc>,
) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![purpose];
    let begins = now - BACKDATED;
    params.not_before = std::time::SystemTime::from(begins).into();
    params.not_after = std::time::SystemTime::from(begins + LIFETIME).into();
    Ok(params.self_signed(key)?.pem())
}

fn put(file: &str, content: &str, mode: u32, what: &str, io: &mut Io) -> Result<(), Failure> {
    if file == "-" {
        io.stdout.write_all(content.as_bytes())?;
        return Ok(());
    }
    write(&io.path(file), content, mode)
        .map_err(|error| Failure::other(format!("could not write the {what} file: open {file}: {}", plain(&error))))
}

fn write(path: &Path, content: &str, mode: u32) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content.as_bytes())
}
