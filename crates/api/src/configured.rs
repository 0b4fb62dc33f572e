//! How the API behaves, out of the configuration (api-and-kumactl 5.2).

use std::net::{IpAddr, SocketAddr};

use config::Effective;
use identity::tls::Files;
use identity::{Access, Authentication};
use model::mode::Mode;
use runtime::Fatal;

use crate::{
    Addressing, Audit, Instance, Issuers, Limits, Listeners, Metrics, NewMesh, Place, Settings, audit, limits,
};

impl Settings {
    /// The settings that a configuration asks for.
    ///
    /// # Errors
    /// A public key cannot be read.
    pub fn configured(effective: &Effective, mode: Mode, instance: Instance) -> Result<Self, Fatal> {
        let unusable = |error| Fatal::new("cannot use the section access.static").caused_by(error);
        let metrics = Metrics::default();
        Ok(Self {
            mode,
            read_only: effective.flag("apiServer.readOnly"),
            unsafe_delete: effective.flag("store.unsafeDelete"),
            skip_origin_check: effective.flag("multizone.zone.disableOriginLabelValidation"),
            instance,
            place: Place::configured(effective)?,
            config: effective.document().into(),
            addressing: Addressing {
                domain: effective.text("dnsServer.domain").to_owned(),
                port: port(effective, "dnsServer.serviceVipPort")?,
            },
            new_mesh: NewMesh::configured(effective),
            issuers: Issuers {
                dataplane: effective.flag("dpServer.authn.dpProxy.dpToken.enableIssuer"),
                zone: effective.flag("dpServer.authn.zoneProxy.zoneToken.enableIssuer"),
                user: effective.flag("apiServer.authn.tokens.enableIssuer"),
            },
            access: effective.section::<Access>("access.static").map_err(unusable)?,
            authentication: Authentication::configured(effective)?,
            limits: Limits::configured(effective)?,
            proxy_admin: None,
            audit: audit(effective, &metrics)?,
            metrics,
        })
    }
}

/// The audit log, if a file is named for it.
fn audit(effective: &Effective, metrics: &Metrics) -> Result<Option<Audit>, Fatal> {
    let path = effective.text("apiServer.audit.path");
    if path.is_empty() {
        return Ok(None);
    }
    let settings = audit::Settings {
        path: path.into(),
        max_bytes: u64::try_from(effective.number("apiServer.audit.maxSizeMegabytes")).unwrap_or(0).max(1) * 1_000_000,
        max_files: u32::try_from(effective.number("apiServer.audit.maxFiles")).unwrap_or(u32::MAX),
    };
    let audit = Audit::open(&settings, metrics).map_err(|error| {
        let remedy = "give the program the right or set apiServer.audit.path to another file";
        Fatal::new("cannot keep the audit log").caused_by(error).remedy(remedy)
    })?;
    Ok(Some(audit))
}

impl NewMesh {
    /// What a configuration gives to new meshes.
    pub fn configured(effective: &Effective) -> Self {
        Self { routing_resources: effective.flag("defaults.createMeshRoutingResources") }
    }
}

impl Listeners {
    /// Where the API listens.
    ///
    /// # Errors
    /// An interface is no address of this machine's, or TLS is asked for in a way that cannot work.
    pub fn configured(effective: &Effective) -> Result<Self, Fatal> {
        let address = |server: &str| -> Result<Option<SocketAddr>, Fatal> {
            if !effective.flag(&format!("{server}.enabled")) {
                return Ok(None);
            }
            let (key, port) = (format!("{server}.interface"), port(effective, &format!("{server}.port"))?);
            let interface: IpAddr = effective.text(&key).parse().map_err(|error| {
                Fatal::new(format!("{key} is {:?}", effective.text(&key)))
                    .caused_by(error)
                    .remedy("set it to an address of this machine, or to 0.0.0.0 for all of them")
            })?;
            Ok(Some(SocketAddr::new(interface, port)))
        };
        let https = address("apiServer.https")?;
        let https = https.map(|address| Ok((address, Files::of_the_api(effective)?))).transpose()?;
        Ok(Self { http: address("apiServer.http")?, https, limits: limits::of_server(effective)? })
    }
}

pub(crate) fn port(effective: &Effective, key: &str) -> Result<u16, Fatal> {
    let number = effective.number(key);
    u16::try_from(number).map_err(|_| Fatal::new(format!("{key} must be in the range [0, 65535], found {number}")))
}

#[cfg(test)]
mod tests {
    use config::{Host, Loader, Role};

