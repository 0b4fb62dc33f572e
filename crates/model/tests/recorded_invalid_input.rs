//! What the real control plane answered to PUTs, against what intake says: title, detail, faults in order, warnings.
//!
//! The recordings are `recorded/rest-invalid.jsonl`. Cases that do not match yet are listed, each with its reason, in
//! `recorded/known-differences.yaml`; a case that matches may not be listed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use model::intake::{self, Accepted, Put, Rejection};
use model::label_rules::OriginLabel;
use model::resource::Resource;
use model::{Key, Kind, Labels, Mode, Payload, Violations};
use serde::Deserialize;
use serde_json::Value;

/// Prints past the test harness, which keeps what passing tests print to itself: the counts are for whoever reads the run.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write;
        writeln!(std::io::stderr(), $($text)*).unwrap();
    }};
}

const CASES: &str = include_str!("recorded/rest-invalid.jsonl");
const KNOWN: &str = include_str!("recorded/known-differences.yaml");

#[derive(Deserialize)]
struct Case {
    name: String,
    target: String,
    path: String,
    body: Value,
    status: u16,
    response: Value,
}

/// Everything of an answer that intake decides.
#[derive(Debug, PartialEq)]
struct Answer {
    title: Option<String>,
    detail: Option<String>,
    faults: Vec<(String, String)>,
    warnings: Vec<String>,
}

impl Case {
    fn id(&self) -> String {
        format!("{}/{}", self.target, self.name)
    }

    fn mode(&self) -> Mode {
        if self.target == "global" { Mode::Global } else { Mode::universal_zone("east", true) }
    }

    /// Kind, mesh and name in the URL.
    fn key(&self) -> Option<Key> {
        let segments: Vec<&str> = self.path.trim_matches('/').split('/').collect();
        match segments.as_slice() {
            ["meshes", mesh, collection, name] => Some(Key::new(Kind::from_path(collection)?, mesh, name)),
            [collection, name] => Some(Key::global(Kind::from_path(collection)?, name)),
            _ => None,
        }
    }

    /// Whether the answer depends on more than the request and what it replaces: a race, a missing mesh, the part that
    /// the control plane plays.
    fn is_decided_elsewhere(&self) -> bool {
        let title = self.response["title"].as_str().unwrap_or_default();
        !matches!(self.status, 200 | 201 | 400) || title == "Mesh is not found" || title == "Failed to retrieve Mesh"
    }

    fn text(&self) -> String {
        self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned)
    }

    fn expected(&self) -> Answer {
        let list = |key: &str| self.response[key].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Answer {
            title: self.response["title"].as_str().map(str::to_owned),
            detail: self.response["detail"].as_str().map(str::to_owned),
            faults: list("invalid_parameters").iter().map(|p| (text(&p["field"]), text(&p["reason"]))).collect(),
            warnings: list("warnings").iter().map(text).collect(),
        }
    }

    fn found(&self) -> Answer {
        let Some(key) = self.key() else { panic!("{}: no collection in {}", self.id(), self.path) };
        let (mode, body) = (self.mode(), self.text());
        let outcome = intake::read(Put {
            mode: &mode,
            origin_label: OriginLabel::Required,
            kind: key.kind,
            mesh: if key.kind.info().scope == model::kind::Scope::Mesh { &key.mesh } else { "" },
            name: &key.name,
            body: body.as_bytes(),
        })
        .and_then(|draft| match stored(&key) {
            Some(stored) => draft.replace(&stored),
            None => draft.create(),
        });
        match outcome {
            Ok(Accepted { warnings, .. }) => Answer { title: None, detail: None, faults: Vec::new(), warnings },
            Err(rejection) => rejected(&rejection),
        }
    }
}

fn rejected(rejection: &Rejection) -> Answer {
    let faults = rejection.faults().into_iter().flat_map(Violations::iter);
    Answer {
        title: Some(rejection.title().to_owned()),
        detail: Some(rejection.detail().to_owned()),
        faults: faults.map(|fault| (fault.field.clone(), fault.reason.clone())).collect(),
        warnings: Vec::new(),
    }
}

