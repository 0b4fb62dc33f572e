//! What nobody set and the program finds out at start (api-and-kumactl 5.1).

use std::path::{Path, PathBuf};

use crate::effective::{Effective, Source};
use crate::key::Role;
use crate::value::Value;

/// Name of the certificate in the work directory.
pub const TLS_CERT_FILE: &str = "kuma-cp.crt";
/// Name of its key.
pub const TLS_KEY_FILE: &str = "kuma-cp.key";

/// Servers that take the general certificate and limits unless they have their own.
const SERVERS: &[&str] =
    &["multizone.global.kds", "diagnostics", "dpServer", "apiServer.https", "monitoringAssignmentServer"];

/// What has to be known about the machine.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Home directory of the user.
    pub home: Option<PathBuf>,
    /// First address that is not loopback; without one, other instances cannot call this one.
    pub address: Option<String>,
}

impl Effective {
    /// Fills in what is empty: work directory, database and certificate files there, proxy authentication, ports and addresses that
    /// follow from others. Whether the certificate exists is the caller's business.
    pub fn fill_in(&mut self, host: &Host) {
        if self.text("general.workDir").is_empty() {
            let folder = host.home.as_deref().unwrap_or(Path::new(".")).join(".kuma");
            self.fill("general.workDir", &folder.to_string_lossy());
        }
        if self.text("store.type") == "sqlite" {
            let file = match self.role() {
                Role::Global => "global.db".to_owned(),
                Role::Zone => format!("zone-{}.db", self.text("multizone.zone.name")),
            };
            let folder = PathBuf::from(self.text("general.workDir"));
            self.fill("store.sqlite.path", &folder.join(file).to_string_lossy());
        }
        if self.text("general.tlsCertFile").is_empty() {
            let folder = PathBuf::from(self.text("general.workDir"));
            self.fill("general.tlsCertFile", &folder.join(TLS_CERT_FILE).to_string_lossy());
            self.fill("general.tlsKeyFile", &folder.join(TLS_KEY_FILE).to_string_lossy());
        }
        self.fill_in_servers();
        let (dataplane, zone) = match self.text("environment") {
            "kubernetes" => ("serviceAccountToken", "serviceAccountToken"),
            _ => ("dpToken", "zoneToken"),
        };
        self.fill("dpServer.authn.dpProxy.type", dataplane);
        self.fill("dpServer.authn.zoneProxy.type", zone);
        if self.number("bootstrapServer.params.xdsPort") == 0 {
            self.set_automatic("bootstrapServer.params.xdsPort", self.setting("dpServer.port").value.clone());
        }
        self.fill("interCp.catalog.instanceAddress", host.address.as_deref().unwrap_or("127.0.0.1"));
    }

    /// Whether [`Effective::fill_in`] chose the certificate, so that it may have to be made.
    pub fn certificate_is_automatic(&self) -> bool {
        self.setting("general.tlsCertFile").source == Source::Automatic
    }

    fn fill_in_servers(&mut self) {
        for server in SERVERS {
            if self.text(&format!("{server}.tlsCertFile")).is_empty() {
                for word in ["tlsCertFile", "tlsKeyFile"] {
                    let value = self.setting(&format!("general.{word}")).value.clone();
                    self.set_automatic(&format!("{server}.{word}"), value);
                }
            }
        }
        for word in ["tlsMinVersion", "tlsMaxVersion", "tlsCipherSuites"] {
            let general = self.setting(&format!("general.{word}"));
            if general.value.is_empty() || general.source == Source::Default {
                continue;
            }
            // Kuma's general limit wins over a server's own.
            let value = general.value.clone();
            for server in SERVERS.iter().chain(&["interCp.server"]) {
                self.set_automatic(&format!("{server}.{word}"), value.clone());
            }
        }
    }

    fn fill(&mut self, path: &str, text: &str) {
        if self.text(path).is_empty() {
            self.set_automatic(path, Value::Text(text.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Loader;

    fn filled(sets: &[&str]) -> Effective {
        let loader = sets.iter().fold(Loader::new(Role::Zone), |loader, set| loader.set(set));
        let mut effective = loader.load().unwrap().effective;
        effective.fill_in(&Host { home: Some("/home/k".into()), address: Some("10.0.0.7".into()) });
        effective
    }

    #[test]
    fn what_is_empty_follows_from_the_rest() {
        let effective = filled(&["dpServer.port=7000"]);
        assert!(effective.certificate_is_automatic());
        for (path, text) in [
            ("general.workDir", "/home/k/.kuma"),
            ("store.sqlite.path", "/home/k/.kuma/zone-default.db"),
            ("apiServer.https.tlsCertFile", "/home/k/.kuma/kuma-cp.crt"),
            ("diagnostics.tlsKeyFile", "/home/k/.kuma/kuma-cp.key"),
            ("dpServer.authn.dpProxy.type", "dpToken"),
            ("dpServer.authn.zoneProxy.type", "zoneToken"),
            ("bootstrapServer.params.xdsPort", "7000"),
            ("interCp.catalog.instanceAddress", "10.0.0.7"),
        ] {
            assert_eq!(effective.setting(path).value.to_string(), text, "{path}");
            assert_eq!(effective.setting(path).source, Source::Automatic, "{path}");
        }
    }

    #[test]
    fn what_is_set_stays() {
        let effective = filled(&[
            "general.tlsCertFile=a.crt",
            "general.tlsKeyFile=a.key",
            "dpServer.tlsCertFile=b.crt",
            "dpServer.tlsKeyFile=b.key",
            "dpServer.authn.dpProxy.type=none",
            "general.tlsMinVersion=TLSv1_3",
        ]);
        assert!(!effective.certificate_is_automatic());
        assert_eq!(effective.text("dpServer.tlsCertFile"), "b.crt");
        assert_eq!(effective.text("diagnostics.tlsCertFile"), "a.crt");
        assert_eq!(effective.text("dpServer.authn.dpProxy.type"), "none");
        assert_eq!(effective.text("dpServer.tlsMinVersion"), "TLSv1_3");
    }
}
