//! The audit log: who wrote what, from where, and what came of it. JSON lines in a file that rotates.
//!
//! Every `PUT`, `DELETE` and token request leaves one line, refused ones too. Reads leave none, nor what arrives from
//! other control planes.
//!
//! A thread of its own writes the file. A request waits for a place in its queue, at most [`PATIENCE`]; what finds
//! none, or meets a file that cannot be written, is counted (`api_audit_entries_lost`) and logged, never silently gone.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::response::Response;
use chrono::{DateTime, SecondsFormat, Utc};
use http::{Method, StatusCode};
use identity::User;
use logroller::{LogRoller, LogRollerBuilder, Rotation, RotationSize};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::route::{Operation, TokenOf};

/// How long a request waits for a place in the queue.
const PATIENCE: Duration = Duration::from_secs(1);
/// Entries that may wait for the file.
const QUEUE: usize = 1024;

/// Where the log lies and how large it gets, `apiServer.audit` in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file; older ones stand beside it as `<file>.1` (the newest) and so on. Its folder is made when missing.
    pub path: PathBuf,
    /// Size in bytes at which a new file begins.
    pub max_bytes: u64,
    /// Older files that are kept.
    pub max_files: u32,
}

/// Why there can be no audit log.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path names no file.
    #[error("the audit log {0:?} is no path of a file")]
    NoFile(PathBuf),
    /// The file or its folder.
    #[error("cannot write the audit log: {0}")]
    File(#[from] logroller::LogRollerError),
    /// The system starts no thread.
    #[error("cannot start the thread of the audit log: {0}")]
    Thread(#[from] std::io::Error),
}

/// The audit log. Cheap to clone; clones write one file, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: mpsc::Sender<Message>,
    metrics: Metrics,
}

#[derive(Debug)]
enum Message {
    /// A line without its end.
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(oneshot::Sender<()>),
}

impl Audit {
    /// Opens the file, to which lines are added, and starts its thread.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(settings: &Settings, metrics: &Metrics) -> Result<Self, OpenError> {
        let file = open(settings)?;
        let (queue, messages) = mpsc::channel(QUEUE);
        let (settings, counted) = (settings.clone(), metrics.clone());
        std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || write_all(messages, file, &settings, &counted))?;
        Ok(Self { queue, metrics: metrics.clone() })
    }

    /// Hands an entry to the file's thread.
    pub(crate) async fn record(&self, entry: &Entry) {
        let line = match serde_json::to_vec(entry) {
            Ok(line) => line,
            Err(error) => return self.lost(&error),
        };
        if let Err(error) = self.queue.send_timeout(Message::Line(line), PATIENCE).await {
            self.lost(&error);
        }
    }

    /// Waits until what was recorded so far is in the file: the last thing before a program ends.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send_timeout(Message::Flush(done), PATIENCE).await.is_ok() {
            // An error means that the thread is gone, and with it what it had.
            let _ = tokio::time::timeout(PATIENCE, written).await;
        }
    }

    fn lost(&self, error: &dyn std::fmt::Display) {
        self.metrics.audit_lost.inc();
        tracing::error!(%error, "an entry of the audit log is lost");
    }
}

fn open(settings: &Settings) -> Result<LogRoller, OpenError> {
    let no_file = || OpenError::NoFile(settings.path.clone());
    let name = settings.path.file_name().ok_or_else(no_file)?;
    let folder = settings.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = LogRollerBuilder::new(folder, Path::new(name))
        .rotation(Rotation::SizeBased(RotationSize::Bytes(settings.max_bytes)))
        .max_keep_files(settings.max_files.into())
        // Names of users and addresses are nobody else's business.
        .file_mode(0o600)
        .build()?;
    Ok(file)
}

/// Writes until nobody can record any more. A failure is told once, and once more when it is over.
fn write_all(mut messages: mpsc::Receiver<Message>, mut file: LogRoller, settings: &Settings, metrics: &Metrics) {
    let path = settings.path.display();
    let mut failing = false;
    while let Some(message) = messages.blocking_recv() {
        let mut line = match message {
            Message::Line(line) => line,
            Message::Flush(done) => {
                let _ = file.flush();
                // Who asked may have gone.
                let _ = done.send(());
                continue;
            }
        };
        line.push(b'\n');
        // The file or its folder may have been moved away: a new one is made, once for every entry.
        let written = file.write_all(&line).or_else(|_| {
            file = open(settings).map_err(std::io::Error::other)?;
            file.write_all(&line)
        });
        match written {
            Ok(()) => {
                metrics.audit_written.inc();
                if std::mem::take(&mut failing) {
                    tracing::info!(%path, "the audit log is written again");
                }
            }
            Err(error) => {
                metrics.audit_lost.inc();
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, %path, "entries of the audit log are lost");
                }
            }
        }
    }
}

