//! What the control plane writes into a resource before it stores it, and what it checks with the help of others.

use kds_proto::kuma::mesh::v1alpha1::{Dataplane, Mesh};
use kds_proto::kuma::system::v1alpha1::Secret;
use kds_proto::kuma::system::v1alpha1::data_source::Type as Source;
use model::mode::Mode;
use model::spec::{SpecError, dataplane, mesh};
use model::{Key, Kind, Payload, Resource, Snapshot, Violations};

use crate::problem::Problem;

/// The resource as it is stored.
///
/// # Errors
/// The mesh does not take it, or a certificate that it refers to is no good.
pub(crate) fn apply(
    mode: &Mode,
    configuration: &Snapshot,
    resource: Resource,
    is_new: bool,
) -> Result<Resource, Problem> {
    match resource.kind() {
        Kind::Mesh => of_mesh(configuration, resource, is_new),
        Kind::Dataplane => of_dataplane(mode, configuration, resource, is_new),
        _ => Ok(resource),
    }
}

fn of_mesh(configuration: &Snapshot, resource: Resource, is_new: bool) -> Result<Resource, Problem> {
    let title = title(is_new);
    let unreadable = |error: SpecError| Problem::bad_request(format!("bad request: {error}"));
    let spec = resource.spec.message::<Mesh>().map_err(unreadable)?;
    let name = &resource.meta.key.name;
    let load = |source: &kds_proto::kuma::system::v1alpha1::DataSource| match &source.r#type {
        Some(Source::Secret(secret)) => {
            let stored = configuration.get(&Key::new(Kind::Secret, name, secret));
            let stored = stored.and_then(|stored| stored.spec.message::<Secret>().ok()?.data.clone());
            stored.ok_or_else(|| format!("Resource not found: type=\"Secret\" name={secret:?} mesh={name:?}"))
        }
        Some(Source::File(path)) => read_small_file(path),
        _ => Err("no source".to_owned()),
    };
    let mut faults = Violations::default();
    mesh::check_loaded_backends(&spec, load, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::invalid(title, faults));
    }
    Ok(resource)
}

fn of_dataplane(
    mode: &Mode,
    configuration: &Snapshot,
    mut resource: Resource,
    is_new: bool,
) -> Result<Resource, Problem> {
    let unreadable = |error: SpecError| Problem::bad_request(format!("bad request: {error}"));
    let mut spec = Dataplane::clone(&*resource.spec.message::<Dataplane>().map_err(unreadable)?);
    if let Some(zone) = mode.zone() {
        dataplane::set_zone(&mut spec, &zone.name);
    }
    if is_new {
        dataplane::await_probes(&mut spec);
    }
    let name = &resource.meta.key.mesh;
    let mesh = configuration.get(&Key::global(Kind::Mesh, name));
    if let Some(mesh) = mesh.and_then(|mesh| mesh.spec.message::<Mesh>().ok())
        && let Err(error) = dataplane::check_membership(name, &mesh, &spec)
    {
        // The real system answers 500 without a reason; ours names the rule.
        return Err(Problem::invalid_field(title(is_new), "networking", error.to_string()));
    }
    resource.spec = Payload::from_message(&spec);
    Ok(resource)
}

fn title(is_new: bool) -> &'static str {
    if is_new { "Failed to create a resource" } else { "Failed to update a resource" }
}

/// A certificate or a key; more than this is something else.
const MAX_FILE: u64 = 1 << 20;

fn read_small_file(path: &str) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("{path}: {error}"))?.len();
    if size > MAX_FILE {
        return Err(format!("{path}: {size} bytes are too many for a certificate or a key"));
    }
    std::fs::read(path).map_err(|error| format!("{path}: {error}"))
}
