//! Writes that meet other writes, and what the audit log tells of them.

use api::Audit;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Face, REMOTE, TIMEOUT, settings, timeout};

const CONFLICT: &str = r#"resource conflict: type="MeshTimeout" name="t" mesh="default""#;

#[tokio::test]
async fn a_write_is_tied_to_the_version_that_was_read() {
    let face = Face::new(settings()).await;
    let put =
        async |seconds, headers: &[(&str, &str)]| face.local(&Method::PUT, TIMEOUT, headers, &timeout(seconds)).await;
    let created = put(1, &[("if-none-match", "*")]).await;
    assert_eq!(
        (created.status, &created.headers["etag"]),
        (StatusCode::CREATED, &http::HeaderValue::from_static("\"1\""))
    );
    let read = face.local(&Method::GET, TIMEOUT, &[], &Value::Null).await;
    let tag = read.headers["etag"].to_str().unwrap().to_owned();
    let updated = put(2, &[("if-match", &tag)]).await;
    assert_eq!((updated.status, &updated.headers["etag"]), (StatusCode::OK, &http::HeaderValue::from_static("\"2\"")));

    let before = face.revision();
    let stale = put(3, &[("if-match", &tag)]).await;
    assert_eq!(stale.status, StatusCode::CONFLICT);
    let told = stale.json();
    assert_eq!(
        (&told["title"], &told["detail"], &told["details"]),
        (&json!("Conflict"), &json!(CONFLICT), &json!(CONFLICT))
    );
    assert_eq!(face.local(&Method::DELETE, TIMEOUT, &[("if-match", &tag)], &Value::Null).await.status, 409);
    let exists = put(3, &[("if-none-match", "*")]).await;
    assert_eq!(exists.json()["detail"], r#"resource already exists: type="MeshTimeout" name="t" mesh="default""#);
    assert_eq!(face.revision(), before, "a refused write changes nothing");
    let kept = face.local(&Method::GET, TIMEOUT, &[], &Value::Null).await.json();
    assert_eq!(kept["spec"]["to"][0]["default"]["connectionTimeout"], "2s");

    assert_eq!(face.local(&Method::DELETE, TIMEOUT, &[("if-match", "\"2\"")], &Value::Null).await.status, 200);
    assert_eq!(put(4, &[("if-match", "*")]).await.status, 409, "nothing is there to match");
}

/// Every answer is told before the next version is there, or is a conflict: no write is lost in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_puts_only_those_that_won_are_stored() {
    const WRITERS: usize = 24;
    let face = std::sync::Arc::new(Face::new(settings()).await);
    face.local(&Method::PUT, TIMEOUT, &[], &timeout(1)).await;
    for (headers, exactly) in
        [(&[][..], None), (&[("if-match", "*")][..], None), (&[("if-match", "current")][..], Some(1))]
    {
        let read = face.local(&Method::GET, TIMEOUT, &[], &Value::Null).await;
        let tag = read.headers["etag"].to_str().unwrap().to_owned();
        let version: usize = tag.trim_matches('"').parse().unwrap();
        let headers: Vec<(&'static str, String)> = headers
            .iter()
            .map(|(name, value)| (*name, if *value == "current" { tag.clone() } else { (*value).to_owned() }))
            .collect();
        let writers = (0..WRITERS).map(|at| {
            let (face, headers) = (face.clone(), headers.clone());
            tokio::spawn(async move {
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let answer = face.local(&Method::PUT, TIMEOUT, &headers, &timeout(at + 2)).await;
                if answer.status == StatusCode::CONFLICT {
                    assert_eq!(answer.json()["detail"], CONFLICT);
                } else {
                    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
                }
                (answer.status == StatusCode::OK).then_some(at + 2)
            })
        });
        let mut won = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            won.extend(writer.await.unwrap());
        }
        let after = face.local(&Method::GET, TIMEOUT, &[], &Value::Null).await;
        assert_eq!(after.headers["etag"].to_str().unwrap(), format!("\"{}\"", version + won.len()));
        let stored = after.json()["spec"]["to"][0]["default"]["connectionTimeout"].as_str().unwrap().to_owned();
        assert!(won.iter().any(|seconds| stored == format!("{seconds}s")), "{stored} is of none of {won:?}");
        assert!(exactly.is_none_or(|exactly| won.len() == exactly), "{won:?} won");
    }
}