/// One line. Members that say nothing are absent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// When the request came; RFC 3339, UTC.
    time: String,
    /// Who; absent when a credential was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    /// From where: address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    /// `create`, `update`, `delete`, `issue-token`; `put` when it was refused before that was known.
    operation: &'static str,
    /// Kind of the resource, or whose token: `dataplane`, `zone`, `user`.
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    mesh: String,
    /// Name of the resource, or of whom the token is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    /// Revision of the store that holds the write.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// Version of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// Identifier of the token, by which it can be revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    /// Until when the token is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    status: u16,
    /// `ok`, `refused`, `failed`; after `failed` a write may have been made.
    result: &'static str,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What a handler knows of a write that was made; an extension of its answer.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// A resource was put or deleted.
    Written { operation: &'static str, revision: u64, version: Option<u64> },
    /// A token was issued.
    Issued { mesh: String, name: String, id: String, expires: DateTime<Utc> },
}

impl Entry {
    /// What is known before anything is done; `None` for what is not audited.
    pub fn of(
        operation: Operation,
        method: &Method,
        names: &HashMap<String, String>,
        peer: Option<SocketAddr>,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let name = |of: &str| names.get(of).cloned().unwrap_or_default();
        let (operation, kind, mesh, name) = match operation {
            Operation::One(model::Kind::Mesh) => (verb(method)?, model::Kind::Mesh.name(), String::new(), name("mesh")),
            Operation::One(kind) => (verb(method)?, kind.name(), name("mesh"), name("name")),
            Operation::IssueToken(of) => ("issue-token", whose(of), String::new(), String::new()),
            _ => return None,
        };
        Some(Self {
            time: time(now),
            user: None,
            groups: Vec::new(),
            peer,
            operation,
            kind,
            mesh,
            name,
            revision: None,
            version: None,
            token_id: None,
            expires: None,
            status: 0,
            result: "failed",
            reason: None,
        })
    }

    /// Adds who it was.
    pub fn by(&mut self, user: &User) {
        self.user = Some(user.name.clone());
        self.groups.clone_from(&user.groups);
    }

    /// Adds what came of it.
    pub fn ended(&mut self, answer: &Result<Response, Problem>) {
        let status = answer.as_ref().map_or_else(|problem| problem.status, Response::status);
        self.status = status.as_u16();
        self.result = result(status);
        match answer {
            Ok(response) => self.did(response.extensions().get()),
            Err(problem) => self.reason = Some(reason(problem)),
        }
    }

    fn did(&mut self, deed: Option<&Deed>) {
        match deed {
            Some(Deed::Written { operation, revision, version }) => {
                self.operation = operation;
                self.revision = Some(*revision);
                self.version = *version;
            }
            Some(Deed::Issued { mesh, name, id, expires }) => {
                self.mesh.clone_from(mesh);
                self.name.clone_from(name);
                self.token_id = Some(id.clone());
                self.expires = Some(time(*expires));
            }
            None => {}
        }
    }
}

fn verb(method: &Method) -> Option<&'static str> {
    match *method {
        Method::PUT => Some("put"),
        Method::DELETE => Some("delete"),
        _ => None,
    }
}

fn whose(token: TokenOf) -> &'static str {
    match token {
        TokenOf::Dataplane => "dataplane",
        TokenOf::Zone => "zone",
        TokenOf::User => "user",
    }
}

fn result(status: StatusCode) -> &'static str {
    match status.as_u16() {
        500.. => "failed",
        400.. => "refused",
        _ => "ok",
    }
}

/// The detail, and the first fault of a field, which says more.
fn reason(problem: &Problem) -> String {
    match problem.parameters.first() {
        Some(fault) => format!("{}: {}: {}", problem.detail, fault.field, fault.reason),
        None => problem.detail.trim_end().to_owned(),
    }
}

