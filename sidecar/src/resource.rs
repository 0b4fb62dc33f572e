//! The resource that a proxy brings along: a template in YAML or JSON, filled with variables.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use model::document::{self, Limits};
use runtime::Fatal;

use crate::cli::ProxyType;

/// Largest document, in bytes.
const LARGEST: u64 = 1 << 20;

/// A resource, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its mesh; empty for the proxies at the edge of a zone.
    pub mesh: String,
    /// Its name.
    pub name: String,
    /// JSON.
    pub document: String,
}

/// A text from a file, or from standard input for `-`, up to a bound.
///
/// # Errors
/// It cannot be read, is too long, or no text.
pub fn read(path: &Path, what: &str) -> Result<String, Fatal> {
    let cannot = |cause: io::Error| Fatal::new(format!("cannot read the {what} {path:?}")).caused_by(cause);
    let from: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(cannot)?) };
    let mut text = String::new();
    from.take(LARGEST + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > LARGEST {
        return Err(Fatal::new(format!("the {what} {path:?} is longer than 1 MiB")));
    }
    Ok(text)
}

impl Resource {
    /// Fills a template and reads what it has become.
    ///
    /// # Errors
    /// It is no template, no document, or one of another kind of proxy.
    pub fn parse(template: &str, variables: &[(String, String)], r#type: ProxyType) -> Result<Self, Fatal> {
        let kind = r#type.words().1;
        let unusable = |why: String| {
            let remedy = format!("it is YAML or JSON with type: {kind}, a name, and networking");
            Fatal::new("cannot use the resource of the proxy").caused_by(why).remedy(remedy)
        };
        let variables = variables.iter().map(|(name, value)| (name, value));
        let text = document::fill_in("resource", unescaped(template).as_bytes(), variables).map_err(unusable)?;
        let documents = document::read("resource", &text, Limits::default());
        let document = match documents.map_err(|error| unusable(error.to_string()))?.as_mut_slice() {
            [one] => std::mem::take(&mut one.value),
            others => return Err(unusable(format!("it holds {} documents", others.len()))),
        };
        let word = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
        let (found, mesh, name) = (word("type"), word("mesh"), word("name"));
        if found != kind {
            return Err(unusable(format!("its type is {found:?}, and --proxy-type needs {kind}")));
        }
        if name.is_empty() {
            return Err(unusable("it has no name".to_owned()));
        }
        if mesh.is_empty() && r#type == ProxyType::Dataplane {
            return Err(unusable("it has no mesh".to_owned()));
        }
        let mesh = if r#type == ProxyType::Dataplane { mesh } else { String::new() };
        Ok(Self { mesh, name, document: document.to_string() })
    }
}

/// The template with variables that are not escaped: they are put into YAML, not into a page.
fn unescaped(template: &str) -> String {
    let mut parts = template.split("{{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_variable = part.trim_start().starts_with(|first: char| first.is_alphanumeric() || first == '_');
        text.push_str(if is_variable { "{{&" } else { "{{" });
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const TEMPLATE: &str = "type: Dataplane\nmesh: default\nname: {{ name }}\nnetworking:\n  address: {{ address }}\n  \
                            inbound:\n  - port: {{port}}\n    tags: {kuma.io/service: web}\n";

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn variables_are_filled_in_and_not_escaped() {
        let given = variables(&[("name", "web-1"), ("address", "\"10.0.0.1\""), ("port", "80")]);
        let resource = Resource::parse(TEMPLATE, &given, ProxyType::Dataplane).unwrap();
        assert_eq!((resource.mesh.as_str(), resource.name.as_str()), ("default", "web-1"));
        let document: Value = serde_json::from_str(&resource.document).unwrap();
        assert_eq!(document["networking"]["address"], "10.0.0.1");
        assert_eq!(document["networking"]["inbound"][0]["port"], 80);
    }

    /// Braces of YAML are no tags.
    #[test]
    fn flow_style_stays_as_it_is() {
        let text =
            "{type: Dataplane, mesh: default, name: {{{name}}}, networking: {inbound: [{tags: {a: {{ tag }}}}]}}";
        let resource =
            Resource::parse(text, &variables(&[("name", "b"), ("tag", "c&d")]), ProxyType::Dataplane).unwrap();
        let document: Value = serde_json::from_str(&resource.document).unwrap();
        assert_eq!(document["networking"]["inbound"][0]["tags"]["a"], "c&d");
        assert_eq!(resource.name, "b");
    }

    #[test]
    fn another_kind_and_a_missing_name_are_refused() {
        let error = |text: &str, r#type| Resource::parse(text, &[], r#type).unwrap_err().to_string();
        let told = error("type: ZoneIngress\nname: a", ProxyType::Egress);
        assert!(told.contains("its type is \"ZoneIngress\", and --proxy-type needs ZoneEgress"), "{told}");
        assert!(error("type: ZoneIngress", ProxyType::Ingress).contains("no name"));
        assert!(error("type: Dataplane\nname: a", ProxyType::Dataplane).contains("no mesh"));
        assert!(error("a: [", ProxyType::Dataplane).starts_with("cannot use the resource of the proxy"));
        assert!(error("{{#a}}", ProxyType::Dataplane).starts_with("cannot use the resource of the proxy"));
    }

    #[test]
    fn the_bound_of_a_file_holds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'#'; (1 << 20) + 1]).unwrap();
        let error = read(file.path(), "resource").unwrap_err().to_string();
        assert!(error.ends_with("is longer than 1 MiB"), "{error}");
    }
}
