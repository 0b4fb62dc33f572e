//! Reading and writing the configuration file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Settings;
use crate::failure::Failure;
use crate::io::{Io, plain, read_file};
use crate::output::yaml;

/// Where the settings of a call come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file, made on first use.
    File(PathBuf),
    /// Nowhere: `--no-config`.
    BuiltIn,
}

impl Location {
    /// The file that the flags name, or the one in the user's home.
    ///
    /// # Errors
    /// No flag names one, and the user has no home.
    pub fn of(io: &Io, config_file: Option<&str>, no_config: bool) -> Result<Self, Failure> {
        match (no_config, config_file, &io.home) {
            (true, ..) => Ok(Self::BuiltIn),
            (_, Some(path), _) => Ok(Self::File(io.path(path))),
            (_, None, Some(home)) => Ok(Self::File(home.join(".kumactl").join("config"))),
            (_, None, None) => Err(Failure::other(
                "there is no home folder to keep the configuration in: name a file with `--config-file PATH`, or use \
                 `--no-config`",
            )),
        }
    }
}

/// The settings, from a file that is made if it is not there.
///
/// # Errors
/// The file cannot be read, made or understood.
pub fn load(location: &Location) -> Result<Settings, Failure> {
    let Location::File(path) = location else { return Ok(Settings::first()) };
    if !path.exists() {
        let settings = Settings::first();
        save(location, &settings)?;
        return Ok(settings);
    }
    let text = read_file(path).map_err(|error| cannot("read", path, &error))?;
    parse(&text).map_err(|(place, reason)| {
        Failure::other(format!(
            "{}{place}: {reason}. Mend the file, or move it away and start again with `kumactl config control-planes add`",
            path.display()
        ))
    })
}

/// Settings in a text; a fault comes with its place, `:3:5`.
fn parse(text: &[u8]) -> Result<Settings, (String, String)> {
    if text.trim_ascii().is_empty() {
        return Ok(Settings::default());
    }
    serde_yaml::from_slice(text).map_err(|error| {
        let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
        let reason = error.to_string();
        let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
        (place, reason.to_owned())
    })
}

/// Writes the settings, whole or not at all: a token in there must not get lost with a full disk.
///
/// # Errors
/// The file cannot be written.
pub fn save(location: &Location, settings: &Settings) -> Result<(), Failure> {
    let Location::File(path) = location else { return Ok(()) };
    let value = serde_json::to_value(settings).map_err(Failure::other)?;
    let text = yaml::to_string(&value);
    write(path, text.as_bytes()).map_err(|error| cannot("write", path, &error))
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let unfinished = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    fs::rename(&unfinished, path)
}

fn cannot(act: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::other(format!("cannot {act} the configuration file {}: {}", path.display(), plain(error)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// API 4.2: made on first use, mode 0600.
    #[test]
    fn a_first_use_makes_the_file_and_a_second_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::File(folder.path().join(".kumactl/config"));
        let settings = load(&location).unwrap();
        assert_eq!(settings, Settings::first());
        let Location::File(path) = &location else { panic!("a file") };
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            "contexts:\n- controlPlane: local\n  name: local\ncontrolPlanes:\n- coordinates:\n    apiServer:\n      \
             url: http://localhost:5681\n  name: local\ncurrentContext: local\n"
        );
        assert_eq!(load(&location).unwrap(), settings);
    }

    #[test]
    fn every_field_of_the_file_is_read() {
        let text = b"contexts:\n- controlPlane: prod\n  name: prod\n  defaults:\n    mesh: demo\ncontrolPlanes:\n- name: \
            prod\n  coordinates:\n    apiServer:\n      url: https://cp:5682\n      caCertFile: ca\n      clientCertFile: \
            c\n      clientKeyFile: k\n      skipVerify: false\n      headers:\n      - key: a\n        value: b\n      \
            authType: tokens\n      authConf:\n        token: t\ncurrentContext: prod\n";
        let settings = parse(text).unwrap();
        let server = &settings.find("prod").unwrap().coordinates.api_server;
        assert_eq!((server.ca_cert_file.as_str(), server.client_key_file.as_str()), ("ca", "k"));
        assert_eq!((server.token(), server.headers[0].value.as_str()), (Some("t"), "b"));
        assert_eq!(settings.active(), Some("prod"));
    }

    #[test]
    fn a_broken_file_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let reason = |text: &str| {
            fs::write(&path, text).unwrap();
            load(&Location::File(path.clone())).unwrap_err().text().unwrap()
        };
        let said = reason("contexts:\n- name: [\n");
        assert!(
            said.starts_with(&format!("{}:", path.display())) && said.contains("kumactl config control-planes add")
        );
        let said = reason("contexts:\n- name: a\ncontrolPlanes: 5\n");
        assert!(said.contains(":3:16: controlPlanes: invalid type"), "{said}");
        assert_eq!(load(&Location::File(folder.path().to_owned())).unwrap_err().exit_code(), 1);
    }
}
