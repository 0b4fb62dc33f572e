//! The program as an operator meets it: exit codes, one line for what is wrong, signals.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use sqlx::{AssertSqlSafe, Connection};
use store::test_support::{Setup, TestPostgres};

const PORTS: &[&str] = &[
    "apiServer.http.port=0",
    "apiServer.https.port=0",
    "diagnostics.serverPort=0",
    "dpServer.port=0",
    "multizone.global.kds.grpcPort=0",
    "interCp.server.port=0",
];

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuma-global"));
    command.args(arguments).env_clear().env("HOME", folder).stdin(Stdio::null());
    command
}

/// `run` on free ports.
fn run(folder: &Path, sets: &[&str]) -> Command {
    let mut command = program(folder, &["run"]);
    for set in PORTS.iter().chain(sets) {
        command.args(["--set", set]);
    }
    command
}

fn output(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// The line of the error, and that it is one: code 1, nothing that looks like a backtrace.
fn refused(command: Command) -> String {
    let (code, _, stderr) = output(command);
    assert_eq!(code, Some(1), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("Error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert_eq!(stderr.lines().last(), Some(errors[0]), "{stderr}");
    errors[0].to_owned()
}

#[test]
fn what_keeps_it_from_starting_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below_a_file = format!("general.workDir={}", file.join("data").display());
    for (sets, beginning, end) in [
        (
            vec![format!("apiServer.http.port={port}")],
            format!("cannot listen on 0.0.0.0:{port} for the API server: Address already in use"),
            "or set apiServer.http.port to a free port",
        ),
        (
            vec![format!("diagnostics.serverPort={port}")],
            format!("cannot listen on 0.0.0.0:{port} for the diagnostics server: "),
            "or set diagnostics.serverPort to a free port",
        ),
        (
            vec!["general.tlsCertFile=/nope.crt".to_owned(), "general.tlsKeyFile=/nope.key".to_owned()],
            "cannot read the TLS certificate \"/nope.crt\": No such file or directory".to_owned(),
            "check the path and the permissions",
        ),
        (
            vec![below_a_file],
            format!("cannot write to the folder \"{}\": ", file.join("data").display()),
            "set general.workDir to another folder",
        ),
        (
            vec!["store.encryption.keyFile=/nope.keys".to_owned()],
            "cannot use the encryption keys \"/nope.keys\": ".to_owned(),
            "check store.encryption.keyFile",
        ),
        (
            vec!["store.type=papyrus".to_owned()],
            "configuration validation failed: Store validation failed: Type should be".to_owned(),
            "memory",
        ),
        (vec!["logging.format=xml".to_owned()], "unknown log format \"xml\"".to_owned(), "use text or json"),
    ] {
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let line = refused(run(folder.path(), &sets));
        assert!(line.starts_with(&format!("Error: {beginning}")) && line.ends_with(end), "{line}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = output(program(folder.path(), &["migrate", "up"]));
    assert_eq!((code, &*stdout), (Some(0), "the database went from schema version 0 to 1\n"), "{stderr}");
    assert!(output(program(folder.path(), &["migrate", "up"])).1.ends_with("version 1 already\n"));

    let database = folder.path().join(".kuma/global.db");
    let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite:{}", database.display())).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99, 'later', TRUE, x'00', 0)";
    sqlx::query(AssertSqlSafe(newer)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let line = refused(run(folder.path(), &[]));
    assert!(line.starts_with("Error: cannot open the store: the database has schema version 99"), "{line}");
}

#[tokio::test]
async fn a_wrong_password_of_the_database_is_one_clear_line() {
    let server = TestPostgres::start(Setup::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut connection = server.connect("postgres").await.unwrap();
    sqlx::query("ALTER ROLE kuma PASSWORD 'right'").execute(&mut connection).await.unwrap();
    let rules = "host all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(server.folder().join("data/pg_hba.conf"), rules).unwrap();
    sqlx::query("SELECT pg_reload_conf()").execute(&mut connection).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let port = format!("store.postgres.port={}", server.settings("postgres").port);
    let sets = ["store.type=postgres", &port, "store.postgres.dbName=postgres"];
    let with = |password| run(folder.path(), &[&sets[..], &[password]].concat());
    let line = refused(with("store.postgres.password=wrong"));
    assert!(
        line.starts_with("Error: cannot open the store: ") && line.contains("password authentication failed"),
        "{line}"
    );
    assert!(!line.contains("wrong"), "{line}");
    let line = refused(with("store.postgres.password=right"));
    assert!(line.ends_with("run `migrate up` first"), "{line}");
}

#[test]
fn the_command_line_is_checked_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(output(program(folder.path(), &["fly"])).0, Some(2));
    assert_eq!(output(program(folder.path(), &["run", "--set", "nonsense"])).0, Some(2));
    let (code, stdout, _) = output(program(folder.path(), &["version"]));
    assert_eq!((code, stdout.starts_with("kuma-global ")), (Some(0), true), "{stdout}");
    assert!(stdout.contains("Kuma 2.13.10"), "{stdout}");

    let mut command = program(folder.path(), &["config", "--set", "store.type=memory", "--log-level", "debug"]);
    command.env("KUMA_API_SERVER_READ_ONLY", "true").env("KUMA_GENERAL_WORKDIR", "x");
    let (code, stdout, stderr) = output(command);
    assert_eq!(code, Some(0), "{stderr}");
    let row = |key: &str| {
        let line = stdout.lines().find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("{key} in {stdout}")).split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("store.type"), "--set store.type memory");
    assert_eq!(row("logging.level"), "--log-level debug");
    assert_eq!(row("apiServer.readOnly"), "KUMA_API_SERVER_READ_ONLY true");
    assert_eq!(row("general.workDir"), format!("automatic {}", folder.path().join(".kuma").display()));
    assert!(row("store.postgres.password").ends_with("*****"));
    assert_eq!(
        stderr,
        "Warning: unknown environment variable KUMA_GENERAL_WORKDIR; did you mean KUMA_GENERAL_WORK_DIR?\n"
    );
}

/// A running program and what it logs.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    fn wait_for(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the log ends without {text:?}");
        }
        line
    }

    fn send(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn port(line: &str) -> u16 {
    let json: serde_json::Value = serde_json::from_str(line).unwrap();
    json["http"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

/// SIGHUP reloads, SIGTERM lets a request in progress end and then exits with 0.
#[test]
fn signals_reload_and_drain() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(run(folder.path(), &["logging.format=json"]));
    running.wait_for("bootstrap of Admin User Token is enabled");
    let port = port(&running.wait_for("kuma-global is up"));
    running.send("-HUP");
    running.wait_for("certificate reloaded");
    running.send("-HUP");
    running.wait_for("rules for zones read again");

    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let body = r#"{"type": "Mesh", "name": "late"}"#;
    let head =
        "PUT /meshes/late HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{}", body.len(), &body[..10]).unwrap();
    stream.flush().unwrap();
    // The server has the head when it has answered somebody who came later.
    let mut other = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(other, "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    other.read_to_string(&mut String::new()).unwrap();
    running.send("-TERM");
    running.wait_for("draining");
    stream.write_all(&body.as_bytes()[10..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    running.wait_for("kuma-global has ended");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

/// Asked to stop before it is up, it ends at once with 0: here its database takes the connection and says nothing.
#[test]
fn a_signal_before_it_is_up_ends_it_cleanly() {
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("store.postgres.port={}", database.local_addr().unwrap().port());
    let folder = tempfile::tempdir().unwrap();
    let sets = ["store.type=postgres", "store.postgres.host=127.0.0.1", &port];
    let mut running = Running::start(run(folder.path(), &sets));
    let _waiting = database.accept().unwrap();
    running.send("-TERM");
    running.wait_for("kuma-global has ended");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

/// The same while its configuration is being read: here a file that gives nothing for a while.
#[test]
fn a_signal_while_the_configuration_loads_ends_it_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("slow.yaml");
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        let mut command = run(folder.path(), &[]);
        command.arg("--config-file").arg(&file);
        let mut running = Running::start(command);
        // Opens once the program has opened its end.
        let mut writer = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
        running.send(signal);
        writer.write_all(b"logging: {level: info}\n").unwrap();
        drop(writer);
        assert_eq!(running.child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

/// Traces reach a real collector: `rotel`, which `cargo xtask test` fetches, prints what it was sent.
#[test]
fn requests_are_traced_to_a_collector() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/rotel/0.0.1a15/rotel");
    if !program.exists() {
        eprintln!("*** NOT RUN: there is no {}; `cargo xtask test` fetches it", program.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (grpc, http) = (free(), free());
    let output = std::fs::File::create(folder.path().join("collected")).unwrap();
    let mut collector = Command::new(program);
    collector.args(["start", "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"]);
    collector.args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http]).env_clear();
    let mut collector =
        collector.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while TcpStream::connect(&grpc).is_err() {
        assert!(std::time::Instant::now() < deadline, "the collector does not listen");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }

    let endpoint = format!("tracing.openTelemetry.endpoint={grpc}");
    let sets = ["logging.format=json", "tracing.openTelemetry.enabled=true", &endpoint];
    let mut running = Running::start(run(folder.path(), &sets));
    let port = port(&running.wait_for("kuma-global is up"));
    for path in ["/meshes/default", "/meshes/none/meshtimeouts"] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        stream.read_to_string(&mut String::new()).unwrap();
    }
    running.send("-TERM");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));

    let collected = || std::fs::read_to_string(folder.path().join("collected")).unwrap();
    let told = ["kuma-global", "GET /meshes/{mesh}/meshtimeouts", "http.response.status_code", "404"];
    while !told.iter().all(|text| collected().contains(text)) {
        assert!(std::time::Instant::now() < deadline, "{}", collected());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    collector.kill().unwrap();
    collector.wait().unwrap();
}
