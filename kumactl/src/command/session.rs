//! What every command works with: the streams, the settings, the control plane.

use std::io::Write;
use std::time::Duration;

use clap::ArgMatches;
use model::duration::GoDuration;

use crate::client::{CallError, Client};
use crate::failure::Failure;
use crate::flags;
use crate::io::Io;
use crate::settings::{self, ApiServer, Location, Settings};

/// One call of the program.
pub struct Session<'a> {
    /// The world.
    pub io: &'a mut Io,
    /// What the configuration file says.
    pub settings: Settings,
    /// Where the settings are kept.
    pub location: Location,
    /// Longest time that a call may take.
    pub timeout: Option<Duration>,
    /// Whether to tell about the work.
    verbose: bool,
    /// The control plane that `--context` names.
    context: Option<String>,
}

impl<'a> Session<'a> {
    /// Reads the flags of the root and the settings.
    ///
    /// # Errors
    /// A flag makes no sense, or the settings cannot be read.
    pub fn open(matches: &ArgMatches, io: &'a mut Io) -> Result<Self, Failure> {
        let level = flags::known(matches, "log-level");
        if !["off", "info", "debug"].contains(&level) {
            return Err(Failure::other(format!("unknown log level {level:?}: it is off, info or debug")));
        }
        let timeout = matches.get_one::<GoDuration>("api-timeout").copied().unwrap_or_default();
        let location = Location::of(io, flags::text(matches, "config-file"), matches.get_flag("no-config"))?;
        let settings = settings::load(&location)?;
        Ok(Self {
            settings,
            location,
            timeout: timeout.to_std().filter(|limit| !limit.is_zero()),
            verbose: level != "off",
            context: flags::text(matches, "context").map(str::to_owned),
            io,
        })
    }

    /// A client of the control plane in use.
    ///
    /// # Errors
    /// None is in use, or its settings cannot be used.
    pub fn client(&mut self) -> Result<Client, CallError> {
        let server = self.server()?.clone();
        if server.skip_verify && server.url.starts_with("https:") {
            let _ = writeln!(
                self.io.stderr,
                "WARNING: the certificate of {} is not verified (skipVerify): anybody on the way can read and change what \
                 is sent",
                server.url
            );
        }
        if self.verbose {
            let _ = writeln!(self.io.stderr, "INFO: control plane {}", server.url);
        }
        Client::new(&server, self.timeout)
    }

    fn server(&self) -> Result<&ApiServer, CallError> {
        let name = self.context.as_deref().or_else(|| self.settings.active());
        let plane = name.and_then(|name| self.settings.find(name));
        let plane = plane.ok_or_else(|| CallError::NoControlPlane(settings::BROKEN.to_owned()))?;
        Ok(&plane.coordinates.api_server)
    }
}
