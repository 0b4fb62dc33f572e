//! `export`: everything, in an order in which another control plane takes it (api-and-kumactl 4.10).

use std::io::Write;

use clap::{ArgMatches, Command};
use model::kind::{Access, Kind, Scope};
use serde_json::{Value, json};

use crate::client::{CallError, Client};
use crate::command::Session;
use crate::compatibility::{self, text};
use crate::failure::Failure;
use crate::{flags, kinds, output};

/// Secrets that belong to one installation and break another.
const OWN_SECRETS: [&str; 2] = ["envoy-admin-ca", "inter-cp-ca"];

/// Once this key is applied, the client's own token is worth nothing: it comes last.
const USER_KEY: &str = "user-token-signing-key";

/// The command.
pub fn command() -> Command {
    Command::new("export")
        .about("Print all resources, in an order in which they can be applied elsewhere")
        .arg(
            flags::option(
                "profile",
                "PROFILE",
                "what to export: federation, federation-with-policies, all, no-dataplanes",
            )
            .short('p')
            .default_value("federation"),
        )
        .arg(flags::option("format", "FORMAT", "universal or kubernetes").short('f').default_value("universal"))
        .arg(
            flags::option("system-namespace", "NAME", "namespace of the control plane, for --format kubernetes")
                .short('n')
                .default_value("kuma-system"),
        )
        .arg(
            flags::switch("include-admin", "also what only admins may see, such as secrets; federation always does")
                .short('a'),
        )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    Federation,
    FederationWithPolicies,
    All,
    NoDataplanes,
}

impl Profile {
    fn of(name: &str) -> Result<Self, Failure> {
        Ok(match name {
            "federation" => Self::Federation,
            "federation-with-policies" => Self::FederationWithPolicies,
            "all" => Self::All,
            "no-dataplanes" => Self::NoDataplanes,
            other => return Err(Failure::other(format!("invalid profile: {other:?}"))),
        })
    }

    /// Whether it prepares a move to a new global.
    fn is_move(self) -> bool {
        matches!(self, Self::Federation | Self::FederationWithPolicies)
    }

    /// Whether a kind, as the server describes it, is exported.
    fn takes(self, kind: Kind, described: &Value, include_admin: bool) -> bool {
        if kind.info().access == Access::Admins && !self.is_move() && !include_admin {
            return false;
        }
        let federated = described["includeInFederation"] == true;
        match self {
            Self::Federation => federated && described["policy"]["isTargetRef"] != true && kind != Kind::MeshGateway,
            Self::FederationWithPolicies => federated,
            Self::All => true,
            Self::NoDataplanes => !matches!(kind, Kind::Dataplane | Kind::DataplaneInsight),
        }
    }
}

/// Runs it.
///
/// # Errors
/// The control plane refused, or a flag makes no sense.
pub async fn run(matches: &ArgMatches, session: &mut Session<'_>) -> Result<(), Failure> {
    let (client, index) = compatibility::client_and_index(session).await?;
    if let Some(index) = index {
        let member = |name| text(&index, name);
        writeln!(
            session.io.stdout,
            "# Product: {}, Version: {}, Hostname: {}, ClusterId: {}, InstanceId: {}",
            member("product"),
            member("version"),
            member("hostname"),
            member("clusterId"),
            member("instanceId")
        )?;
    }
    let profile = Profile::of(flags::known(matches, "profile"))?;
    let format = flags::known(matches, "format");
    if !["universal", "kubernetes"].contains(&format) {
        return Err(Failure::other(format!("invalid format: {format:?}")));
    }
    let kinds = exported_kinds(&client, profile, matches.get_flag("include-admin"), session).await?;
    let resources = resources(&client, &kinds).await?;
    if format == "universal" {
        for (kind, resource) in &resources {
            let resource = cleaned(resource, profile);
            write!(session.io.stdout, "---\n{}", output::resource_yaml(*kind, &resource))?;
        }
        return Ok(());
    }
    let namespace = flags::known(matches, "system-namespace");
    let mut separator = "";
    for (kind, resource) in &resources {
        let object = in_kubernetes_form(&client, *kind, resource).await?;
        let elsewhere = object["metadata"]["namespace"].as_str().is_some_and(|own| own != namespace);
        if elsewhere && profile != Profile::All {
            continue;
        }
        write!(
            session.io.stdout,
            "{separator}{}",
            output::yaml::to_string(&cleaned_object(object, *kind, resource, profile))
        )?;
        separator = "---\n";
    }
    Ok(())
}

/// Kinds that the server has and the profile takes: meshes first, then secrets, global secrets last.
async fn exported_kinds(
    client: &Client,
    profile: Profile,
    include_admin: bool,
    session: &mut Session<'_>,
) -> Result<Vec<Kind>, Failure> {
    let list = client.get_json(&["_resources"], &[]).await?;
    let mut unknown = Vec::new();
    let mut kinds = Vec::new();
    for described in list["resources"].as_array().into_iter().flatten() {
        let name = described["name"].as_str().unwrap_or_default();
        match name.parse::<Kind>() {
            Ok(kind) if profile.takes(kind, described, include_admin) => kinds.push(kind),
            Ok(_) => {}
            Err(_) => unknown.push(name),
        }
    }
    kinds.sort_by_key(|kind| match kind {
        Kind::Mesh => 0,
        Kind::Secret => 1,
        Kind::GlobalSecret => 3,
        _ => 2,
    });
    if !unknown.is_empty() {
        let names = unknown.join(",");
        let told = format!("The following types won't be exported because they are unknown to kumactl: {names}");
        writeln!(session.io.stdout, "# {told}")?;
        writeln!(session.io.stderr, "WARNING: {told}. Are you using a compatible version of kumactl?")?;
    }
    Ok(kinds)
}

