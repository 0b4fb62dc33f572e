//! What comes with a mesh, in the transaction that makes it: policies, the key of its tokens.

use std::sync::Arc;

use identity::SigningKey;
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
    /// The task that makes keys died.
    #[error("the task that makes a key died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Resources that are written together with this one: none, unless it is a mesh.
///
/// # Errors
/// A key cannot be made, or the mesh does not decode.
pub async fn of(
    new_mesh: NewMesh,
    configuration: &Arc<Snapshot>,
    resource: &Resource,
    is_new: bool,
) -> Result<Vec<Resource>, CompanionError> {
    if resource.kind() != Kind::Mesh || !is_new {
        return Ok(Vec::new());
    }
    let name = &resource.meta.key.name;
    let mesh = resource.spec.message::<Mesh>()?;
    let unwanted = &mesh.skip_creating_initial_policies;
    let mut companions = defaults::mesh_policies(name, unwanted, new_mesh.routing_resources)?;
    companions.retain(|companion| configuration.get(&companion.meta.key).is_none());
    companions.extend(token_key(configuration, name).await?);
    Ok(companions)
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
