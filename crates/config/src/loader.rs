//! Default, file, environment, flags: each layer over the one before.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::effective::{Effective, Source};
use crate::file::{self, Entry, Node};
use crate::key::{Key, Role};
use crate::table;
use crate::validate;

/// Largest configuration file, in bytes.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// Why there is no configuration; the words are Kuma's (5.4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file is not there or not readable.
    #[error("unable to access configuration file '{}', please check if the file exists and has the correct permissions", .0.display())]
    NoAccess(PathBuf),
    /// The file is there but cannot be read to its end.
    #[error("reading configuration from file '{}' failed: {cause}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// Something in the file, or found after reading one.
    #[error("parsing configuration from file '{}' failed: {cause}", .file.display())]
    WithFile {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: Box<Error>,
    },
    /// The file's text.
    #[error("unable to parse configuration: {0}")]
    Parse(String),
    /// An environment variable.
    #[error("processing environment variables failed: envconfig.Process: {0}")]
    Environment(String),
    /// A flag.
    #[error("invalid flag: {0}")]
    Flag(String),
    /// Values that cannot work.
    #[error("configuration validation failed: {0}")]
    Invalid(String),
}

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The settings in force.
    pub effective: Effective,
    /// Lines for the operator: keys without effect, keys that nobody knows.
    pub warnings: Vec<String>,
}

/// Gathers the layers. A clone reads the file anew.
#[derive(Clone, Debug)]
pub struct Loader {
    role: Role,
    file: Option<PathBuf>,
    env: Vec<(String, String)>,
    flags: Vec<Flag>,
}

#[derive(Clone, Debug)]
struct Flag {
    name: String,
    path: String,
    text: String,
}

impl Loader {
    /// Defaults alone, so far.
    pub fn new(role: Role) -> Self {
        Self { role, file: None, env: Vec::new(), flags: Vec::new() }
    }

    /// A YAML file.
    #[must_use]
    pub fn file(self, file: impl Into<PathBuf>) -> Self {
        Self { file: Some(file.into()), ..self }
    }

    /// Environment variables; those that do not begin with `KUMA_` are left alone. [`std::env::vars`] panics on names
    /// that are no Unicode: use `vars_os` and drop those.
    #[must_use]
    pub fn env<K: Into<String>, V: Into<String>>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self {
        self.env.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// `--set key=value`, the value spelled as in the environment.
    #[must_use]
    pub fn set(self, assignment: &str) -> Self {
        let (path, text) = assignment.split_once('=').unwrap_or((assignment, ""));
        self.flag(&format!("--set {path}"), path.trim(), text)
    }

    /// A flag of its own for a key: `--zone` for `multizone.zone.name`.
    #[must_use]
    pub fn flag(mut self, name: &str, path: &str, text: &str) -> Self {
        self.flags.push(Flag { name: name.to_owned(), path: path.to_owned(), text: text.to_owned() });
        self
    }

    /// Reads the layers and checks the result.
    ///
    /// # Errors
    /// The first layer that cannot be read, with all that is wrong in it; or values that cannot work.
    pub fn load(self) -> Result<Loaded, Error> {
        let mut layers = Layers { effective: Effective::defaults(self.role), warnings: Vec::new() };
        let Some(file) = &self.file else {
            self.finish(&mut layers)?;
            return Ok(layers.into());
        };
        let text = read_file(file)?;
        let within = |error| Error::WithFile { file: file.clone(), cause: Box::new(error) };
        layers.file(file, &text).map_err(within)?;
        self.finish(&mut layers).map_err(within)?;
        Ok(layers.into())
    }

    fn finish(&self, layers: &mut Layers) -> Result<(), Error> {
        layers.environment(&self.env)?;
        layers.flags(&self.flags)?;
        layers.warn_of_no_effect();
        layers.warn_of_old_words();
        validate::validate(&layers.effective).map_err(Error::Invalid)
    }
}

fn read_file(file: &Path) -> Result<String, Error> {
    let opened = std::fs::File::open(file).map_err(|_| Error::NoAccess(file.to_owned()))?;
    let unreadable = |cause: String| Error::Unreadable { file: file.to_owned(), cause };
    let mut text = String::new();
    let size =
        opened.take(MAX_FILE_SIZE + 1).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if size as u64 > MAX_FILE_SIZE {
        return Err(unreadable(format!("it is larger than {MAX_FILE_SIZE} bytes")));
    }
    Ok(text)
}

struct Layers {
    effective: Effective,
    warnings: Vec<String>,
}

impl From<Layers> for Loaded {
    fn from(layers: Layers) -> Self {
        Self { effective: layers.effective, warnings: layers.warnings }
    }
}

impl Layers {
    fn file(&mut self, file: &Path, text: &str) -> Result<(), Error> {
        let entries = file::read(text).map_err(Error::Parse)?;
        let mut faults = Vec::new();
        self.entries(file, "", entries, &mut faults);
        if faults.is_empty() { Ok(()) } else { Err(Error::Parse(faults.join("; "))) }
    }

