//! A control plane that answers as the recorded ones did, and takes writes by the rules of the model.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Response, StatusCode, Uri};
use chrono::{DateTime, Utc};
use identity::SigningKey;
use identity::token::{self, Dataplane, User, Zone};
use model::intake::{self, Put};
use model::kind::{Kind, Scope};
use model::label_rules::OriginLabel;
use model::{Mode, rest_form};
use serde::Serialize;
use serde_json::{Value, json};

use crate::call::{Call, Shown};

/// Everything that the recorded control planes answered.
#[derive(Clone, Default)]
pub struct World(Arc<HashMap<(String, String, String), Vec<Recorded>>>);

/// A recorded answer.
#[derive(Clone)]
struct Recorded {
    body: Value,
    status: u16,
    answer: String,
}

impl World {
    /// The recorded calls of the API, without those of other users than a local admin.
    pub fn recorded() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/tests/recorded");
        let mut world: HashMap<_, Vec<Recorded>> = HashMap::new();
        for file in ["global", "zone", "global-invalid", "zone-invalid"] {
            let text = fs::read_to_string(folder.join(format!("{file}.jsonl"))).unwrap();
            for line in text.lines() {
                let call: Value = serde_json::from_str(line).unwrap();
                let status = u16::try_from(call["status"].as_u64().unwrap()).unwrap();
                if !call["request_headers"].is_null() || status == 0 || !call["cut"].is_null() {
                    continue;
                }
                let word = |key: &str| call[key].as_str().unwrap().to_owned();
                let answer = call["text"].as_str().map_or_else(|| pretty(&call["response"]), str::to_owned);
                world.entry((word("target"), word("method"), canonical(&word("path")))).or_default().push(Recorded {
                    body: call["body"].clone(),
                    status,
                    answer,
                });
            }
        }
        Self(Arc::new(world))
    }

    fn find(&self, target: &str, method: &str, path: &str) -> &[Recorded] {
        self.0.get(&(target.to_owned(), method.to_owned(), path.to_owned())).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A path with the usual name of its collection.
fn canonical(path: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, String::new()), |(path, query)| (path, format!("?{query}")));
    let segment = |segment: &str| Kind::from_path(segment).map_or(segment, |kind| kind.info().path).to_owned();
    let segments: Vec<String> = path.split('/').map(segment).collect();
    segments.join("/") + &query
}

/// The server, on a port of its own for each recorded control plane.
pub struct Server {
    state: Arc<Mutex<Book>>,
    ports: BTreeMap<&'static str, u16>,
}

/// Recorded addresses of the control planes.
const RECORDED: [(&str, u16); 2] = [("global", 15681), ("zone", 16681)];
/// Where nobody listened.
const DOWN: u16 = 15998;

/// What the server knows and saw during one call.
#[derive(Default)]
struct Book {
    world: World,
    shown: Arc<Shown>,
    /// Whether what outputs show is better than what was recorded.
    prefer_shown: bool,
    used_output: bool,
    /// Resources that were written or deleted (`null`), by target and path.
    written: BTreeMap<(String, String), Value>,
    asked: Vec<String>,
    answers: Vec<String>,
}

impl Server {
    /// Starts it.
    pub async fn start(world: World) -> Self {
        let state = Arc::new(Mutex::new(Book { world, ..Book::default() }));
        let mut ports = BTreeMap::new();
        for (target, _) in RECORDED {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            ports.insert(target, listener.local_addr().unwrap().port());
            let book = Arc::clone(&state);
            let handler = async move |State(book): State<Arc<Mutex<Book>>>, method: Method, uri: Uri, body: Bytes| {
                let (status, answer) = book.lock().unwrap().answer(target, &method, &uri, &body);
                let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
                response.header("content-type", "application/json").body(Body::from(answer)).unwrap()
            };
            let router = Router::new().fallback(handler).with_state(book);
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        Self { state, ports }
    }

    /// Forgets what happened. What a call made or found is there before it, as its output says.
    pub fn reset(&self, call: &Call, shown: &Arc<Shown>, prefer_shown: bool) {
        let mut book = self.state.lock().unwrap();
        *book = Book { world: book.world.clone(), shown: Arc::clone(shown), prefer_shown, ..Book::default() };
        for line in call.stdout.lines() {
            if let Some((path, exists)) = prepared(line) {
                book.written.insert((call.target.clone(), path), if exists { json!({}) } else { Value::Null });
            }
        }
    }

    /// Whether an answer was taken from an output since.
    pub fn used_output(&self) -> bool {
        self.state.lock().unwrap().used_output
    }

    /// Paths that were asked for since.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Times in the answers since.
    pub fn times(&self) -> Vec<DateTime<Utc>> {
        let book = self.state.lock().unwrap();
        let words = book.answers.iter().flat_map(|answer| answer.split('"'));
        words.filter_map(|word| DateTime::parse_from_rfc3339(word).ok()).map(|time| time.to_utc()).collect()
    }

    /// Address of a control plane.
    pub fn url(&self, target: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports.get(target).copied().unwrap_or(DOWN))
    }

