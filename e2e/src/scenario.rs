//! Each test in namespaces of its own.
//!
//! The test runs itself again, alone, below `unshare`: with a network, a table of processes and mounts that are its own.
//! However it ends, the kernel ends all that it started and drops the networks with it. Who is not root becomes so in a
//! namespace of users; where the kernel forbids that, the test says loudly that it was not run.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use tempfile::TempDir;

use crate::programs;

/// Says to a run of the tests that it is inside, and where its files go.
const INSIDE: &str = "E2E_FOLDER";
/// For one scenario, on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(180);
const NOT_RUN: &str = "*** NOT RUN: ";
const OWN: &[&str] = &["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const AS_ROOT: &[&str] = &["--user", "--map-root-user"];

/// Runs a test in namespaces of its own.
///
/// # Panics
/// The test does; what it and its programs said is printed.
pub fn scenario<F: AsyncFnOnce()>(body: F) {
    match env::var_os(INSIDE) {
        Some(_) => inside(body),
        None => outside(test_name::<F>()),
    }
}

/// Says past the harness, which keeps what a passing test prints, that something was left out.
pub fn not_run(what: &str, why: &str) {
    tell(&format!("{NOT_RUN}{what}: {} ***", why.trim().replace('\n', "; ")));
}

fn tell(line: &str) {
    let _ = io::stderr().write_all(format!("\n{line}\n").as_bytes());
}

/// Where files of the scenario go; whoever runs it deletes them.
pub(crate) fn folder() -> std::path::PathBuf {
    env::var_os(INSIDE).expect("only in a scenario").into()
}

/// A closure is named after the test that it stands in, behind the name of the crate.
fn test_name<F>() -> &'static str {
    let name = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    name.split_once("::").map_or(name, |(_, test)| test)
}

fn outside(test: &str) {
    static UNSHARE: LazyLock<Result<Vec<&str>, String>> = LazyLock::new(way_in);
    let arguments = match &*UNSHARE {
        Ok(arguments) => arguments,
        Err(why) => return not_run(test, why),
    };
    programs::build();
    let folder = TempDir::with_prefix("e2e-").unwrap();
    // The server of a database becomes another user, who must be able to enter.
    open_to_all(folder.path());
    let mut child = Command::new("unshare")
        .args(arguments)
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, folder.path())
        .env("TMPDIR", folder.path())
        .env("PATH", tools())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closes with this process, whatever ends it, and so ends the scenario.
    let _life = child.stdin.take();
    let readers = [reader(child.stdout.take().unwrap()), reader(child.stderr.take().unwrap())];
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let said = readers.map(|reader| reader.join().unwrap()).concat();
    if status.is_some_and(|status| status.success()) {
        said.lines().filter(|line| line.starts_with(NOT_RUN)).for_each(tell);
        said.lines().filter(|line| line.starts_with("e2e: ")).for_each(|line| println!("{line}"));
        return;
    }
    println!("{said}");
    match status {
        Some(status) => panic!("{test}: {status}; what it said stands above"),
        None => panic!("{test}: not done after {} s; what it said stands above", LIMIT.as_secs()),
    }
}

fn reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut said = Vec::new();
        let _ = from.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    })
}

/// How `unshare` is told, as root or as anybody.
fn way_in() -> Result<Vec<&'static str>, String> {
    let mut why = String::new();
    for arguments in [OWN.to_vec(), [AS_ROOT, OWN].concat()] {
        match Command::new("unshare").args(&arguments).arg("true").output() {
            Ok(output) if output.status.success() => return needs().map(|()| arguments),
            Ok(output) => why = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => why = format!("cannot start unshare: {error}"),
        }
    }
    Err(format!("the kernel gives no namespaces ({why})"))
}

/// Whether the tools are there that set a network up.
fn needs() -> Result<(), String> {
    for (tool, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        let found =
            Command::new(tool).env("PATH", tools()).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if let Err(error) = found {
            return Err(format!("cannot start {tool}: {error}; install the Debian package {package}"));
        }
    }
    Ok(())
}

/// The search path, with the folders of tools that only root has in it.
fn tools() -> String {
    env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin"
}

fn inside(body: impl AsyncFnOnce()) {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(1);
    });
    // Names of network namespaces stand here; the machine's own are not touched.
    let mounted = Command::new("mount").args(["-t", "tmpfs", "e2e", "/run"]).status().unwrap();
    assert!(mounted.success(), "cannot mount on /run");
    fs::create_dir("/run/netns").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(body());
}

fn open_to_all(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}