    fn entries(&mut self, file: &Path, above: &str, entries: Vec<Entry>, faults: &mut Vec<String>) {
        for Entry { key, line, value } in entries {
            let path = if above.is_empty() { key } else { format!("{above}.{key}") };
            match (table::position(&path), value) {
                (Some(_), Node::Null) => {}
                (Some(at), value) => match self.effective.settings()[at].key.kind.read(&value) {
                    Ok(value) => self.effective.set(at, value, Source::File(file.to_owned(), line)),
                    Err(fault) => faults.push(format!("line {line}: {path} {fault}")),
                },
                (None, value) if table::is_section(&path) => match value {
                    Node::Null => {}
                    Node::Map(entries) => self.entries(file, &path, entries, faults),
                    other => {
                        faults.push(format!("line {line}: {path} has to be an object, found {}", other.describe()))
                    }
                },
                (None, _) => {
                    let place = format!("{}:{line}", file.display());
                    self.warnings.push(format!("{place}: unknown configuration key \"{path}\"{}", nearest_path(&path)));
                }
            }
        }
    }

    fn environment(&mut self, env: &[(String, String)]) -> Result<(), Error> {
        let mut faults = Vec::new();
        let mut known = Vec::new();
        for (at, key) in table::keys().enumerate() {
            let Some(name) = key.variable() else { continue };
            if let Some((_, text)) = env.iter().rfind(|(given, _)| *given == name) {
                match key.kind.parse(text) {
                    Ok(value) => self.effective.set(at, value, Source::Environment(name.clone())),
                    Err(details) => faults.push(assigning(key, &name, text, &details)),
                }
            }
            known.push(name);
        }
        for (name, value) in env {
            if name.starts_with("KUMA_") && !known.contains(name) && !is_from_elsewhere(name, value) {
                self.warnings.push(format!("unknown environment variable {name}{}", nearest_variable(name, &known)));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Environment(faults.join("; "))) }
    }

    fn flags(&mut self, flags: &[Flag]) -> Result<(), Error> {
        let mut faults = Vec::new();
        for Flag { name, path, text } in flags {
            let Some(at) = table::position(path) else {
                faults.push(format!("{name}: unknown configuration key \"{path}\"{}", nearest_path(path)));
                continue;
            };
            match self.effective.settings()[at].key.kind.parse(text) {
                Ok(value) => self.effective.set(at, value, Source::Flag(name.clone())),
                Err(fault) => faults.push(format!("{name}: {fault}")),
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Flag(faults.join("; "))) }
    }

    /// What still works under the name of earlier versions.
    fn warn_of_old_words(&mut self) {
        if self.effective.text("mode") == "standalone" {
            self.warnings.push("mode standalone is deprecated, use zone".to_owned());
        }
    }

