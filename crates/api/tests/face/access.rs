//! Every route, every caller: what is answered, and that a refusal changes nothing.

use api::route::{self, Operation, Route, TokenOf};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{TimeDelta, Utc};
use http::{Method, StatusCode};
use identity::token::{self, User};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use model::Kind;
use model::kind::Access;
use model::mode::Mode;
use serde_json::{Value, json};

use crate::support::{Face, KEY, LOCAL, REMOTE, REVOKED, settings};

/// Sort of a request, as far as access is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What nobody has to prove anything for.
    Open,
    Read,
    ReadSecret,
    Write,
    WriteSecret,
    /// A write of what this control plane never takes.
    WriteElsewhere,
    Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Got as far as its content: 200, 201, 400 or 404.
    Passed,
    /// 401.
    Who,
    /// 403.
    Denied,
    /// 405.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    Local,
    Admin,
    OtherGroup,
    /// Shows a credential that is no good.
    Bad,
    Anonymous,
}

use Class::{Denied, Never, Passed, Who};

const CALLERS: [Caller; 5] = [Caller::Local, Caller::Admin, Caller::OtherGroup, Caller::Bad, Caller::Anonymous];

/// One row per sort of request, one column per caller of [`CALLERS`].
const RULES: [(Asked, [Class; 5]); 7] = [
    (Asked::Open, [Passed, Passed, Passed, Passed, Passed]),
    (Asked::Read, [Passed, Passed, Passed, Who, Passed]),
    (Asked::ReadSecret, [Passed, Passed, Denied, Who, Denied]),
    (Asked::Write, [Passed, Passed, Passed, Who, Denied]),
    (Asked::WriteSecret, [Passed, Passed, Denied, Who, Denied]),
    (Asked::WriteElsewhere, [Never, Never, Never, Who, Never]),
    (Asked::Token, [Passed, Passed, Denied, Who, Denied]),
];

pub fn rule(asked: Asked, caller: Caller) -> Class {
    let (_, row) = RULES.iter().find(|(row, _)| *row == asked).unwrap();
    row[CALLERS.iter().position(|column| *column == caller).unwrap()]
}

fn sort(operation: Operation, method: &Method) -> Asked {
    match operation {
        Operation::Index | Operation::Gui => Asked::Open,
        Operation::IssueToken(_) => Asked::Token,
        Operation::One(kind) if *method != Method::GET && !Mode::Global.may_write(kind) => Asked::WriteElsewhere,
        Operation::One(kind) | Operation::List(kind) if kind.info().access == Access::Admins => {
            if *method == Method::GET { Asked::ReadSecret } else { Asked::WriteSecret }
        }
        Operation::One(_) if *method != Method::GET => Asked::Write,
        _ => Asked::Read,
    }
}

fn class(status: StatusCode) -> Option<Class> {
    match status {
        StatusCode::OK
        | StatusCode::CREATED
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::BAD_REQUEST
        | StatusCode::NOT_FOUND => Some(Passed),
        StatusCode::UNAUTHORIZED => Some(Who),
        StatusCode::FORBIDDEN => Some(Denied),
        StatusCode::METHOD_NOT_ALLOWED => Some(Never),
        _ => None,
    }
}

/// Callers by name: where they are and what they show.
pub fn callers() -> Vec<(&'static str, Caller, &'static str, Option<String>)> {
    let now = Utc::now();
    let issue = |group: &str, id, began, lifetime| {
        let user = User { name: "jo".into(), groups: Some(vec![group.to_owned()]) };
        Some(token::issue(user, &KEY, id, began, lifetime).unwrap())
    };
    let (admins, hour) = ("mesh-system:admin", TimeDelta::hours(1));
    let some = uuid::Uuid::from_u128(1);
    vec![
        ("local admin", Caller::Local, LOCAL, None),
        ("token of an admin", Caller::Admin, REMOTE, issue(admins, some, now, hour)),
        ("token of another group", Caller::OtherGroup, REMOTE, issue("ops", some, now, hour)),
        ("revoked token", Caller::Bad, REMOTE, issue(admins, REVOKED, now, hour)),
        ("expired token", Caller::Bad, REMOTE, issue(admins, some, now - hour * 2, hour)),
        ("forged with alg none", Caller::Bad, REMOTE, Some(unsigned())),
        ("HS256 with the public key", Caller::Bad, REMOTE, Some(signed_with_public_key())),
        ("anonymous", Caller::Anonymous, REMOTE, None),
    ]
}

fn forged_claims() -> Value {
    json!({"Name": "mesh-system:admin", "Groups": ["mesh-system:admin"], "exp": Utc::now().timestamp() + 3600})
}

