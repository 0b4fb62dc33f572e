//! How many certificates of workloads one core issues: `cargo xtask bench identity [-- seconds]`.
//!
//! The authority has an RSA key of 2048 bits, as Kuma's have; one signature of it is in every certificate.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::time::{Duration, Instant};

use chrono::Utc;
use identity::ca;
use identity::mesh_ca::{Authority, DEFAULT_LIFETIME, KeyType, Request, names};
use kds_proto::json::{UnknownFields, from_value};

fn main() {
    let seconds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(3);
    let backend = from_value(serde_json::json!({"name": "ca-1", "type": "builtin"}), UnknownFields::Refused).unwrap();
    let options = ca::Options::of(&backend).unwrap();
    let pair = ca::Authority::generate("default", &options, Utc::now()).unwrap();
    let authority =
        Authority::read(pair.certificate_pem.as_bytes(), "memory", pair.key_pem.as_bytes(), "memory").unwrap();
    for (name, key) in [("ECDSA P-256", KeyType::EcdsaP256), ("RSA 2048", KeyType::Rsa2048)] {
        let (count, took) = issue(&authority, key, Duration::from_secs(seconds));
        println!("{name}: {:.0} certificates per second on one core", f64::from(count) / took.as_secs_f64());
    }
}

fn issue(authority: &Authority, key: KeyType, length: Duration) -> (u32, Duration) {
    let tags = [("kuma.io/service", "web"), ("kuma.io/protocol", "http"), ("kuma.io/zone", "east"), ("version", "v1")];
    let tags = tags.map(|(tag, value)| (tag.to_owned(), [value.to_owned()].into())).into();
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < length {
        let request = Request::of_workload(names::of_tags("default", &tags).unwrap(), DEFAULT_LIFETIME, key);
        authority.issue(&request, Utc::now()).unwrap();
        count += 1;
    }
    (count, start.elapsed())
}
