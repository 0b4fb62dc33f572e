//! `/config` of real control planes, made again from what they were started with.

#![expect(clippy::unwrap_used, reason = "what helpers of a test cannot read fails the test")]

use std::collections::HashMap;

use config::{Effective, Host, Loader, Role};

const DOCUMENTS: &str = include_str!("recorded/documents.jsonl");

fn recorded(role: &str) -> String {
    let documents = DOCUMENTS.lines().map(|line| serde_json::from_str::<HashMap<String, String>>(line).unwrap());
    documents.into_iter().find(|document| document["role"] == role).unwrap().remove("document").unwrap()
}

fn document(loader: Loader) -> String {
    let mut effective: Effective = loader.set("store.type=memory").load().unwrap().effective;
    effective.fill_in(&Host { home: None, address: Some("127.0.0.1".into()) });
    effective.document()
}

#[test]
fn a_global_tells_its_configuration_as_kuma_does() {
    let env = [
        ("KUMA_GENERAL_WORK_DIR", "global"),
        ("KUMA_MONITORING_ASSIGNMENT_SERVER_PORT", "15676"),
        ("KUMA_API_SERVER_HTTP_INTERFACE", "127.0.0.1"),
        ("KUMA_API_SERVER_HTTP_PORT", "15681"),
        ("KUMA_API_SERVER_HTTPS_INTERFACE", "127.0.0.1"),
        ("KUMA_API_SERVER_HTTPS_PORT", "15682"),
        ("KUMA_MULTIZONE_GLOBAL_KDS_GRPC_PORT", "15685"),
        ("KUMA_MULTIZONE_GLOBAL_KDS_TLS_ENABLED", "false"),
        ("KUMA_DIAGNOSTICS_SERVER_PORT", "15680"),
        ("KUMA_DP_SERVER_PORT", "15678"),
        ("KUMA_INTER_CP_SERVER_PORT", "15683"),
    ];
    assert_eq!(document(Loader::new(Role::Global).env(env)), recorded("global"));
}

#[test]
fn a_zone_tells_its_configuration_as_kuma_does() {
    let env = [
        ("KUMA_GENERAL_WORK_DIR", "east"),
        ("KUMA_MONITORING_ASSIGNMENT_SERVER_PORT", "16676"),
        ("KUMA_API_SERVER_HTTP_INTERFACE", "127.0.0.1"),
        ("KUMA_API_SERVER_HTTP_PORT", "16681"),
        ("KUMA_API_SERVER_HTTPS_INTERFACE", "127.0.0.1"),
        ("KUMA_API_SERVER_HTTPS_PORT", "16682"),
        ("KUMA_MULTIZONE_ZONE_NAME", "east"),
        ("KUMA_MULTIZONE_ZONE_GLOBAL_ADDRESS", "grpc://127.0.0.1:15686"),
        ("KUMA_DIAGNOSTICS_SERVER_PORT", "16680"),
        ("KUMA_DP_SERVER_PORT", "16678"),
        ("KUMA_INTER_CP_SERVER_PORT", "16683"),
        ("KUMA_MESH_SERVICE_DELETION_GRACE_PERIOD", "5s"),
    ];
    assert_eq!(document(Loader::new(Role::Zone).env(env)), recorded("zone"));
}

#[test]
fn a_program_gets_the_keys_that_it_reads_and_no_others() {
    let read = |role| Loader::new(role).load().unwrap().effective.typed::<serde_json::Value>().unwrap();
    let (global, zone) = (read(Role::Global), read(Role::Zone));
    assert_eq!(global["multizone"]["global"]["kds"]["grpcPort"], 5685);
    assert!(zone["multizone"].get("global").is_none() && global["multizone"].get("zone").is_none());
    assert!(global["store"].get("cache").is_none());
    assert_eq!(zone["store"]["sqlite"]["path"], "");
}

#[test]
fn secrets_stay_hidden_and_our_keys_appear_once_set() {
    let set = |loader: Loader| loader.set("store.postgres.password=hunter2").set("store.encryption.keyFile=key");
    let effective = set(Loader::new(Role::Global)).load().unwrap().effective;
    let document = effective.document();
    assert!(document.contains(r#""encryption":{"keyFile":"key"}"#) && !document.contains("sqlite\":"), "{document}");
    for told in [document, effective.listing(true)] {
        assert!(told.contains("*****") && !told.contains("hunter2"), "{told}");
    }
    let listing = effective.listing(false);
    assert!(listing.lines().any(|line| line.split_whitespace().eq(["store.type", "default", "sqlite"])), "{listing}");
}