fn unsigned() -> String {
    let header = json!({"alg": "none", "kid": "1", "typ": "JWT"}).to_string();
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(forged_claims().to_string()))
}

fn signed_with_public_key() -> String {
    let header = Header { kid: Some("1".into()), ..Header::new(Algorithm::HS256) };
    let secret = EncodingKey::from_secret(KEY.public_pem().unwrap().as_bytes());
    jsonwebtoken::encode(&header, &forged_claims(), &secret).unwrap()
}

/// A path that the route matches; what it names is not there, but for the mesh `default`.
fn path(route: &Route) -> String {
    let mesh = if route.operation == Operation::One(Kind::Mesh) { "absent" } else { "default" };
    let path = route.template.replace("{mesh}", mesh).replace("{name}", "absent").replace("{*page}", "x");
    path.replace("{kri}", "kri_mtimeout_default___absent_")
}

fn body(operation: Operation) -> Value {
    match operation {
        Operation::IssueToken(TokenOf::Dataplane) => json!({"mesh": "default", "name": "dp"}),
        Operation::IssueToken(TokenOf::Zone) => json!({"zone": "east", "scope": ["cp"]}),
        Operation::IssueToken(TokenOf::User) => json!({"name": "jo", "validFor": "1h"}),
        _ => json!({}),
    }
}

/// What came of a table.
#[derive(Default)]
pub struct Checked {
    wrong: Vec<String>,
    count: usize,
}

impl Checked {
    /// Sends every method of every route as one caller.
    pub async fn every_route(
        &mut self,
        face: &Face,
        name: &str,
        caller: Caller,
        rule: &impl Fn(Asked, Caller) -> Class,
        send: impl AsyncFn(&Method, &str, &Value) -> StatusCode,
    ) {
        for route in route::all() {
            for method in route.operation.methods() {
                let expected = rule(sort(route.operation, method), caller);
                let before = face.revision();
                let status = send(method, &path(&route), &body(route.operation)).await;
                self.count += 1;
                if class(status) != Some(expected) {
                    self.wrong.push(format!("{name}: {method} {}: {status}, not {expected:?}", route.template));
                }
                if expected != Passed && face.revision() != before {
                    self.wrong.push(format!("{name}: {method} {} was refused and changed something", route.template));
                }
            }
        }
    }

    /// How many combinations there were, all of them right.
    pub fn end(self) -> usize {
        let Self { wrong, count } = self;
        assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
        count
    }
}

async fn check_all(face: &Face, rule: impl Fn(Asked, Caller) -> Class) -> usize {
    let mut checked = Checked::default();
    for (name, caller, from, token) in callers() {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", &**bearer)).collect();
        let send = async |method: &Method, path: &str, body: &Value| {
            face.send(from, method, path, &headers, body).await.status
        };
        checked.every_route(face, name, caller, &rule, send).await;
    }
    checked.end()
}

/// API-14: the localhost rule and the tokens, on every route.
#[tokio::test]
async fn every_route_answers_every_caller_by_the_rules() {
    let count = check_all(&Face::new(settings()).await, rule).await;
    println!("{count} combinations of route, method and caller");
    assert!(count > 8 * route::all().len());
}

/// The one setting that gives Kuma's openness: everybody writes what is not secret.
#[tokio::test]
async fn with_unauthenticated_writers_anonymous_callers_write_what_is_not_secret() {
    let mut open = settings();
    open.access.write.groups.push("mesh-system:unauthenticated".into());
    let rule = |asked, caller| match (asked, caller) {
        (Asked::Write, Caller::Anonymous) => Passed,
        _ => rule(asked, caller),
    };
    check_all(&Face::new(open).await, rule).await;
}

/// Without the localhost rule somebody on this machine is a stranger like any other.
#[tokio::test]
async fn without_the_localhost_rule_nobody_is_admin_by_place() {
    let mut strict = settings();
    strict.authentication.localhost_is_admin = false;
    check_all(&Face::new(strict).await, |asked, caller| match caller {
        Caller::Local => rule(asked, Caller::Anonymous),
        _ => rule(asked, caller),
    })
    .await;
}

/// An identifier of a kind that only admins read is no way around.
#[tokio::test]
async fn every_kind_with_an_identifier_is_as_secret_by_identifier() {
    let face = Face::new(settings()).await;
    let kinds = Kind::ALL.iter().filter_map(|kind| Some((kind, kind.info().short_name?)));
    for (kind, short) in kinds {
        let path = format!("/_kri/kri_{short}_default___absent_");
        let answer = face.send(REMOTE, &Method::GET, &path, &[], &Value::Null).await;
        let expected = if kind.info().access == Access::Admins { Denied } else { Passed };
        assert_eq!(class(answer.status), Some(expected), "{kind}");
    }
}