    /// A text with the addresses of this server in place of the recorded ones.
    pub fn to_real(&self, text: &str) -> String {
        RECORDED.iter().fold(text.to_owned(), |text, (target, port)| {
            text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", self.ports[target]))
        })
    }

    /// The reverse of [`Self::to_real`].
    pub fn to_recorded(&self, text: &str) -> String {
        RECORDED.iter().fold(text.to_owned(), |text, (target, port)| {
            text.replace(&format!("127.0.0.1:{}", self.ports[target]), &format!("127.0.0.1:{port}"))
        })
    }
}

/// What has to be there before `resource type=.. Updated` or `deleted Mesh "a"`: a path, and whether it exists.
fn prepared(line: &str) -> Option<(String, bool)> {
    let quoted: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    if let Some(rest) = line.strip_prefix("deleted ") {
        let kind: Kind = rest.split(' ').next()?.parse().ok()?;
        return Some((path_of(kind, "default", quoted.first()?), true));
    }
    let [kind, mesh, name] = quoted.as_slice() else { return None };
    let exists = line.ends_with(" Updated");
    line.starts_with("resource type=").then(|| (path_of(kind.parse().unwrap(), mesh, name), exists))
}

/// Path of a resource.
pub fn path_of(kind: Kind, mesh: &str, name: &str) -> String {
    match kind.info().scope {
        Scope::Global => format!("/{}/{name}", kind.info().path),
        Scope::Mesh => format!("/meshes/{mesh}/{}/{name}", kind.info().path),
    }
}

/// Kind, mesh and name of the resource at a path.
fn resource_at(path: &str) -> Option<(Kind, String, String)> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        ["meshes", mesh, collection, name] => {
            Some((Kind::from_path(collection)?, (*mesh).to_owned(), (*name).to_owned()))
        }
        [collection, name] => Some((Kind::from_path(collection)?, String::new(), (*name).to_owned())),
        _ => None,
    }
}

fn refusal(status: u16, title: &str, detail: &str, faults: &[(String, String)]) -> (u16, String) {
    let mut body = json!({"type": "/std-errors", "status": status, "title": title, "detail": detail});
    if !faults.is_empty() {
        let faults: Vec<Value> =
            faults.iter().map(|(field, reason)| json!({"field": field, "reason": reason})).collect();
        body["invalid_parameters"] = faults.into();
    }
    body["details"] = detail.into();
    (status, pretty(&body))
}

/// JSON as the recorded control planes print it.
fn pretty(value: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).unwrap();
    String::from_utf8(text).unwrap() + "\n"
}

impl Book {
    fn answer(&mut self, target: &str, method: &Method, uri: &Uri, body: &[u8]) -> (u16, String) {
        let path = canonical(&uri.path_and_query().map_or_else(String::new, ToString::to_string));
        self.asked.push(path.clone());
        let (status, answer) = match *method {
            Method::GET => self.get(target, &path),
            Method::PUT => self.put(target, &path, body),
            Method::DELETE => self.delete(target, &path),
            _ => self.post(target, &path, body),
        };
        self.answers.push(answer.clone());
        (status, answer)
    }

    fn get(&mut self, target: &str, path: &str) -> (u16, String) {
        if path.contains("/-resources/") {
            return (404, "404: Page Not Found".to_owned());
        }
        let key = (target.to_owned(), path.to_owned());
        match self.written.get(&key) {
            Some(Value::Null) => return not_found(),
            Some(resource) => return (200, resource.to_string()),
            None => {}
        }
        let recorded = self.world.find(target, "GET", path).first();
        if let Some(recorded) = recorded.filter(|_| !self.prefer_shown || !self.shown.contains_key(&key)) {
            return (
                recorded.status,
                if self.prefer_shown { self.overlaid(target, path, recorded) } else { recorded.answer.clone() },
            );
        }
        if let Some(answer) = self.shown.get(&key) {
            self.used_output = true;
            return (200, answer.clone());
        }
        if let Some(answer) = self.filtered(target, path) {
            return answer;
        }
        if path.ends_with("/nope/xds") {
            return refusal(404, "Could not get zone ingress resource", "Not found", &[]);
        }
        if path.ends_with("/nope/policies") {
            return refusal(404, "Could not get MatchedPolicies", "Not found", &[]);
        }
        let answer = self.mesh_fault(target, path).or_else(|| self.in_list(target, path));
        answer.or_else(|| self.list_of_items(target, path)).unwrap_or_else(not_found)
    }

