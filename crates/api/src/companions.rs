//! What comes with a mesh, in the transaction that makes it: policies, the key of its tokens, its authorities.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use identity::SigningKey;
use identity::ca::{self, CaError};
use identity::signing_key::{KeyError, Purpose};
use kds_proto::kuma::mesh::v1alpha1::Mesh;
use model::spec::SpecError;
use model::{Key, Kind, Resource, Snapshot, defaults};

use crate::NewMesh;

/// Why a mesh cannot have what it needs.
#[derive(Debug, thiserror::Error)]
pub enum CompanionError {
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A default is not what its kind wants.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// An authority of the mesh could not be made as its backend asks.
    #[error("mtls.backends[{position}].conf: {cause}")]
    Authority {
        /// Which backend of the mesh.
        position: usize,
        /// What is wrong.
        cause: CaError,
    },
    /// The task that makes keys died.
    #[error("the task that makes a key died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Resources that are written together with this one: none, unless it is a mesh. A mesh that is there already gets the
/// authorities that its new backends need.
///
/// # Errors
/// A key or an authority cannot be made, or the mesh does not decode.
pub async fn of(
    new_mesh: NewMesh,
    configuration: &Arc<Snapshot>,
    resource: &Resource,
    is_new: bool,
    now: DateTime<Utc>,
) -> Result<Vec<Resource>, CompanionError> {
    if resource.kind() != Kind::Mesh {
        return Ok(Vec::new());
    }
    let name = &resource.meta.key.name;
    let mesh = resource.spec.message::<Mesh>()?;
    let authorities = authorities(configuration, name, &mesh, now).await?;
    if !is_new {
        return Ok(authorities);
    }
    let unwanted = &mesh.skip_creating_initial_policies;
    let mut companions = defaults::mesh_policies(name, unwanted, new_mesh.routing_resources)?;
    companions.retain(|companion| configuration.get(&companion.meta.key).is_none());
    companions.extend(token_key(configuration, name).await?);
    companions.extend(authorities);
    Ok(companions)
}

/// Certificates and keys of the builtin backends that have none yet.
async fn authorities(
    configuration: &Arc<Snapshot>,
    name: &Arc<str>,
    mesh: &Arc<Mesh>,
    now: DateTime<Utc>,
) -> Result<Vec<Resource>, CompanionError> {
    let (configuration, name, mesh) = (Arc::clone(configuration), Arc::clone(name), Arc::clone(mesh));
    let make = move || {
        let mut secrets = Vec::new();
        for (position, backend) in mesh.mtls.iter().flat_map(|mtls| &mtls.backends).enumerate() {
            let missing = ca::missing_secrets(&name, backend, &configuration, now);
            secrets.extend(missing.map_err(|cause| CompanionError::Authority { position, cause })?);
        }
        Ok(secrets)
    };
    tokio::task::spawn_blocking(make).await?
}

/// The first key of the mesh's dataplane tokens, unless there is one.
async fn token_key(configuration: &Snapshot, mesh: &Arc<str>) -> Result<Option<Resource>, CompanionError> {
    let purpose = Purpose::Dataplane { mesh: mesh.to_string() };
    let first: Key = purpose.key(1);
    if configuration.get(&first).is_some() {
        return Ok(None);
    }
    let key = tokio::task::spawn_blocking(|| SigningKey::generate(1)).await??;
    Ok(Some(key.to_secret(&purpose)))
}