#[tokio::test]
async fn every_write_and_token_leaves_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = api::audit::Settings { path: folder.path().join("audit.jsonl"), max_bytes: 1 << 20, max_files: 1 };
    let mut with_log = settings();
    let audit = Audit::open(&file, &with_log.metrics).unwrap();
    with_log.audit = Some(audit.clone());
    let face = Face::new(with_log).await;
    let nothing = Value::Null;
    face.local(&Method::PUT, TIMEOUT, &[], &timeout(1)).await;
    face.local(&Method::PUT, TIMEOUT, &[], &timeout(2)).await;
    let revision = face.revision();
    face.local(&Method::GET, TIMEOUT, &[], &nothing).await;
    face.send(REMOTE, &Method::DELETE, TIMEOUT, &[], &nothing).await;
    face.send(REMOTE, &Method::DELETE, TIMEOUT, &[("authorization", "Bearer x.y.z")], &nothing).await;
    face.local(&Method::DELETE, TIMEOUT, &[("if-match", "\"1\"")], &nothing).await;
    face.local(&Method::PUT, "/meshes/m", &[], &json!({"type": "Mesh", "name": "other"})).await;
    face.local(&Method::DELETE, TIMEOUT, &[], &nothing).await;
    let user = face.local(&Method::POST, "/tokens/user", &[], &json!({"name": "jo", "validFor": "1h"})).await;
    assert_eq!(user.status, StatusCode::OK, "{}", user.text);
    let zone = json!({"zone": "east", "scope": ["cp"]});
    face.send(REMOTE, &Method::POST, "/tokens/zone", &[], &zone).await;
    audit.flush().await;

    let text = std::fs::read_to_string(&file.path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let short: Vec<String> = lines
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            let user = text("user").trim_start_matches("mesh-system:").to_owned();
            format!(
                "{user} {} {} {} {} {}",
                text("operation"),
                text("kind"),
                text("name"),
                line["status"],
                text("result")
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            "admin create MeshTimeout t 201 ok",
            "admin update MeshTimeout t 200 ok",
            "anonymous delete MeshTimeout t 403 refused",
            "- delete MeshTimeout t 401 refused",
            "admin delete MeshTimeout t 409 refused",
            "admin put Mesh m 400 refused",
            "admin delete MeshTimeout t 200 ok",
            "admin issue-token user jo 200 ok",
            "anonymous issue-token zone - 403 refused",
        ]
    );
    let updated = &lines[1];
    assert_eq!(
        (&updated["revision"], &updated["version"], &updated["mesh"]),
        (&json!(revision), &json!(2), &json!("default"))
    );
    assert_eq!((&updated["peer"], &lines[2]["peer"]), (&json!("127.0.0.1:40000"), &json!("10.0.0.7:40000")));
    assert_eq!(lines[4]["reason"], CONFLICT);
    assert!(lines[7]["tokenId"].as_str().is_some_and(|id| uuid::Uuid::parse_str(id).is_ok()), "{}", lines[7]);
    assert!(lines[7]["expires"].is_string());
    assert!(!text.contains(&user.text), "a token is no business of the log");
}

/// kds-wire 8.2, KDS-59: what the global told is the global's; Kuma 2.13 leaves a gap for DELETE.
#[tokio::test]
async fn a_federated_zone_neither_changes_nor_deletes_what_the_global_told() {
    let labels = [("kuma.io/origin", "global"), ("kuma.io/display-name", "t")].into_iter().collect();
    let key = model::Key::new(model::Kind::MeshTimeout, "default", "t");
    let spec = model::Payload::from_bytes(timeout(1)["spec"].to_string());
    let synced = store::Batch::new().create(model::Resource::new(key, labels, spec));
    for (federated, skipped, expected) in [(true, false, 400), (true, true, 200), (false, false, 200)] {
        let mode = model::mode::Mode::universal_zone("east", federated);
        let face = Face::new(api::Settings { mode, skip_origin_check: skipped, ..settings() }).await;
        face.store.apply(synced.clone()).await.unwrap();
        let answer = face.local(&Method::DELETE, TIMEOUT, &[], &Value::Null).await;
        assert_eq!(answer.status, expected, "{}", answer.text);
        if expected == 400 {
            let parameter = &answer.json()["invalid_parameters"][0];
            assert_eq!(parameter["field"], r#"labels["kuma.io/origin"]"#);
            assert_eq!(parameter["reason"], "the origin label must be set to 'zone'");
            assert_eq!(face.local(&Method::PUT, TIMEOUT, &[], &timeout(2)).await.status, 400);
        }
    }
}