/// Every resource of the kinds, ready for another control plane.
async fn resources(client: &Client, kinds: &[Kind]) -> Result<Vec<(Kind, Value)>, Failure> {
    let items = |mut list: Value| list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let meshes = client.get_all(&kinds::collection(Kind::Mesh, ""), &[]).await;
    let meshes = items(meshes.map_err(Failure::doing("could not list meshes"))?);
    let names: Vec<String> = meshes.iter().map(|mesh| text(mesh, "name").to_owned()).collect();
    let mut resources = Vec::new();
    let mut last = Vec::new();
    for kind in kinds.iter().copied() {
        let failed = |error: CallError| Failure::doing(format!("could not list \"{kind}\""))(error);
        match kind.info().scope {
            Scope::Global if kind == Kind::Mesh => {
                resources.extend(meshes.iter().map(|mesh| (kind, movable_mesh(mesh.clone()))));
            }
            Scope::Global => {
                let list = client.get_all(&kinds::collection(kind, ""), &[]).await.map_err(failed)?;
                for resource in items(list) {
                    let name = text(&resource, "name");
                    if kind == Kind::GlobalSecret && OWN_SECRETS.contains(&name) {
                        continue;
                    }
                    let is_last = kind == Kind::GlobalSecret && name.starts_with(USER_KEY);
                    if is_last { &mut last } else { &mut resources }.push((kind, resource));
                }
            }
            Scope::Mesh => {
                for mesh in &names {
                    let list = client.get_all(&kinds::collection(kind, mesh), &[]).await.map_err(failed)?;
                    resources.extend(items(list).into_iter().map(|resource| (kind, resource)));
                }
            }
        }
    }
    resources.append(&mut last);
    Ok(resources)
}

/// A mesh that keeps its certificates and gets no policies that it did not have.
fn movable_mesh(mut mesh: Value) -> Value {
    mesh["skipCreatingInitialPolicies"] = json!(["*"]);
    let name = text(&mesh, "name").to_owned();
    let mut changed = false;
    for backend in mesh.get_mut("mtls").and_then(|mtls| mtls["backends"].as_array_mut()).into_iter().flatten() {
        if backend["type"] != "builtin" {
            continue;
        }
        let secret = |half: &str| json!({"secret": format!("{name}.ca-builtin-{half}-{}", text(backend, "name"))});
        let conf = json!({"cert": secret("cert"), "key": secret("key")});
        backend["type"] = "provided".into();
        backend["conf"] = conf;
        changed = true;
    }
    if changed {
        mesh["mtls"]["skipValidation"] = true.into();
    }
    mesh
}

/// Without the label that says that a zone made it: a new global would refuse it.
fn cleaned(resource: &Value, profile: Profile) -> Value {
    let mut resource = resource.clone();
    if profile.is_move() {
        drop_origin(&mut resource, "labels");
    }
    resource
}

fn drop_origin(holder: &mut Value, member: &str) {
    let Some(members) = holder.as_object_mut() else { return };
    let Some(labels) = members.get_mut(member).and_then(Value::as_object_mut) else { return };
    labels.shift_remove(model::labels::ORIGIN);
    if labels.is_empty() {
        members.shift_remove(member);
    }
}

async fn in_kubernetes_form(client: &Client, kind: Kind, resource: &Value) -> Result<Value, Failure> {
    let path = kinds::item(kind, text(resource, "mesh"), text(resource, "name"));
    client.get_json(&path, &[("format", "k8s")]).await.map_err(|error| match error {
        CallError::Refused(refusal) => {
            Failure::other(format!("unexpected status code: {} {}", refusal.status, refusal.raw))
        }
        other => Failure::from(other),
    })
}

/// An object of Kubernetes that another cluster takes.
fn cleaned_object(mut object: Value, kind: Kind, resource: &Value, profile: Profile) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for own in ["resourceVersion", "ownerReferences", "uid", "generation", "managedFields"] {
            metadata.shift_remove(own);
        }
    }
    if profile.is_move() {
        for member in ["labels", "annotations"] {
            if let Some(labels) = object["metadata"].get_mut(member).and_then(Value::as_object_mut) {
                labels.shift_remove(model::labels::ORIGIN);
            }
        }
    }
    if kind == Kind::Mesh {
        object["spec"] = model::rest_form::content(kind, resource.clone());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_takes_its_certificates_along() {
        let mesh = json!({"type": "Mesh", "name": "m", "mtls": {"backends": [
            {"name": "a", "type": "builtin", "conf": {"x": 1}}, {"name": "b", "type": "vault"}]}});
        assert_eq!(
            movable_mesh(mesh),
            json!({"type": "Mesh", "name": "m", "mtls": {"backends": [
                {"name": "a", "type": "provided", "conf": {"cert": {"secret": "m.ca-builtin-cert-a"},
                    "key": {"secret": "m.ca-builtin-key-a"}}}, {"name": "b", "type": "vault"}], "skipValidation": true},
                "skipCreatingInitialPolicies": ["*"]})
        );
    }

    #[test]
    fn a_move_leaves_the_origin_behind() {
        let policy = json!({"name": "p", "labels": {"kuma.io/origin": "zone"}});
        assert_eq!(cleaned(&policy, Profile::Federation), json!({"name": "p"}));
        assert_eq!(cleaned(&policy, Profile::All), policy);
    }
}
