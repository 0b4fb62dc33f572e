//! What this client does beyond the recorded one, against the same server.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::call::{Call, Outcome};
use crate::server::{Server, World};

/// Runs calls one after the other against one control plane, in one folder.
async fn run_in(folder: &Path, calls: &[&[&str]]) -> Vec<Outcome> {
    let server = Server::start(World::recorded()).await;
    server.reset(&Call::default(), &Arc::default(), false);
    let config = folder.join(".config");
    let plane = format!("- name: cp\n  coordinates:\n    apiServer:\n      url: {}\n", server.url("global"));
    let settings = format!("contexts:\n- name: cp\n  controlPlane: cp\ncontrolPlanes:\n{plane}currentContext: cp\n");
    fs::write(&config, settings).unwrap();
    let mut outcomes = Vec::new();
    for args in calls {
        let call = Call { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..Call::default() };
        outcomes.push(call.run_in(folder, &config, &server, None).await);
    }
    outcomes
}

async fn run(calls: &[&[&str]]) -> Vec<Outcome> {
    run_in(tempfile::tempdir().unwrap().path(), calls).await
}

const GOOD: &str = "type: Zone\nname: north\nenabled: false\n";
const BAD: &str = "type: MeshTimeout\nmesh: default\nname: a\nspec:\n  targetRef:\n    kind: 5\n";
const KUBERNETES: &str = "apiVersion: kuma.io/v1alpha1\nkind: Mesh\nmetadata:\n  name: k8s\nspec:\n  routing:\n    localityAwareLoadBalancing: true\n";

#[tokio::test]
async fn a_folder_is_applied_as_far_as_it_is_good() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("all/deep")).unwrap();
    fs::write(folder.path().join("all/a.yaml"), format!("{BAD}---\n{GOOD}")).unwrap();
    fs::write(folder.path().join("all/deep/b.yml"), KUBERNETES).unwrap();
    fs::write(folder.path().join("all/notes.txt"), "nothing").unwrap();
    let outcomes = run_in(folder.path(), &[&["apply", "-f", "all"], &["get", "mesh", "k8s", "-o", "json"]]).await;
    assert_eq!(outcomes[0].exit_code, 1);
    assert_eq!(
        outcomes[0].stdout,
        "resource type=\"Zone\" mesh=\"\" name=\"north\" Created\nresource type=\"Mesh\" mesh=\"\" name=\"k8s\" Created\n",
        "{}",
        outcomes[0].stderr
    );
    let first = outcomes[0].stderr.lines().next().unwrap();
    assert!(first.starts_with("all/a.yaml:6:11: spec.targetRef.kind: in body must be of type string"), "{first}");
    assert!(outcomes[1].stdout.contains("\"localityAwareLoadBalancing\": true"), "{}", outcomes[1].stdout);
}

#[tokio::test]
async fn every_refusal_of_several_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let dataplane = |name: &str| {
        format!(
            "type: Dataplane\nmesh: default\nname: {name}\nnetworking:\n  address: 10.0.0.1\n  inbound:\n  - port: 1\n    \
                 tags:\n      kuma.io/service: a\n"
        )
    };
    let text = [dataplane("a"), GOOD.to_owned(), dataplane("b")].join("---\n");
    fs::write(folder.path().join("a.yaml"), text).unwrap();
    let outcome = run_in(folder.path(), &[&["apply", "-f", "a.yaml"]]).await.remove(0);
    assert_eq!(outcome.exit_code, 1);
    assert!(outcome.stdout.contains("name=\"north\" Created"));
    let refusals = outcome.stderr.lines().filter(|line| line.starts_with("Error: resource type=\"Dataplane\""));
    assert_eq!(refusals.count(), 2, "{}", outcome.stderr);
}

#[tokio::test]
async fn a_difference_is_shown_and_then_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), GOOD).unwrap();
    fs::write(folder.path().join("b.yaml"), GOOD.replace("false", "true")).unwrap();
    fs::write(folder.path().join("bad.yaml"), BAD).unwrap();
    let calls: [&[&str]; 5] = [
        &["diff", "-f", "a.yaml"],
        &["apply", "-f", "a.yaml"],
        &["diff", "-f", "a.yaml"],
        &["diff", "-f", "b.yaml"],
        &["diff", "-f", "bad.yaml"],
    ];
    let outcomes = run_in(folder.path(), &calls).await;
    let codes: Vec<u8> = outcomes.iter().map(|outcome| outcome.exit_code).collect();
    assert_eq!(codes, [1, 0, 0, 1, 2]);
    assert!(outcomes[0].stdout.contains("+name: north\n"), "{}", outcomes[0].stdout);
    assert_eq!(outcomes[2].stdout, "");
    assert!(outcomes[3].stdout.contains("-enabled: false\n+enabled: true\n"), "{}", outcomes[3].stdout);
}

#[tokio::test]
async fn all_pages_make_one_list() {
    let outcomes =
        run(&[&["get", "meshtimeouts", "--size", "1", "--paginate"], &["get", "meshtimeouts", "-o", "wide"]]).await;
    assert_eq!(outcomes[0].stdout.lines().count(), outcomes[1].stdout.lines().count());
    assert!(!outcomes[0].stdout.contains("Rerun"));
    let header: Vec<&str> =
        outcomes[1].stdout.lines().next().unwrap().split("   ").filter(|cell| !cell.is_empty()).collect();
    let header: Vec<&str> = header.into_iter().map(str::trim).collect();
    assert_eq!(header, ["MESH", "NAME", "AGE", "ORIGIN", "ZONE", "DISPLAY NAME", "TARGET"]);
}

#[tokio::test]
async fn a_slip_is_answered_with_the_nearest_name() {
    let outcomes =
        run(&[&["gte"], &["get", "meshtimout", "a"], &["get", "meshes", "--siez", "1"], &["delete", "mehs", "a"]])
            .await;
    let errors: Vec<&str> = outcomes.iter().map(|outcome| outcome.stderr.trim_end()).collect();
    assert_eq!(errors[0], "Error: unknown command \"gte\" for \"kumactl\"; did you mean \"get\"?");
    assert_eq!(errors[1], "Error: unknown command \"meshtimout\" for \"kumactl get\"; did you mean \"meshtimeout\"?");
    assert_eq!(errors[2], "Error: unknown flag: --siez; did you mean --size?");
    assert!(errors[3].ends_with("; did you mean \"mesh\"?"), "{}", errors[3]);
    assert!(outcomes.iter().all(|outcome| outcome.exit_code == 1));
}

#[tokio::test]
async fn a_token_of_a_control_plane_is_made() {
    let outcomes = run(&[
        &["generate", "zone-token", "--zone", "east", "--scope", "cp", "--valid-for", "720h"],
        &["generate", "zone-token", "--zone", "east", "--scope", "x", "--valid-for", "720h"],
    ])
    .await;
    assert_eq!(outcomes[0].stdout.split('.').count(), 3);
    assert_eq!(outcomes[1].stderr, "Error: invalid --scope values: [x] (supported scopes: [ingress egress cp])\n");
}