    use super::*;

    fn effective(sets: &[&str]) -> Effective {
        let mut effective =
            sets.iter().fold(Loader::new(Role::Global), |loader, set| loader.set(set)).load().unwrap().effective;
        effective.fill_in(&Host::default());
        effective
    }

    #[test]
    fn the_api_is_what_the_keys_say() {
        let sets = [
            "apiServer.readOnly=true",
            "apiServer.authn.tokens.enableIssuer=false",
            "defaults.createMeshRoutingResources=true",
            "access.static.write.groups=mesh-system:unauthenticated",
        ];
        let settings =
            Settings::configured(&effective(&sets), Mode::Global, Instance::of_this_process("0.1.0")).unwrap();
        assert!(settings.read_only && !settings.unsafe_delete && settings.new_mesh.routing_resources);
        assert!(!settings.issuers.user && settings.issuers.zone && settings.issuers.dataplane);
        assert!(settings.access.write.allows(&identity::User::anonymous()));
        assert!(settings.config.starts_with("{\"general\":"));
        let Instance { id, hostname, .. } = settings.instance;
        assert!(id.strip_prefix(&hostname).is_some_and(|suffix| suffix.len() == 5 && suffix.starts_with('-')), "{id}");
    }

    #[test]
    fn the_audit_log_is_off_until_a_file_is_named() {
        let audit = |sets: &[&str]| audit(&effective(sets), &Metrics::default());
        assert!(audit(&[]).unwrap().is_none());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        assert!(audit(&[&format!("apiServer.audit.path={}", path.display())]).unwrap().is_some());
        assert!(path.exists());
        let refused = audit(&[&format!("apiServer.audit.path={}/x", path.display())]).unwrap_err().to_string();
        assert!(refused.starts_with("cannot keep the audit log: cannot write the audit log: "), "{refused}");
        assert!(refused.ends_with("set apiServer.audit.path to another file"), "{refused}");
    }

    #[test]
    fn listeners_can_be_moved_and_switched_off() {
        let listeners = Listeners::configured(&effective(&[])).unwrap();
        assert_eq!(listeners.http, Some("0.0.0.0:5681".parse().unwrap()));
        assert_eq!(listeners.https.unwrap().0, "0.0.0.0:5682".parse().unwrap());
        let moved = effective(&["apiServer.http.enabled=false", "apiServer.https.interface=::1"]);
        let listeners = Listeners::configured(&moved).unwrap();
        assert_eq!((listeners.http, listeners.https.unwrap().0), (None, "[::1]:5682".parse().unwrap()));
        let error = Listeners::configured(&effective(&["apiServer.http.interface=eth0"])).unwrap_err().to_string();
        assert!(error.starts_with("apiServer.http.interface is \"eth0\": "), "{error}");
    }

    #[test]
    fn bounds_are_what_the_keys_say_and_within_what_can_be_borne() {
        let limits = |set: &str| {
            let effective = effective(&[set]);
            Limits::configured(&effective).and_then(|limits| Ok((limits, limits::of_server(&effective)?)))
        };
        let (defaults, of_server) = limits("logging.level=info").unwrap();
        assert_eq!(defaults, Limits::default(), "the documented defaults are those of the code");
        let code = runtime::serve::Limits::default();
        assert_eq!(
            (of_server.connections, of_server.head_size, of_server.head),
            (code.connections, code.head_size, code.head)
        );
        assert_eq!(limits("apiServer.limits.maxBodySize=1000").unwrap().0.body_size, 1000);
        assert_eq!(limits("apiServer.limits.requestTimeout=90s").unwrap().0.work.as_secs(), 90);
        assert_eq!(limits("apiServer.limits.maxHeaderSize=16384").unwrap().1.head_size, 16384);
        for (set, told) in [
            ("apiServer.limits.maxBodySize=10485761", "is 10485761; set it to a number from 1 to 10485760"),
            ("apiServer.limits.maxConcurrentRequests=0", "is 0; set it to a number from 1 to"),
            ("apiServer.limits.maxHeaderSize=100", "is 100; set it to a number from 8192 to 1048576"),
            ("apiServer.limits.bodyTimeout=0s", "is 0s; set it to a length of time above zero"),
            ("apiServer.limits.idleTimeout=-1s", "is -1s; set it"),
        ] {
            let error = limits(set).unwrap_err().to_string();
            let key = set.split_once('=').unwrap().0;
            assert!(error.starts_with(&format!("{key} {told}")), "{error}");
        }
    }
}
