//! The configuration file: which control planes there are, and which one is asked (api-and-kumactl 4.2).

mod command;
mod file;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use command::{command, run};
pub use file::{Location, load, save};

/// Name of the control plane that a first use knows.
const LOCAL: &str = "local";

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Ways to use a control plane.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<Context>,
    /// The control planes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub control_planes: Vec<ControlPlane>,
    /// Name of the context in use.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub current_context: String,
}

/// A way to use a control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Context {
    /// Its name.
    pub name: String,
    /// Name of the control plane.
    pub control_plane: String,
    /// Kept as it is; the flag `--mesh` decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Value>,
}

/// A control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlPlane {
    /// Its name here.
    pub name: String,
    /// Where it is.
    pub coordinates: Coordinates,
}

/// Where a control plane is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Coordinates {
    /// Its REST API.
    pub api_server: ApiServer,
}

/// A REST API and how to speak to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiServer {
    /// `http://localhost:5681`.
    pub url: String,
    /// File with the authorities to trust, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca_cert_file: String,
    /// File with the client's certificate, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_cert_file: String,
    /// File with the key of the client's certificate, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_key_file: String,
    /// Whether any certificate is taken.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_verify: bool,
    /// Headers of every request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// `tokens`, or nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_type: String,
    /// For `tokens`: `token`.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub auth_conf: std::collections::BTreeMap<String, String>,
}

/// A header of every request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// The one way to authenticate.
const TOKENS: &str = "tokens";

impl ApiServer {
    /// The user's token, if there is one.
    pub fn token(&self) -> Option<&str> {
        self.auth_conf.get("token").map(String::as_str).filter(|_| self.auth_type == TOKENS)
    }
}

/// That no control plane is configured, or none of the name that was asked for.
pub const BROKEN: &str = "apparently, configuration is broken. Use `kumactl config control-planes add` to add a Control \
                          Plane and make it active";

impl Settings {
    /// What a first use finds: one control plane, on this machine.
    pub fn first() -> Self {
        let mut settings = Self::default();
        let mut local = ControlPlane { name: LOCAL.to_owned(), ..ControlPlane::default() };
        "http://localhost:5681".clone_into(&mut local.coordinates.api_server.url);
        settings.put(local);
        settings
    }

    /// The control plane of a name.
    pub fn find(&self, name: &str) -> Option<&ControlPlane> {
        self.control_planes.iter().find(|plane| plane.name == name)
    }

    /// Name of the control plane in use.
    pub fn active(&self) -> Option<&str> {
        let context = self.contexts.iter().find(|context| context.name == self.current_context)?;
        Some(&context.control_plane)
    }

    /// Adds a control plane and a context of the same name, in place of those of that name, and makes it the one in use.
    pub fn put(&mut self, plane: ControlPlane) {
        self.current_context.clone_from(&plane.name);
        let context = Context { name: plane.name.clone(), control_plane: plane.name.clone(), defaults: None };
        match self.contexts.iter_mut().find(|known| known.name == context.name) {
            Some(known) => *known = context,
            None => self.contexts.push(context),
        }
        match self.control_planes.iter_mut().find(|known| known.name == plane.name) {
            Some(known) => *known = plane,
            None => self.control_planes.push(plane),
        }
    }

    /// Removes a control plane and its contexts; the first of those left is in use then.
    pub fn remove(&mut self, name: &str) -> bool {
        if self.find(name).is_none() {
            return false;
        }
        self.control_planes.retain(|plane| plane.name != name);
        self.contexts.retain(|context| context.control_plane != name);
        if !self.contexts.iter().any(|context| context.name == self.current_context) {
            self.current_context = self.contexts.first().map(|context| context.name.clone()).unwrap_or_default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> ControlPlane {
        ControlPlane { name: name.to_owned(), ..ControlPlane::default() }
    }

    #[test]
    fn the_last_one_added_is_in_use_until_it_goes() {
        let mut settings = Settings::first();
        settings.put(named("a"));
        assert_eq!(settings.active(), Some("a"));
        assert!(settings.remove("a"));
        assert_eq!(settings.active(), Some("local"));
        assert!(settings.remove("local"));
        assert_eq!(settings.active(), None);
        assert!(!settings.remove("local"));
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn adding_one_again_replaces_it() {
        let mut settings = Settings::first();
        settings.put(named("local"));
        assert_eq!(settings.control_planes, [named("local")]);
        assert_eq!(settings.contexts.len(), 1);
    }
}