    /// One line for each key that somebody set and this control plane does not read.
    fn warn_of_no_effect(&mut self) {
        let role = self.effective.role();
        for setting in self.effective.settings() {
            let key = setting.key;
            if setting.source == Source::Default || key.read_by(role) {
                continue;
            }
            let why = match key.read_by_other(role) {
                Some(other) => format!("it is for a {} control plane", other.mode()),
                None => "it is a key of Kuma that this control plane does not need".to_owned(),
            };
            self.warnings.push(format!("{}: configuration key \"{}\" has no effect: {why}", setting.source, key.path));
        }
    }
}

/// The message of Kuma's environment reader.
fn assigning(key: &Key, name: &str, text: &str, details: &str) -> String {
    let (field, kind) = (key.field_name(), key.kind.type_name());
    format!("assigning {name} to {field}: converting '{text}' to type {kind}. details: {details}")
}

/// Variables of data plane proxies, and those that Kubernetes makes for a service called `kuma-…`.
fn is_from_elsewhere(name: &str, value: &str) -> bool {
    let proxy =
        ["KUMA_DATAPLANE_", "KUMA_DATAPLANE_RUNTIME_", "KUMA_CONTROL_PLANE_", "KUMA_DNS_ENABLED", "KUMA_DNS_CORE"];
    let service_link = name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let address = value.starts_with("tcp://") || value.starts_with("udp://");
    service_link || address || proxy.iter().any(|prefix| name.starts_with(prefix))
}

fn nearest_variable(name: &str, known: &[String]) -> String {
    if let Some((_, right)) = table::MISPRINTS.iter().find(|(wrong, _)| *wrong == name) {
        return format!("; did you mean {right}?");
    }
    nearest(name, known.iter().map(String::as_str)).map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

/// The nearest key, or the nearest section when the path is shorter than every key that resembles it.
fn nearest_path(path: &str) -> String {
    let depth = path.split('.').count();
    let candidates = table::keys().map(|key| {
        let end = key.path.match_indices('.').nth(depth - 1).map_or(key.path.len(), |(at, _)| at);
        &key.path[..end]
    });
    nearest(path, candidates).map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default()
}

/// The candidate with the fewest typing mistakes, if they are few for its length.
fn nearest<'c>(text: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let text = text.to_lowercase();
    let scored = candidates.map(|near| (strsim::normalized_damerau_levenshtein(&text, &near.to_lowercase()), near));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= 0.7).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn loaded(text: &str, env: &[(&str, &str)], sets: &[&str]) -> (Loaded, String) {
        let file = file(text);
        let loader = Loader::new(Role::Zone).file(file.path()).env(env.iter().copied());
        let loader = sets.iter().fold(loader, |loader, set| loader.set(set));
        (loader.load().unwrap(), file.path().display().to_string())
    }

    #[test]
    fn the_later_layer_wins_and_every_value_knows_its_source() {
        let text = "multizone:\n  zone:\n    name: from-file\n    kds:\n      maxMsgSize: 1\ndnsServer:\n  domain: from-file\n";
        let env = [("KUMA_MULTIZONE_ZONE_NAME", "from-env"), ("KUMA_DNS_SERVER_DOMAIN", "from-env"), ("PATH", "/bin")];
        let (loaded, file) = loaded(text, &env, &["dnsServer.domain=from-flag"]);
        let told = |path| {
            let setting = loaded.effective.setting(path);
            (setting.value.to_string(), setting.source.to_string())
        };
        assert_eq!(told("dnsServer.domain"), ("from-flag".into(), "--set dnsServer.domain".into()));
        assert_eq!(told("multizone.zone.name"), ("from-env".into(), "KUMA_MULTIZONE_ZONE_NAME".into()));
        assert_eq!(told("multizone.zone.kds.maxMsgSize"), ("1".into(), format!("{file}:5")));
        assert_eq!(told("dnsServer.serviceVipPort"), ("80".into(), "default".into()));
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }

    /// API-20: an empty variable is a value.
    #[test]
    fn an_empty_variable_is_a_value() {
        let error = Loader::new(Role::Zone).env([("KUMA_MULTIZONE_ZONE_NAME", "")]).load().unwrap_err();
        let text = "configuration validation failed: Multizone Zone validation failed: Name is mandatory";
        assert_eq!(error.to_string(), text);
        assert_eq!(Loader::new(Role::Zone).load().unwrap().effective.text("multizone.zone.name"), "default");
    }

    #[test]
    fn keys_are_found_without_case_and_null_sets_nothing() {
        let (loaded, _) =
            loaded("defaults:\n  skipHostnameGenerators: yes\nmultizone:\nstore:\n  type: null\n", &[], &[]);
        assert_eq!(loaded.effective.setting("defaults.SkipHostnameGenerators").value.to_string(), "true");
        assert_eq!(loaded.effective.text("store.type"), "sqlite");
    }

    #[test]
    fn a_key_without_effect_gives_one_warning_that_names_it() {
        let text = "xdsServer:\n  nackBackoff: 7s\nmetrics:\n  zone:\n    idleTimeout: 1m\n";
        let (loaded, file) = loaded(text, &[("KUMA_STORE_CACHE_ENABLED", "false")], &[]);
        assert_eq!(
            loaded.warnings,
            [
                "KUMA_STORE_CACHE_ENABLED: configuration key \"store.cache.enabled\" has no effect: it is a key of Kuma that this control plane does not need".to_owned(),
                format!("{file}:2: configuration key \"xdsServer.nackBackoff\" has no effect: it is a key of Kuma that this control plane does not need"),
                format!("{file}:5: configuration key \"metrics.zone.idleTimeout\" has no effect: it is for a global control plane"),
            ]
        );
    }

