//! The program as an operator meets it: its own flags, and what they refuse. The global's tests cover the rest.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn zone(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuma-zone"));
    command.args(arguments).env_clear().env("HOME", folder).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn its_flags_are_settings() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["config", "--zone", "west", "--kds-global-address", "grpcs://global:5685", "--kds-token-file", "/t"];
    let (code, listing, warnings) = zone(folder.path(), &flags);
    assert_eq!((code, &*warnings), (Some(0), ""));
    for (key, value, source) in [
        ("multizone.zone.name", "west", "--zone"),
        ("multizone.zone.globalAddress", "grpcs://global:5685", "--kds-global-address"),
        ("multizone.zone.kds.auth.cpTokenPath", "/t", "--kds-token-file"),
        ("store.sqlite.path", &*folder.path().join(".kuma/zone-west.db").to_string_lossy(), "automatic"),
    ] {
        let told = |line: &str| line.split_whitespace().collect::<Vec<_>>() == [key, source, value];
        assert!(listing.lines().any(told), "{key} in {listing}");
    }
    assert!(zone(folder.path(), &["version"]).1.starts_with("kuma-zone "));
}

#[test]
fn what_cannot_lead_to_a_global_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no.pem");
    std::fs::write(&file, "nothing").unwrap();
    let global = ["--kds-global-address", "grpcs://global:5685"];
    for (flags, beginning) in [
        (
            &["--kds-global-address", "http://global:5685"][..],
            "Error: configuration validation failed: Multizone Zone validation failed: unsupported scheme \"http\"",
        ),
        (
            &["--zone", "a_b!"],
            "Error: configuration validation failed: Multizone Zone validation failed: Zone name a_b! has to be",
        ),
        (
            &[&global[..], &["--kds-ca-file", &file.to_string_lossy()]].concat(),
            "Error: configuration validation failed: Multizone Zone validation failed: failed to parse root certificate",
        ),
        (
            &[&global[..], &["--kds-token-file", "/nope"]].concat(),
            "Error: cannot read the zone's token \"/nope\": No such file or directory",
        ),
    ] {
        let (code, _, stderr) = zone(folder.path(), &[&["run"], flags].concat());
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.lines().last().unwrap().starts_with(beginning), "{stderr}");
    }
}