    /// A recorded list, with the resources of it that outputs show.
    fn overlaid(&self, target: &str, path: &str, recorded: &Recorded) -> String {
        let Ok(mut list) = serde_json::from_str::<Value>(&recorded.answer) else { return recorded.answer.clone() };
        for item in list["items"].as_array_mut().into_iter().flatten() {
            let path = format!("{path}/{}", item["name"].as_str().unwrap_or_default());
            if let Some(shown) = self.shown.get(&(target.to_owned(), path)) {
                *item = serde_json::from_str(shown).unwrap();
            }
        }
        list.to_string()
    }

    /// A page, or proxies by tag and gateway, out of the list of all.
    fn filtered(&mut self, target: &str, path: &str) -> Option<(u16, String)> {
        let (all, query) = path.split_once('?')?;
        let (_, answer) = self.get(target, all);
        let mut list: Value = serde_json::from_str(&answer).ok()?;
        let items = list["items"].as_array_mut()?;
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            items.retain(|item| {
                let networking = &item["dataplane"]["networking"];
                let inbounds = networking["inbound"].as_array().into_iter().flatten();
                match (&*key, value.split_once(':')) {
                    ("tag", Some((tag, wanted))) => inbounds.clone().any(|inbound| inbound["tags"][tag] == wanted),
                    ("gateway", _) => !networking["gateway"].is_null(),
                    _ => true,
                }
            });
        }
        let total = items.len();
        let number = |name: &str| {
            let pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.into_iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse::<usize>().ok())
        };
        let (size, offset) = (number("size").unwrap_or(100), number("offset").unwrap_or(0));
        if size > 1000 {
            let reason = format!("invalid page size of {size}. Maximum page size is 1000");
            return Some(refusal(
                400,
                "Could not retrieve resources",
                "Invalid page size",
                &[("size".to_owned(), reason)],
            ));
        }
        *items = items.drain(..).skip(offset).take(size).collect();
        let end = offset + size;
        let next = (end < total).then(|| format!("http://127.0.0.1{all}?offset={end}&size={size}"));
        list["total"] = total.into();
        list["next"] = next.into();
        Some((200, list.to_string()))
    }

    /// The list of a collection whose items were recorded one by one.
    fn list_of_items(&self, target: &str, path: &str) -> Option<(u16, String)> {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let ([collection] | ["meshes", _, collection]) = segments.as_slice() else { return None };
        Kind::from_path(collection)?;
        let is_item = |of: &str, item: &str| {
            of == target
                && item
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.strip_prefix('/').is_some_and(|name| !name.contains(['/', '?', '_'])))
        };
        let recorded = self.world.0.iter().filter(|((of, method, item), _)| method == "GET" && is_item(of, item));
        let recorded = recorded.filter_map(|(_, answers)| answers.iter().find(|answer| answer.status == 200));
        let shown = self.shown.iter().filter(|((of, item), _)| is_item(of, item)).map(|(_, answer)| answer);
        let answers = recorded.map(|recorded| &recorded.answer).chain(shown);
        let items: BTreeMap<String, Value> = answers
            .filter_map(|answer| serde_json::from_str::<Value>(answer).ok())
            .map(|item| (item["name"].as_str().unwrap_or_default().to_owned(), item))
            .collect();
        let items: Vec<Value> = items.into_values().collect();
        Some((200, json!({"total": items.len(), "items": items, "next": null}).to_string()))
    }

    /// A resource that was recorded in the list of its kind.
    fn in_list(&self, target: &str, path: &str) -> Option<(u16, String)> {
        let (collection, name) = path.rsplit_once('/')?;
        let lists = self.world.find(target, "GET", collection).iter();
        let mut items =
            lists.filter_map(|list| serde_json::from_str::<Value>(&list.answer).ok()?["items"].as_array().cloned());
        let item = items.find_map(|items| items.into_iter().find(|item| item["name"] == name))?;
        Some((200, item.to_string()))
    }

    /// A refusal if the mesh of a path is not there.
    fn mesh_fault(&self, target: &str, path: &str) -> Option<(u16, String)> {
        let mut segments = path.trim_start_matches('/').split(['/', '?']);
        let (Some("meshes"), Some(mesh), Some(_)) = (segments.next(), segments.next(), segments.next()) else {
            return None;
        };
        let known = self.world.find(target, "GET", "/meshes").first()?;
        let list: Value = serde_json::from_str(&known.answer).ok()?;
        let exists = list["items"].as_array()?.iter().any(|item| item["name"] == mesh);
        (!exists).then(|| refusal(404, "Failed to retrieve Mesh", "Not found", &[]))
    }

    fn put(&mut self, target: &str, path: &str, body: &[u8]) -> (u16, String) {
        let Some((kind, mesh, name)) = resource_at(path) else { return not_found() };
        let mode = mode(target);
        if !mode.may_write(kind) {
            return refusal(405, "Method not allowed", mode.write_refusal(), &[]);
        }
        if let Some(refusal) = self.mesh_fault(target, path) {
            return refusal;
        }
        let exists = self.get(target, path).0 == 200;
        let put = Put { mode: &mode, origin_label: OriginLabel::Required, kind, mesh: &mesh, name: &name, body };
        match intake::read(put).and_then(intake::Draft::create) {
            Ok(accepted) => {
                let shown = rest_form::print(&accepted.resource).unwrap();
                self.written.insert((target.to_owned(), path.to_owned()), shown);
                let answer =
                    if accepted.warnings.is_empty() { json!({}) } else { json!({"warnings": accepted.warnings}) };
                (if exists { 200 } else { 201 }, answer.to_string())
            }
            Err(rejection) => {
                let faults = rejection.faults().into_iter().flat_map(model::Violations::iter);
                let faults: Vec<_> = faults.map(|fault| (fault.field.clone(), fault.reason.clone())).collect();
                refusal(400, rejection.title(), rejection.detail(), &faults)
            }
        }
    }

    fn delete(&mut self, target: &str, path: &str) -> (u16, String) {
        let Some((kind, ..)) = resource_at(path) else { return not_found() };
        let mode = mode(target);
        if !mode.may_write(kind) {
            return refusal(405, "Method not allowed", mode.write_refusal(), &[]);
        }
        let key = (target.to_owned(), path.to_owned());
        if self.written.get(&key).is_some_and(|resource| !resource.is_null()) {
            self.written.insert(key, Value::Null);
            return (200, "{}".to_owned());
        }
        match self.world.find(target, "DELETE", path).first() {
            Some(recorded) => (recorded.status, recorded.answer.clone()),
            None => self.mesh_fault(target, path).unwrap_or_else(not_found),
        }
    }

    /// A token, or a recorded refusal of one.
    fn post(&self, target: &str, path: &str, body: &[u8]) -> (u16, String) {
        let body: Value = serde_json::from_slice(body).unwrap();
        let refused = self.world.find(target, "POST", path).iter().filter(|recorded| recorded.status != 200);
        let same = |recorded: &&Recorded| match path {
            "/tokens/dataplane" => {
                let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
                ["mesh", "type"].iter().all(|key| text(&recorded.body, key) == text(&body, key))
                    && recorded.body["validFor"].is_null()
            }
            _ => recorded.body == body,
        };
        match refused.clone().find(same) {
            Some(recorded) => (recorded.status, recorded.answer.clone()),
            None => (200, issue(path, &body)),
        }
    }
}