    #[test]
    fn an_unknown_key_gives_a_warning_with_the_nearest_known_one() {
        let text = "multizone:\n  zone:\n    nmae: x\n  golbal:\n    kds: {}\nweather: fine\n";
        let env = [
            ("KUMA_GENERAL_WORKDIR", "x"),
            ("KUMA_STORE_POSTGRES_TLS_ROOT_CERT_PATH", "x"),
            ("KUMA_CONTROL_PLANE_SERVICE_PORT", "5681"),
            ("KUMA_DATAPLANE_MESH", "default"),
            ("KUMA_X_PORT_5681_TCP", "tcp://10.0.0.1:5681"),
        ];
        let (loaded, file) = loaded(text, &env, &[]);
        assert_eq!(
            loaded.warnings,
            [
                format!("{file}:3: unknown configuration key \"multizone.zone.nmae\"; did you mean \"multizone.zone.name\"?"),
                format!("{file}:5: unknown configuration key \"multizone.golbal\"; did you mean \"multizone.global\"?"),
                format!("{file}:6: unknown configuration key \"weather\""),
                "unknown environment variable KUMA_GENERAL_WORKDIR; did you mean KUMA_GENERAL_WORK_DIR?".into(),
                "unknown environment variable KUMA_STORE_POSTGRES_TLS_ROOT_CERT_PATH; did you mean KUMA_STORE_POSTGRES_TLS_CA_PATH?".into(),
            ]
        );
    }

    #[test]
    fn an_unknown_flag_is_an_error() {
        let error = |set: &str| Loader::new(Role::Zone).set(set).load().unwrap_err().to_string();
        assert_eq!(
            error("store.tpye=x"),
            "invalid flag: --set store.tpye: unknown configuration key \"store.tpye\"; did you mean \"store.type\"?"
        );
        assert_eq!(
            error("dpServer.port=x"),
            "invalid flag: --set dpServer.port: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
    }

    #[test]
    fn bad_files_are_refused_in_kumas_words() {
        let missing = Loader::new(Role::Zone).file("/nope.yaml").load().unwrap_err().to_string();
        assert_eq!(
            missing,
            "unable to access configuration file '/nope.yaml', please check if the file exists and has the correct permissions"
        );
        for (text, fault) in [
            (
                "mode: zone\n\tstore: x\n",
                "unable to parse configuration: while scanning a plain scalar, found a tab at line 1, column 7",
            ),
            ("store: 5\n", "unable to parse configuration: line 1: store has to be an object, found the number 5"),
            (
                "dpServer:\n  port: many\n",
                "unable to parse configuration: line 2: dpServer.port has to be a whole number, found the text \"many\"",
            ),
            (
                "general:\n  dnsCacheTTL: 5x\n",
                "unable to parse configuration: line 2: general.dnsCacheTTL time: unknown unit \"x\" in duration \"5x\"",
            ),
            (
                "mode: foo\n",
                "configuration validation failed: Mode validation failed: invalid mode. Available modes: standalone, zone, global",
            ),
        ] {
            let file = file(text);
            let error = Loader::new(Role::Zone).file(file.path()).load().unwrap_err().to_string();
            assert_eq!(error, format!("parsing configuration from file '{}' failed: {fault}", file.path().display()));
        }
        let huge = file(&"#".repeat(2 << 20));
        let error = Loader::new(Role::Zone).file(huge.path()).load().unwrap_err().to_string();
        assert!(error.ends_with("failed: it is larger than 1048576 bytes"), "{error}");
        assert!(Loader::new(Role::Zone).file("/").load().is_err());
    }

    #[test]
    fn a_bad_variable_is_refused_in_kumas_words() {
        let env = [("KUMA_GENERAL_DNS_CACHE_TTL", "soon"), ("KUMA_DP_SERVER_HDS_ENABLED", "")];
        assert_eq!(
            Loader::new(Role::Zone).env(env).load().unwrap_err().to_string(),
            "processing environment variables failed: envconfig.Process: assigning KUMA_GENERAL_DNS_CACHE_TTL to \
             DNSCacheTTL: converting 'soon' to type types.Duration. details: time: invalid duration \"soon\"; assigning \
             KUMA_DP_SERVER_HDS_ENABLED to Enabled: converting '' to type bool. details: strconv.ParseBool: parsing \"\": \
             invalid syntax"
        );
    }
}