/// What was stored when the cases were recorded, as far as answers depend on it.
fn stored(key: &Key) -> Option<Resource> {
    let mesh = r#"{"mtls": {"enabledBackend": "ca-1", "backends": [{"name": "ca-1", "type": "builtin"}]}}"#;
    let (content, labels): (&str, Labels) = match (key.kind, &*key.name) {
        (Kind::Mesh, "default") => (mesh, Labels::default()),
        (Kind::MeshTimeout, "mt-backend-z66dxfw28d7bd6b6") => {
            let labels =
                [("kuma.io/display-name", "mt-backend"), ("kuma.io/mesh", "default"), ("kuma.io/origin", "global")];
            (r#"{"to": []}"#, labels.into_iter().collect())
        }
        _ => return None,
    };
    let content = (key.kind.info().codec.from_json)(serde_json::from_str(content).unwrap()).unwrap();
    let key = Key { kind: key.kind, mesh: Arc::clone(&key.mesh), name: Arc::clone(&key.name) };
    Some(Resource::new(key, labels, Payload::from_bytes(content)))
}

/// The real control plane walks the members of an object in random order while it looks at the schema, and so did
/// these answers: their faults are compared in one order.
fn in_one_order(mut answer: Answer) -> Answer {
    if answer.faults.iter().all(|(field, reason)| reason.contains("in body ") || field.is_empty()) {
        answer.faults.sort();
    }
    answer
}

fn cases() -> impl Iterator<Item = Case> {
    CASES.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// API 1.4, 1.5, 1.7, 1.8 and section 3: every recorded refusal of a document, word for word.
#[test]
fn recorded_documents_are_judged_alike() {
    let known: BTreeMap<String, String> = serde_yaml::from_str(KNOWN).unwrap();
    let (mut surprises, mut replayed, mut alike) = (Vec::new(), 0, 0);
    for case in cases().filter(|case| !case.is_decided_elsewhere()) {
        let (expected, found) = (in_one_order(case.expected()), in_one_order(case.found()));
        replayed += 1;
        alike += usize::from(expected == found);
        match (expected == found, known.contains_key(&case.id())) {
            (true, false) | (false, true) => {}
            (true, true) => surprises.push(format!("{} matches now: take it off the list", case.id())),
            (false, false) => {
                surprises.push(format!(
                    "{}\n  body:     {}\n  recorded: {expected:?}\n  ours:     {found:?}",
                    case.id(),
                    case.text()
                ));
            }
        }
    }
    tell!("invalid input: {alike} of {replayed} recorded answers are alike, {} are known to differ", known.len());
    assert!(replayed > 200, "only {replayed} cases were replayed");
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

#[test]
fn every_known_difference_names_a_case_and_a_reason() {
    let known: BTreeMap<String, String> = serde_yaml::from_str(KNOWN).unwrap();
    let ids: Vec<String> = cases().map(|case| case.id()).collect();
    for (id, reason) in known {
        assert!(ids.contains(&id), "{id} is no case");
        assert!(reason.split_whitespace().count() > 3, "{id}: a reason is a sentence");
    }
}

/// What the model does not decide is decided by rules of its own: who may write what, and whether a mesh is there.
#[test]
fn refusals_by_mode_are_those_of_the_mode() {
    for case in cases().filter(|case| case.status == 405) {
        let Some(key) = case.key() else { continue };
        assert!(!case.mode().may_write(key.kind), "{}", case.id());
        assert_eq!(case.response["detail"].as_str(), Some(case.mode().write_refusal()), "{}", case.id());
    }
    for case in cases().filter(|case| matches!(case.status, 200 | 201)) {
        let key = case.key().unwrap();
        assert!(case.mode().may_write(key.kind), "{}", case.id());
    }
}
