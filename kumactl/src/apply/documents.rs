//! From texts to resources; every fault with its place.

use std::io::Write;

use clap::ArgMatches;
use model::document::{self, Document, Limits};
use model::intake::{self, Rejection};
use model::kind::Kind;
use model::{Resource, kubernetes_form};
use serde_json::Value;

use super::source::{self, Source};
use crate::command::Session;
use crate::failure::Failure;
use crate::flags;
use crate::kinds::nearest;

/// What the texts held.
pub struct Documents {
    /// The good ones, in order.
    pub resources: Vec<Resource>,
    /// How many were bad; each has been told.
    pub bad: usize,
}

impl Documents {
    /// Failure if a document was bad.
    ///
    /// # Errors
    /// One was.
    pub fn into_outcome(self) -> Result<(), Failure> {
        match self.bad {
            0 => Ok(()),
            _ => Err(Failure::other("failed to validate some resources")),
        }
    }
}

/// The resources that the flags name. Faults of documents are told at once.
///
/// # Errors
/// There is nothing to read.
pub async fn read(matches: &ArgMatches, session: &mut Session<'_>) -> Result<Documents, Failure> {
    let mut sources = source::read(flags::known(matches, "file"), session).await?;
    let variables = flags::pairs_of(matches, "var");
    if !variables.is_empty() {
        for source in &mut sources {
            source.text = document::fill_in(&source.name, &source.text, &variables).map_err(Failure::other)?;
        }
    }
    let mut documents = Documents { resources: Vec::new(), bad: 0 };
    let mut faults = Vec::new();
    for source in &sources {
        match document::read(&source.name, &source.text, Limits::default()) {
            Ok(found) => {
                for document in found {
                    match resource(source, document) {
                        Ok(resource) => documents.resources.push(resource),
                        Err(told) => {
                            documents.bad += 1;
                            faults.extend(told);
                        }
                    }
                }
            }
            Err(error) => {
                documents.bad += 1;
                faults.push(error.to_string());
            }
        }
    }
    for fault in &faults {
        writeln!(session.io.stderr, "{fault}")?;
    }
    // A file of the web that is not there is no failure of Kuma's client.
    if documents.resources.is_empty() && documents.bad == 0 && !sources.is_empty() {
        return Err(Failure::other("no resource(s) passed to apply"));
    }
    Ok(documents)
}

/// A fault of a document, where it is found in the text.
struct Place<'a> {
    source: &'a Source,
    document: usize,
}

impl Place<'_> {
    /// `policy.yaml:6:5: spec.to[0]: reason`.
    fn tell(&self, field: &str, reason: &str) -> String {
        let text = String::from_utf8_lossy(&self.source.text);
        let position = document::locate(&text, self.document, field);
        let field = field.to_owned();
        document::Error { source: self.source.name.clone(), position, field, reason: reason.to_owned() }.to_string()
    }
}

fn resource(source: &Source, Document { index, value }: Document) -> Result<Resource, Vec<String>> {
    let place = Place { source, document: index };
    let in_kubernetes_form = kubernetes_form::is_one(&value);
    let value = if in_kubernetes_form {
        kubernetes_form::to_rest(&value).map_err(|error| {
            let error = error.to_string();
            let (field, reason) = error.split_once(": ").unwrap_or(("", &error));
            vec![place.tell(field, reason)]
        })?
    } else {
        value
    };
    let kind =
        kind(&value).map_err(|reason| vec![place.tell(if value["type"].is_null() { "" } else { "type" }, &reason)])?;
    intake::read_document(kind, value).map_err(|rejection| match rejection {
        Rejection::BadRequest(reason) => vec![place.tell("", &reason)],
        Rejection::Invalid { faults, .. } => faults
            .iter()
            .map(|fault| {
                let field =
                    if in_kubernetes_form { kubernetes_form::path(kind, &fault.field) } else { fault.field.clone() };
                place.tell(&field, &fault.reason)
            })
            .collect(),
    })
}

fn kind(document: &Value) -> Result<Kind, String> {
    let Some(members) = document.as_object() else {
        return Err("a resource is a map with at least `type` and `name`".to_owned());
    };
    let Some(word) = members.get("type").and_then(Value::as_str).filter(|word| !word.is_empty()) else {
        return Err("invalid resource type \"\": `type` names the kind, such as Mesh or MeshTimeout".to_owned());
    };
    word.parse().map_err(|_| {
        let names: Vec<String> = Kind::ALL.iter().map(|kind| kind.name().to_lowercase()).collect();
        let nearest = nearest(word, names.iter().map(String::as_str));
        let kind = nearest.and_then(|name| Kind::ALL.iter().find(|kind| kind.name().eq_ignore_ascii_case(name)));
        let hint = kind.map(|kind| format!("; did you mean {kind}?")).unwrap_or_default();
        format!("invalid resource type {word:?}{hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let source = Source { name: "a.yaml".into(), text: text.into() };
        let documents = document::read("a.yaml", &source.text, Limits::default()).unwrap();
        documents.into_iter().flat_map(|document| resource(&source, document).err().unwrap_or_default()).collect()
    }

    #[test]
    fn every_fault_has_its_place() {
        let said = faults("type: Mesh\nname: ok\n---\ntype: MeshTimeout\nname: a\nspec:\n  targetRef:\n    kind: 5\n");
        assert!(said[0].starts_with("a.yaml:8:11: spec.targetRef.kind: in body must be of type string"), "{said:?}");
        let said = faults("type: Meshh\nname: a\n---\nname: b\n");
        assert_eq!(said[0], "a.yaml:1:7: type: invalid resource type \"Meshh\"; did you mean Mesh?");
        assert!(said[1].starts_with("a.yaml:4:1: invalid resource type \"\""), "{said:?}");
    }

    #[test]
    fn the_form_of_kubernetes_is_the_same_resource_and_its_faults_have_their_places_too() {
        let text = "apiVersion: kuma.io/v1alpha1\nkind: Dataplane\nmetadata:\n  name: d\nspec:\n  networking:\n    address: ''\n";
        let said = faults(text);
        assert!(said.iter().any(|fault| fault.starts_with("a.yaml:7:14: spec.networking.address: ")), "{said:?}");
        assert_eq!(faults("apiVersion: kuma.io/v1alpha1\nkind: Mesh\nmetadata:\n  name: x\n"), [""; 0]);
    }
}