fn time(of: DateTime<Utc>) -> String {
    of.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        let names = HashMap::from([("mesh".to_owned(), "m".to_owned()), ("name".to_owned(), name.to_owned())]);
        let operation = Operation::One(model::Kind::MeshTimeout);
        let mut entry = Entry::of(operation, &Method::PUT, &names, None, DateTime::UNIX_EPOCH).unwrap();
        entry.by(&User::admin());
        entry.ended(&Err(Problem::not_found("x")));
        entry
    }

    fn settings(folder: &Path, max_bytes: u64) -> Settings {
        Settings { path: folder.join("logs/audit.jsonl"), max_bytes, max_files: 2 }
    }

    #[tokio::test]
    async fn an_entry_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 1 << 20);
        let audit = Audit::open(&settings, &Metrics::default()).unwrap();
        audit.record(&entry("t\n")).await;
        audit.flush().await;
        let written = std::fs::read_to_string(&settings.path).unwrap();
        assert_eq!(
            written,
            concat!(
                r#"{"time":"1970-01-01T00:00:00.000000Z","user":"mesh-system:admin","#,
                r#""groups":["mesh-system:admin","mesh-system:authenticated"],"operation":"put","kind":"MeshTimeout","#,
                r#""mesh":"m","name":"t\n","status":404,"result":"refused","reason":"Not found"}"#,
                "\n"
            )
        );
    }

    #[tokio::test]
    async fn the_log_rotates_and_keeps_the_newest_whole() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 1000);
        let audit = Audit::open(&settings, &Metrics::default()).unwrap();
        for at in 0..50 {
            audit.record(&entry(&format!("entry-{at}"))).await;
        }
        audit.flush().await;
        drop(audit);
        // Older files get their names on a thread of the crate.
        let files = || std::fs::read_dir(settings.path.parent().unwrap()).unwrap().count();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while files() != 3 && std::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(files(), 3, "the file and two older ones");
        let mut names = Vec::new();
        for suffix in [".2", ".1", ""] {
            let path = format!("{}{suffix}", settings.path.display());
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.len() <= 1000, "{path} has {} bytes", text.len());
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                names.push(line["name"].as_str().unwrap().to_owned());
            }
        }
        let newest: Vec<String> = (50 - names.len()..50).map(|at| format!("entry-{at}")).collect();
        assert_eq!(names, newest);
    }

    #[tokio::test]
    async fn a_file_that_went_away_is_made_anew_and_what_cannot_be_written_counted() {
        let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::default());
        let settings = settings(folder.path(), 300);
        let audit = Audit::open(&settings, &metrics).unwrap();
        let logs = settings.path.parent().unwrap();
        std::fs::remove_dir_all(logs).unwrap();
        // The first goes into the file that has no name any more; the second needs a new file.
        for name in ["before", "anew"] {
            audit.record(&entry(name)).await;
        }
        audit.flush().await;
        assert!(std::fs::read_to_string(&settings.path).unwrap().contains("anew"));
        std::fs::remove_dir_all(logs).unwrap();
        std::fs::write(logs, "in the way").unwrap();
        audit.record(&entry("lost")).await;
        audit.flush().await;
        assert_eq!((metrics.audit_written.get(), metrics.audit_lost.get()), (2, 1));
    }

    #[tokio::test]
    async fn an_unwritable_file_is_told_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("logs"), "a file where the folder should be").unwrap();
        let error = Audit::open(&settings(folder.path(), 1000), &Metrics::default()).unwrap_err().to_string();
        assert!(error.starts_with("cannot write the audit log: ") && error.contains("logs"), "{error}");
        let none = Settings { path: "/".into(), max_bytes: 1000, max_files: 1 };
        assert_eq!(
            Audit::open(&none, &Metrics::default()).unwrap_err().to_string(),
            "the audit log \"/\" is no path of a file"
        );
    }

    #[tokio::test]
    async fn a_queue_that_is_full_costs_the_entry_and_not_the_request() {
        let (queue, mut kept) = mpsc::channel(1);
        let audit = Audit { queue, metrics: Metrics::default() };
        audit.record(&entry("first")).await;
        tokio::time::pause();
        audit.record(&entry("second")).await;
        assert_eq!(audit.metrics.audit_lost.get(), 1);
        assert!(matches!(kept.try_recv(), Ok(Message::Line(line)) if line.ends_with(b"}")));
    }
}