fn issue(path: &str, body: &Value) -> String {
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let key = SigningKey::generate(1).unwrap();
    let lifetime: model::duration::GoDuration = text("validFor").parse().unwrap();
    let lifetime = chrono::TimeDelta::nanoseconds(lifetime.nanos());
    let (id, now) = (uuid::Uuid::new_v4(), Utc::now());
    match path {
        "/tokens/dataplane" => {
            let tags = serde_json::from_value(body["tags"].clone()).unwrap_or_default();
            let claims = Dataplane {
                name: text("name"),
                mesh: text("mesh"),
                tags,
                r#type: text("type"),
                workload: text("workload"),
            };
            token::issue(claims, &key, id, now, lifetime)
        }
        "/tokens/zone" => {
            let scope = serde_json::from_value(body["scope"].clone()).unwrap_or_default();
            token::issue(Zone { zone: text("zone"), scope }, &key, id, now, lifetime)
        }
        _ => {
            let groups = serde_json::from_value(body["groups"].clone()).unwrap_or_default();
            token::issue(User { name: text("name"), groups }, &key, id, now, lifetime)
        }
    }
    .unwrap()
}

fn mode(target: &str) -> Mode {
    if target == "global" { Mode::Global } else { Mode::universal_zone("east", true) }
}

fn not_found() -> (u16, String) {
    refusal(404, "Could not retrieve a resource", "Not found", &[])
}
