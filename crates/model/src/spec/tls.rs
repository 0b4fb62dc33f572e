//! Versions and ciphers of TLS, as more than one kind has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::check;
use crate::spec::words::words;
use crate::violation::{Path, Violations};

words!(
    /// A version of TLS; `TLSAuto` leaves it to the proxy.
    open Version { Auto = "TLSAuto", Tls10 = "TLS10", Tls11 = "TLS11", Tls12 = "TLS12", Tls13 = "TLS13" }
);

const VERSIONS: &[&str] = &["TLSAuto", "TLS10", "TLS11", "TLS12", "TLS13"];

words!(
    /// A cipher suite of TLS 1.2.
    open Cipher {
        EcdheEcdsaAes128GcmSha256 = "ECDHE-ECDSA-AES128-GCM-SHA256",
        EcdheEcdsaAes256GcmSha384 = "ECDHE-ECDSA-AES256-GCM-SHA384",
        EcdheEcdsaChacha20Poly1305 = "ECDHE-ECDSA-CHACHA20-POLY1305",
        EcdheRsaAes128GcmSha256 = "ECDHE-RSA-AES128-GCM-SHA256",
        EcdheRsaAes256GcmSha384 = "ECDHE-RSA-AES256-GCM-SHA384",
        EcdheRsaChacha20Poly1305 = "ECDHE-RSA-CHACHA20-POLY1305",
    }
);

/// The ciphers that proxies know.
pub const CIPHERS: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// The oldest and the newest version to speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Versions {
    /// The oldest.
    #[serde(default = "auto")]
    pub min: Version,
    /// The newest.
    #[serde(default = "auto")]
    pub max: Version,
}

fn auto() -> Version {
    Version::Auto
}

impl Versions {
    /// Adds versions that do not exist, and a range that is empty.
    pub fn check(&self, at: &Path, found: &mut Violations) {
        for (member, version) in [("min", &self.min), ("max", &self.max)] {
            if matches!(version, Version::Other(_)) {
                found.add(&at.field(member), check::must_be_one_of(member, VERSIONS));
            }
        }
        let named = |version: &Version| !matches!(version, Version::Auto | Version::Other(_));
        if named(&self.min) && named(&self.max) && self.min > self.max {
            found.add(&at.field("min"), "min version must be lower than max");
        }
    }
}

/// Adds a list of ciphers of which one is unknown.
pub fn check_ciphers(at: &Path, member: &str, ciphers: &[Cipher], found: &mut Violations) {
    if ciphers.iter().any(|cipher| matches!(cipher, Cipher::Other(_))) {
        found.add(at, check::must_be_one_of(member, CIPHERS));
    }
}
