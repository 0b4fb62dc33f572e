//! How a program ends: the exit codes, and the one line that a fatal error prints.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | stopped as asked, everything drained in time; also when asked before it was up |
//! | 1 | a fatal error; one line on stderr says which and what to do |
//! | 2 | the command line cannot be understood |
//! | 3 | a task that the program cannot live without has failed |
//! | 4 | stopped as asked, but something did not drain in time and was cut off |
//! | 128 + n | a second signal n (130 interrupt, 143 terminate): stopped at once |

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;

use tokio::net::{TcpListener, TcpSocket};

/// How a run of the program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Asked to stop; everything drained.
    Clean,
    /// Asked to stop; the drain's bound cut something off.
    Forced,
    /// The named task failed and the program cannot live without it.
    TaskFailed(&'static str),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Clean => 0,
            Exit::TaskFailed(_) => 3,
            Exit::Forced => 4,
        })
    }
}

/// An error that ends the program: what failed, why, and what to do about it.
#[derive(Debug)]
pub struct Fatal {
    what: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    remedy: Option<String>,
}

impl Fatal {
    /// What the program was about to do: `cannot read the certificate "x.crt"`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None, remedy: None }
    }

    /// Why it failed.
    #[must_use]
    pub fn caused_by(self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut cause = self.cause.as_deref().map(|cause| cause as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// The cause stands in the text already, so there is no `source`.
impl std::error::Error for Fatal {}

/// Ends `main`: an error is one line on stderr, without a backtrace.
pub fn conclude(result: anyhow::Result<Exit>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("{}", error_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn error_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("Error: {}", lines.join(" "))
}

/// Listens on an address; `server` and `key` tell the operator whose port it is and where to change it.
///
/// # Errors
/// The address is taken, not of this machine, or needs more rights.
pub async fn listen(address: SocketAddr, server: &str, key: &str) -> Result<TcpListener, Fatal> {
    bind(address).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => format!("stop the program that uses it or set {key} to a free port"),
            io::ErrorKind::PermissionDenied => format!("set {key} to a port above 1023 or give the program the right"),
            _ => format!("check {key}"),
        };
        Fatal::new(format!("cannot listen on {address} for the {server}")).caused_by(error).remedy(remedy)
    })
}

/// Connections that wait to be accepted; the system has a limit of its own (`net.core.somaxconn`). The 128 of the
/// standard library are full in a moment when thousands of clients come back at once, and who finds it full waits for
/// a second at least.
const BACKLOG: u32 = 4096;

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Listens on a port of all addresses of the machine, IPv6 among them where the system has it: a client that knows it as
/// `localhost` may try `::1` alone.
///
/// # Errors
/// As [`listen`].
pub async fn listen_everywhere(port: u16, server: &str, key: &str) -> Result<TcpListener, Fatal> {
    match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
        Ok(listener) => Ok(listener),
        Err(_) => listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), server, key).await,
    }
}

/// Makes sure that a folder exists and can be written to; `key` names the setting that chose it.
///
/// # Errors
/// It cannot be created, or a file cannot be created in it.
pub fn writable_folder(folder: &Path, key: &str) -> Result<(), Fatal> {
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    // Secrets will lie there.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|error| {
            Fatal::new(format!("cannot write to the folder \"{}\"", folder.display()))
                .caused_by(error)
                .remedy(format!("give the program the right or set {key} to another folder"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_one_clear_line() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = listen(address, "API server", "apiServer.http.port").await.unwrap_err();
        assert_eq!(
            error_line(&error.into()),
            format!(
                "Error: cannot listen on {address} for the API server: Address already in use (os error 98); \
                 stop the program that uses it or set apiServer.http.port to a free port"
            )
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_names_its_setting() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = writable_folder(&file.path().join("data"), "general.workDir").unwrap_err().to_string();
        assert!(error.starts_with("cannot write to the folder \""), "{error}");
        assert!(error.ends_with("or set general.workDir to another folder"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        writable_folder(&folder.path().join("a/b"), "general.workDir").unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 0);
    }

    #[test]
    fn an_error_is_one_line_with_all_of_its_causes() {
        let error = anyhow::anyhow!("line one\n  line two\n\n").context("loading");
        assert_eq!(error_line(&error), "Error: loading: line one line two");
    }
}
