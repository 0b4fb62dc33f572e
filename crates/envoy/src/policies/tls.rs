//! `MeshTLS`: which TLS inbounds speak, and their clients (zone-dataplane 3.6).

use model::spec::mesh_tls::{Conf, Mode};
use model::spec::tls::{Cipher, Versions};

use crate::plan::Context;
use crate::view::Mtls;

/// Versions and ciphers of a side of TLS; what is not said is Envoy's own choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// The oldest and the newest version.
    pub versions: Option<Versions>,
    /// The ciphers.
    pub ciphers: Vec<Cipher>,
}

impl Parameters {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Of versions alone.
    pub fn versions(versions: Option<&Versions>) -> Self {
        Self { versions: versions.cloned(), ciphers: Vec::new() }
    }
}

/// Whether an inbound also takes clients that do not prove who they are: the policy decides, else the mesh.
pub fn is_permissive(conf: &Conf, mesh: Mtls) -> bool {
    match &conf.mode {
        Some(mode) => *mode == Mode::Permissive,
        None => mesh == Mtls::Permissive,
    }
}

/// What an inbound speaks. Ciphers count only beside a version, as in Kuma.
pub fn of_inbound(conf: &Conf) -> Parameters {
    let versions = Parameters::versions(conf.tls_version.as_ref());
    if versions.is_empty() {
        return versions;
    }
    Parameters { ciphers: conf.tls_ciphers.clone().unwrap_or_default(), ..versions }
}

/// What an inbound speaks whose identity is of a MeshIdentity.
pub fn of_workload(conf: &Conf) -> Parameters {
    Parameters {
        ciphers: conf.tls_ciphers.clone().unwrap_or_default(),
        ..Parameters::versions(conf.tls_version.as_ref())
    }
}

/// What the proxy speaks as a client: what its first inbound with rules says.
pub fn of_clients(context: &Context<'_>) -> Parameters {
    let tls = &context.policies.tls;
    let conf =
        (0..tls.inbounds()).find_map(|inbound| tls.inbound_conf(inbound)).map(|(conf, _)| conf).unwrap_or_default();
    of_workload(&conf)
}
