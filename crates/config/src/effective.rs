//! The settings in force, each with its source.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use comfy_table::{Cell, Table};
use model::Kind;
use model::duration::GoDuration;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::key::{Key, Role};
use crate::table;
use crate::value::Value;

/// What Kuma shows in place of a secret.
const MASK: &str = "*****";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table of keys.
    Default,
    /// A line of the file.
    File(PathBuf, u64),
    /// An environment variable.
    Environment(String),
    /// A flag, as typed: `--zone`.
    Flag(String),
    /// Found out at start, since nobody said.
    Automatic,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
            Self::Automatic => f.write_str("automatic"),
        }
    }
}

/// One key, its value, and where that comes from.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// The value in force.
    pub value: Value,
    /// Where it comes from.
    pub source: Source,
}

impl Setting {
    fn shown(&self) -> Json {
        if self.key.secret { MASK.into() } else { self.value.json() }
    }
}

/// All settings in force.
#[derive(Clone, Debug)]
pub struct Effective {
    role: Role,
    settings: Vec<Setting>,
}

impl Effective {
    /// Every key at its default.
    pub(crate) fn defaults(role: Role) -> Self {
        let default = |key: &'static Key| {
            // A test reads every default of the table.
            let value = key.kind.parse(&key.default_text(role)).unwrap_or(Value::Text(String::new()));
            Setting { key, value, source: Source::Default }
        };
        Self { role, settings: table::keys().map(default).collect() }
    }

    /// Whose configuration it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// All settings, in the order of the table.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Kinds that are switched off: a control plane does as if it did not know them (kds-wire 4.1).
    pub fn switched_off(&self) -> BTreeSet<Kind> {
        let listed = |kind: &Kind| {
            let policy = kind.info().policy.is_some();
            let key = if policy { "policies.pluginPoliciesEnabled" } else { "coreResources.enabled" };
            self.texts(key).iter().any(|path| path == kind.info().path)
        };
        Kind::ALL.iter().copied().filter(|kind| kind.info().plugin && !listed(kind)).collect()
    }

    /// The setting of a key.
    ///
    /// # Panics
    /// The table has no such key: a misprint in the program.
    pub fn setting(&self, path: &str) -> &Setting {
        &self.settings[position(path)]
    }

    pub(crate) fn set(&mut self, at: usize, value: Value, source: Source) {
        let setting = &mut self.settings[at];
        (setting.value, setting.source) = (value, source);
    }

    pub(crate) fn set_automatic(&mut self, path: &str, value: Value) {
        self.set(position(path), value, Source::Automatic);
    }

    /// Value of a key that holds text; empty for other keys.
    pub fn text(&self, path: &str) -> &str {
        match &self.setting(path).value {
            Value::Text(text) => text,
            _ => "",
        }
    }

    /// Value of a key that is on or off; off for other keys.
    pub fn flag(&self, path: &str) -> bool {
        self.setting(path).value == Value::Bool(true)
    }

    /// Value of a key that holds a number; 0 for other keys.
    pub fn number(&self, path: &str) -> i128 {
        match &self.setting(path).value {
            Value::Int(number) => (*number).into(),
            Value::Uint(number) => (*number).into(),
            _ => 0,
        }
    }

    /// Value of a key that holds a span of time; none for other keys.
    pub fn duration(&self, path: &str) -> GoDuration {
        match &self.setting(path).value {
            Value::Duration(duration) => *duration,
            _ => GoDuration::ZERO,
        }
    }

    /// Value of a key that holds a list of texts; empty for other keys.
    pub fn texts(&self, path: &str) -> &[String] {
        match &self.setting(path).value {
            Value::Texts(texts) => texts,
            _ => &[],
        }
    }

    /// The settings that this role reads, as a program's own struct.
    ///
    /// Declare it with `deny_unknown_fields` and without defaults: then a test that reads the defaults proves that the
    /// struct and the table name the same keys.
    ///
    /// # Errors
    /// The struct and the table disagree, or a number does not fit its field.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        let read = self.settings.iter().filter(|setting| setting.key.read_by(self.role));
        serde_json::from_value(tree(read.map(|setting| (setting.key.path, Some(setting.value.json())))))
    }

    /// The settings below a path that this role reads, as a struct: `store`, `apiServer.https`.
    ///
    /// Declared as for [`Effective::typed`]. What only one role reads is an `Option`.
    ///
    /// # Errors
    /// As [`Effective::typed`].
    pub fn section<T: DeserializeOwned>(&self, path: &str) -> Result<T, serde_json::Error> {
        let read = self.settings.iter().filter(|setting| setting.key.read_by(self.role));
        let below = read.filter_map(|setting| {
            let rest = setting.key.path.strip_prefix(path)?.strip_prefix('.')?;
            Some((rest, Some(setting.value.json())))
        });
        serde_json::from_value(tree(below))
    }

    /// The document that Kuma serves as `/config` and sends to the global: Kuma's keys in Kuma's order, compact, secrets
    /// masked. Keys of ours appear once they are set.
    pub fn document(&self) -> String {
        let shown = |setting: &Setting| {
            let omitted = setting.key.omit_empty && setting.value.is_empty();
            (!omitted).then(|| setting.shown())
        };
        let told = |setting: &&Setting| !setting.key.ours || setting.source != Source::Default;
        tree(self.settings.iter().filter(told).map(|setting| (setting.key.path, shown(setting)))).to_string()
    }

    /// A table for people: key, source, and last the value, which may be long. Only what this role reads and what somebody set, or everything.
    pub fn listing(&self, everything: bool) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(["KEY", "SOURCE", "VALUE"]);
        for setting in &self.settings {
            if everything || setting.key.read_by(self.role) || setting.source != Source::Default {
                let value = if setting.key.secret { MASK.to_owned() } else { setting.value.to_string() };
                table.add_row([Cell::new(setting.key.path), Cell::new(setting.source.to_string()), Cell::new(value)]);
            }
        }
        table.lines().map(|line| line.trim().to_owned() + "\n").collect()
    }
}

/// # Panics
/// The table has no such key.
fn position(path: &str) -> usize {
    match table::position(path) {
        Some(at) => at,
        None => panic!("the table of keys has no \"{path}\""),
    }
}

/// Objects inside objects. A path without a value still makes the objects that it leads through.
fn tree<'p>(leaves: impl Iterator<Item = (&'p str, Option<Json>)>) -> Json {
    let mut root = Map::new();
    for (path, leaf) in leaves {
        let mut at = &mut root;
        let mut words = path.split('.').peekable();
        while let Some(word) = words.next() {
            if words.peek().is_none() {
                if let Some(leaf) = leaf {
                    at.insert(word.to_owned(), leaf);
                }
                break;
            }
            let child = at.entry(word).or_insert_with(|| Json::Object(Map::new()));
            let Json::Object(child) = child else { break };
            at = child;
        }
    }
    Json::Object(root)
}
