//! One recorded call, and running it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, Utc};
use kumactl::{Io, Terminal};
use runtime::ManualClock;
use serde::Deserialize;
use serde_json::Value;

use crate::server::Server;
use crate::{moment, tokens};

/// A line of a file of recorded calls.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Call {
    pub name: String,
    pub target: String,
    pub args: Vec<String>,
    pub stdin: String,
    pub files: BTreeMap<String, String>,
    pub exit_code: u8,
    pub stdout: String,
    pub stderr: String,
    pub usage: bool,
    pub config_file_after: Option<String>,
    pub notes: String,
}

/// What a call of ours gave.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub exit_code: u8,
    pub stdout: String,
    pub stderr: String,
}

/// How a recorded output ends that was cut.
const CUT: &str = "\n<cut>";

/// Answers by target and path, as a recorded output shows them.
pub type Shown = BTreeMap<(String, String), String>;

impl Call {
    /// The calls of a file.
    pub fn of_group(group: &str) -> Vec<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(format!("{group}.jsonl"));
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Whether its output is the whole answer of the server.
    pub fn shows_all(&self) -> bool {
        let read = ["get", "inspect"].contains(&self.args[0].as_str());
        read && self.exit_code == 0 && self.args.windows(2).any(|pair| pair == ["-o", "json"])
    }

    /// Whether the output is as recorded.
    pub async fn check(&self, server: &Server, shown: &Arc<Shown>, prefer_shown: bool) -> Result<(), String> {
        server.reset(self, shown, prefer_shown);
        let mut outcome = self.run(server, None).await;
        if self.agrees(&outcome) {
            return Ok(());
        }
        let times = if self.is_table() { server.times() } else { Vec::new() };
        for moment in moment::candidates(&times, &self.stdout) {
            server.reset(self, shown, prefer_shown);
            let other = self.run(server, Some(moment)).await;
            if self.agrees(&other) {
                return Ok(());
            }
            // The closest one makes the most readable difference.
            if common(&other.stdout, &self.stdout) > common(&outcome.stdout, &self.stdout) {
                outcome = other;
            }
        }
        Err(self.difference(&outcome))
    }

    /// Whether its output may show ages.
    fn is_table(&self) -> bool {
        let read = ["get", "inspect"].contains(&self.args[0].as_str());
        read && self.exit_code == 0 && !self.args.iter().any(|arg| arg == "-o")
    }

    /// Whether it shows a whole answer as YAML, which keeps all of it but the order.
    pub fn shows_all_as_yaml(&self) -> bool {
        let read = ["get", "inspect"].contains(&self.args[0].as_str());
        read && self.exit_code == 0 && self.args.windows(2).any(|pair| pair == ["-o", "yaml"])
    }

    /// The resources that it exports, in the form of the REST API. Meshes are left out: an export changes them.
    pub fn exported(&self) -> Vec<Value> {
        if self.args[0] != "export" || self.args.iter().any(|arg| arg == "kubernetes") {
            return Vec::new();
        }
        let documents = self.stdout.split("---\n").skip(1);
        let resources = documents.map(|document| serde_yaml::from_str::<Value>(document).unwrap());
        resources.filter(|resource| resource["type"] != "Mesh").collect()
    }

    /// Runs it in a folder of its own.
    pub async fn run(&self, server: &Server, now: Option<DateTime<Utc>>) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in &self.files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        tokens::put_keys(folder.path());
        let config = folder.path().join("config.yaml");
        if self.target != "fresh" {
            fs::write(&config, configuration(&self.target, server)).unwrap();
        }
        self.run_in(folder.path(), &config, server, now).await
    }

    /// Runs it in a folder, with a configuration file.
    pub async fn run_in(&self, folder: &Path, config: &Path, server: &Server, now: Option<DateTime<Utc>>) -> Outcome {
        let (stdout, stderr) = (Shared::default(), Shared::default());
        let mut io = Io {
            stdin: Box::new(Cursor::new(self.stdin.clone().into_bytes())),
            stdout: Box::new(stdout.clone()),
            stderr: Box::new(stderr.clone()),
            terminal: Terminal::default(),
            directory: folder.to_owned(),
            home: Some(folder.to_owned()),
            clock: ManualClock::at(now.unwrap_or_else(Utc::now)).clock(),
            zone: FixedOffset::east_opt(0),
        };
        let mut args = vec!["kumactl".to_owned(), "--config-file".to_owned(), config.display().to_string()];
        args.extend(self.args.iter().map(|arg| server.to_real(arg)));
        let exit_code = kumactl::run(args, &mut io).await;
        Outcome { exit_code, stdout: server.to_recorded(&stdout.text()), stderr: server.to_recorded(&stderr.text()) }
    }

    /// Whether an outcome is as recorded, or how it differs.
    pub fn agree_or_tell(&self, outcome: &Outcome) -> Result<(), String> {
        if self.agrees(outcome) { Ok(()) } else { Err(self.difference(outcome)) }
    }

    fn agrees(&self, outcome: &Outcome) -> bool {
        self.exit_code == outcome.exit_code && self.stderr == outcome.stderr && self.stdout_agrees(&outcome.stdout)
    }

    fn stdout_agrees(&self, stdout: &str) -> bool {
        if self.usage {
            return stdout.contains("Usage: kumactl");
        }
        if let Some(agree) = tokens::agree(stdout, &self.stdout) {
            return agree;
        }
        if self.args[0] == "generate" && (self.stdout.contains("-----BEGIN") || self.args[1] == "signing-key") {
            return tokens::same_shape(stdout, &self.stdout);
        }
        // Long outputs were cut where they were recorded.
        let beginning = self.stdout.strip_suffix(CUT);
        stdout == self.stdout || beginning.is_some_and(|beginning| stdout.starts_with(beginning))
    }

    fn difference(&self, outcome: &Outcome) -> String {
        let mut text = format!("kumactl {}", self.args.join(" "));
        if self.exit_code != outcome.exit_code {
            text += &format!("\n  exit code {}, recorded {}", outcome.exit_code, self.exit_code);
        }
        for (name, ours, recorded) in
            [("stdout", &outcome.stdout, &self.stdout), ("stderr", &outcome.stderr, &self.stderr)]
        {
            if ours != recorded && !(name == "stdout" && self.usage) {
                let at = common(ours, recorded);
                let line = |text: &str| {
                    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
                    text[start..].chars().take(400).collect::<String>()
                };
                text += &format!("\n  {name} at {at}: {:?}\n  recorded: {:?}", line(ours), line(recorded));
            }
        }
        text
    }
}

/// Length of the common beginning.
fn common(a: &str, b: &str) -> usize {
    a.char_indices().zip(b.chars()).find(|((_, a), b)| a != b).map_or(a.len().min(b.len()), |((at, _), _)| at)
}

fn configuration(target: &str, server: &Server) -> String {
    let url = server.url(target);
    format!(
        "contexts:\n- controlPlane: cp\n  name: cp\ncontrolPlanes:\n- coordinates:\n    apiServer:\n      url: {url}\n  \
         name: cp\ncurrentContext: cp\n"
    )
}

/// An output that can be read afterwards.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
