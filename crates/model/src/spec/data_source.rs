//! Where bytes come from that are not written into a document: certificates and keys.

use kds_proto::kuma::system::v1alpha1::DataSource as Older;
use kds_proto::kuma::system::v1alpha1::data_source::Type;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::check::MUST_BE_DEFINED;
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Bytes from a Secret or from the document itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataSource {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The bytes, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "byte"))]
    pub inline: Option<String>,
    /// The bytes, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline_string: Option<String>,
}

/// Bytes that the control plane reads itself; the member named by the type is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecureDataSource {
    /// Where they are.
    pub r#type: SecureDataSourceType,
    /// A file beside the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    /// A variable in the environment of the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_var: Option<EnvVar>,
    /// The document itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_inline: Option<Inline>,
    /// A Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

words!(
    /// Where bytes are.
    open SecureDataSourceType {
        File = "File",
        Secret = "Secret",
        EnvVar = "EnvVar",
        InsecureInline = "InsecureInline",
    }
);

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// Absolute path.
    pub path: String,
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
}

/// Text in the document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inline {
    /// The text.
    pub value: String,
}

/// A Secret of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// `Secret`.
    pub kind: RefKind,
    /// Its name.
    pub name: String,
}

words!(
    /// What a [`SecretRef`] refers to.
    open RefKind { Secret = "Secret" }
);

impl SecureDataSource {
    /// Adds what is wrong with the source at this path.
    pub fn check(&self, at: &Path, found: &mut Violations) {
        match &self.r#type {
            SecureDataSourceType::EnvVar => {
                let name = self.env_var.as_ref().map(|variable| ("name", variable.name.as_str()));
                text(&at.field("envVar"), name, found);
            }
            SecureDataSourceType::InsecureInline => {
                let value = self.insecure_inline.as_ref().map(|inline| ("value", inline.value.as_str()));
                text(&at.field("insecureInline"), value, found);
            }
            SecureDataSourceType::File => {
                let path = self.file.as_ref().map(|file| file.path.as_str());
                text(&at.field("file"), path.map(|path| ("path", path)), found);
                if let Some(reason) = path.and_then(unsafe_path) {
                    found.add(&at.field("file.path"), reason);
                }
            }
            SecureDataSourceType::Secret => secret(&at.field("secretRef"), self.secret_ref.as_ref(), found),
            SecureDataSourceType::Other(word) => {
                found.add(&at.field("type"), format!("{word} must be one of: EnvVar, InsecureInline, File, Secret"));
            }
        }
    }
}

/// A member that must be there, and a text in it that must not be empty.
fn text(at: &Path, inner: Option<(&str, &str)>, found: &mut Violations) {
    match inner {
        None => found.add(at, MUST_BE_DEFINED),
        Some((name, "")) => found.add(&at.field(name), MUST_BE_DEFINED),
        Some(_) => {}
    }
}

fn secret(at: &Path, secret: Option<&SecretRef>, found: &mut Violations) {
    let Some(SecretRef { kind, name }) = secret else { return found.add(at, MUST_BE_DEFINED) };
    if *kind != RefKind::Secret {
        found.add(&at.field("kind"), format!("{kind} must be one of: Secret"));
    }
    if name.is_empty() {
        found.add(&at.field("name"), MUST_BE_DEFINED);
    }
}

/// Why a control plane would not read a file at this path; the empty path has been reported.
fn unsafe_path(path: &str) -> Option<String> {
    if path.contains("..") {
        return Some(format!("file path contains directory traversal sequence: {path}"));
    }
    (!path.is_empty() && !path.starts_with('/')).then(|| format!("file path must be absolute: {path}"))
}

/// Adds a fault when a source is there without saying where.
pub fn check_older(at: &Path, source: Option<&Older>, found: &mut Violations) {
    let Some(source) = source else { return };
    let says_where = match &source.r#type {
        Some(Type::Secret(name)) => !name.is_empty(),
        Some(Type::File(path)) => !path.is_empty(),
        Some(Type::Inline(bytes)) => !bytes.is_empty(),
        Some(Type::InlineString(text)) => !text.is_empty(),
        None => false,
    };
    if !says_where {
        found.add(at, "data source cannot be empty");
    }
}

/// Adds what is wrong with a source that must be chosen. (An empty `inlineString` is let through.)
pub fn check_chosen(at: &Path, source: &Older, found: &mut Violations) {
    let empty = match &source.r#type {
        None => {
            found.add(at, "data source has to be chosen. Available sources: secret, file, inline");
            return;
        }
        Some(Type::Secret(name)) => name.is_empty().then_some("secret"),
        Some(Type::File(path)) => path.is_empty().then_some("file"),
        Some(Type::Inline(bytes)) => bytes.is_empty().then_some("inline"),
        Some(Type::InlineString(_)) => None,
    };
    if let Some(member) = empty {
        found.add(&at.field(member), "cannot be empty");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_that_the_type_names_must_be_filled() {
        for (source, expected) in [
            (r#"{"type":"File","file":{"path":"/etc/ca.pem"}}"#, ""),
            (r#"{"type":"File"}"#, "ca.file: must be defined"),
            (r#"{"type":"File","file":{"path":""}}"#, "ca.file.path: must be defined"),
            (
                r#"{"type":"File","file":{"path":"/a/../b"}}"#,
                "ca.file.path: file path contains directory traversal sequence: /a/../b",
            ),
            (r#"{"type":"File","file":{"path":"a"}}"#, "ca.file.path: file path must be absolute: a"),
            (r#"{"type":"EnvVar","file":{"path":"a"}}"#, "ca.envVar: must be defined"),
            (r#"{"type":"EnvVar","envVar":{"name":""}}"#, "ca.envVar.name: must be defined"),
            (r#"{"type":"InsecureInline"}"#, "ca.insecureInline: must be defined"),
            (r#"{"type":"InsecureInline","insecureInline":{"value":""}}"#, "ca.insecureInline.value: must be defined"),
            (r#"{"type":"Secret"}"#, "ca.secretRef: must be defined"),
            (
                r#"{"type":"Secret","secretRef":{"kind":"Config","name":""}}"#,
                "ca.secretRef.kind: Config must be one of: Secret; ca.secretRef.name: must be defined",
            ),
            (r#"{"type":"X"}"#, "ca.type: X must be one of: EnvVar, InsecureInline, File, Secret"),
        ] {
            let source: SecureDataSource = serde_json::from_str(source).unwrap();
            let mut found = Violations::default();
            source.check(&Path::of("ca"), &mut found);
            assert_eq!(found.to_string(), expected);
        }
    }
}
