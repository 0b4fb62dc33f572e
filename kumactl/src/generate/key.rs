//! Keys that sign tokens.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{ArgMatches, Command};
use identity::SigningKey;

use crate::command::Session;
use crate::failure::Failure;
use crate::flags;
use crate::io::{plain, read_file};

/// The commands.
pub(super) fn commands() -> [Command; 2] {
    [
        Command::new("signing-key").about("Make a key that signs tokens").arg(
            flags::option("format", "FORMAT", "pem, or pem-base64 as the data of a secret takes it")
                .default_value("pem-base64"),
        ),
        Command::new("public-key")
            .about("Print the public half of a key that signs tokens")
            .arg(flags::option("signing-key-path", "PATH", "file with the key, PEM").required(true)),
    ]
}

/// Prints a new key, without a line break after base64.
pub(super) fn signing_key(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let format = flags::known(matches, "format");
    if !["pem", "pem-base64"].contains(&format) {
        return Err(Failure::other(format!("invalid format {format:?}: it is pem or pem-base64")));
    }
    let pem = SigningKey::generate(1).map_err(Failure::other)?.private_pem();
    let text = if format == "pem" { pem } else { STANDARD.encode(pem) };
    session.io.stdout.write_all(text.as_bytes())?;
    Ok(())
}

/// Prints the public half of a key in a file.
pub(super) fn public_key(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let key = read(flags::known(matches, "signing-key-path"), 1, session)?;
    session.io.stdout.write_all(key.public_pem().map_err(Failure::other)?.as_bytes())?;
    Ok(())
}

/// The signing key in a file.
pub(super) fn read(path: &str, serial: u64, session: &Session<'_>) -> Result<SigningKey, Failure> {
    let text = read_file(&session.io.path(path))
        .map_err(|error| Failure::other(format!("failed to read key {path:?}: {}", plain(&error))))?;
    let is_pem = pem::parse(&text).is_ok();
    let key = SigningKey::parse(serial, &text).ok().filter(|_| is_pem);
    key.ok_or_else(|| Failure::other("provided file is not a PEM-encoded signing key"))
}
