//! A machine with a control plane on it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ::http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::{self, Answer};
use crate::programs;
use crate::wait::eventually;

/// From the start of a program until it serves, unoptimised and on a busy machine.
const START: Duration = Duration::from_secs(60);
/// From a request to stop until the process is gone.
const STOP: Duration = Duration::from_secs(40);
/// Lines of the log that are shown of each node when a test fails.
const SHOWN: usize = 80;
const API: u16 = 5681;
const DIAGNOSTICS: u16 = 5680;

/// A machine, its folder, and the program on it while that runs. It listens on the ports of production.
#[derive(Debug)]
pub struct Node {
    name: String,
    program: &'static str,
    address: Ipv4Addr,
    folder: PathBuf,
    settings: Vec<String>,
    process: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

/// What a command of the operator's tool said.
#[derive(Clone, Debug)]
pub struct Told {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Told {
    /// Standard output if all went well.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }
}

impl Node {
    pub(crate) fn new(name: &str, program: &'static str, address: Ipv4Addr, folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let log = Arc::default();
        Self { name: name.to_owned(), program, address, folder, settings: Vec::new(), process: None, log }
    }

    /// Its name, which is that of the zone unless a setting says otherwise.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address for other machines.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The home of the program, where its database is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds `key=value` settings for the next start; a later value of a key takes the place of an earlier one.
    pub fn set<S: AsRef<str>>(&mut self, settings: impl IntoIterator<Item = S>) {
        for setting in settings {
            let setting = setting.as_ref();
            let key = setting.split_once('=').map_or(setting, |(key, _)| key);
            self.settings.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != key));
            self.settings.push(setting.to_owned());
        }
    }

    /// Starts the program and waits until it serves.
    ///
    /// # Panics
    /// It ends instead; its log says why.
    pub async fn start(&mut self) {
        let mark = self.mark();
        self.spawn();
        let what = format!("{} is up", self.name);
        let up = format!("{} is up", self.program);
        let mut process = self.process.take().unwrap();
        eventually(START, &what, async || {
            assert!(process.try_wait().unwrap().is_none(), "{} has ended: {}", self.name, self.log_since(mark));
            self.log_since(mark).contains(&up) && self.get("/").await.status == 200
        })
        .await;
        self.process = Some(process);
    }

    /// Starts the program, which refuses to run; the line that says why.
    ///
    /// # Panics
    /// It runs.
    pub async fn refuses_to_start(&mut self) -> String {
        let mark = self.mark();
        self.spawn();
        let mut process = self.process.take().unwrap();
        let what = format!("{} refuses to start", self.name);
        eventually(START, &what, async || process.try_wait().unwrap().is_some()).await;
        assert_eq!(process.wait().unwrap().code(), Some(1), "{}", self.log_since(mark));
        let error = |line: &&str| line.starts_with("Error: ");
        eventually(STOP, "the error is told", async || self.log_since(mark).lines().any(|line| error(&line))).await;
        self.log_since(mark).lines().find(error).unwrap().to_owned()
    }

    /// Makes the tables that its database lacks, as an operator does before the first start.
    ///
    /// # Panics
    /// It cannot.
    pub async fn migrate(&self) {
        let mut command = self.command(self.program);
        command.args(["migrate", "up"]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut command = self.command(self.program);
        command.arg("run");
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        self.keep(child.stdout.take().unwrap());
        self.keep(child.stderr.take().unwrap());
        self.process = Some(child);
    }

    fn keep(&self, from: impl Read + Send + 'static) {
        let log = Arc::clone(&self.log);
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
    }

    /// A program on this machine; `ip` becomes it, so that signals reach it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(programs::path(program));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", &self.folder).current_dir(&self.folder);
        command
    }

    /// SIGKILL: nothing is said to anybody but what the kernel says when a socket closes.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// It does not end well.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let mut process = self.process.take().unwrap();
        let what = format!("{} has stopped", self.name);
        eventually(STOP, &what, async || process.try_wait().unwrap().is_some()).await;
        assert_eq!(process.wait().unwrap().code(), Some(0), "{}", self.name);
    }

    /// Stops holding the processor, and goes on: a machine that was suspended.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Goes on after [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    /// GET of the API, as the administrator that everybody on the machine is.
    pub async fn get(&self, path: &str) -> Answer {
        http::call(&self.name, API, Method::GET, path, None).await
    }

    /// PUT of a resource.
    pub async fn put(&self, path: &str, resource: &Value) -> Answer {
        http::call(&self.name, API, Method::PUT, path, Some(resource)).await
    }

    /// DELETE of a resource.
    pub async fn delete(&self, path: &str) -> Answer {
        http::call(&self.name, API, Method::DELETE, path, None).await
    }

    /// Sum of a metric; of those series only whose labels contain all the texts.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let answer = http::call(&self.name, DIAGNOSTICS, Method::GET, "/metrics", None).await;
        let text = answer.body.as_str().unwrap_or_default();
        let series = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
            series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label))
        });
        series.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }

    /// Runs the operator's tool on this machine, its settings the defaults.
    pub async fn kumactl(&self, arguments: &[&str]) -> Told {
        self.kumactl_with(arguments, "").await
    }

    /// The same, with a text on standard input.
    pub async fn kumactl_with(&self, arguments: &[&str], input: &str) -> Told {
        let mut command = self.command("kumactl");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        let running = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = running.await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Told { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the log is, for [`Self::log_since`].
    pub fn mark(&self) -> usize {
        self.lines().len()
    }

    /// What was logged since then.
    pub fn log_since(&self, mark: usize) -> String {
        self.lines()[mark..].join("\n")
    }

    pub(crate) fn print_log(&self) {
        let lines = self.lines();
        let left_out = lines.len().saturating_sub(SHOWN);
        println!("──── log of {} ({}), {left_out} lines before ────", self.name, self.address);
        lines[left_out..].iter().for_each(|line| println!("{line}"));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
