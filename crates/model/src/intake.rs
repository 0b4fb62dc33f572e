//! From the body of a PUT to a resource that may be stored: the stages of api-and-kumactl 1.4, in their order.
//!
//! 1. [`read`]: parse, defaults and schema, the kind's own rules, then names, labels and the comparison with the URL.
//!    A stage that finds a fault hides the stages after it.
//! 2. The caller decides whether the user may write, and looks the resource up.
//! 3. [`Draft::create`] or [`Draft::replace`]: labels that the control plane adds, labels that must not change, the
//!    kind's rules once more, now with the name, and what only a write can break.
//!
//! The caller has made sure that the mesh exists and that the kind is writable here ([`Mode::may_write`]).

mod go_json;

use serde_json::Value;

use crate::document::{self, BodyError, Limits};
use crate::kind::{Kind, Scope};
use crate::label_rules::{self, OriginLabel};
use crate::labels::Labels;
use crate::mode::Mode;
use crate::name;
use crate::resource::{Key, Meta, Payload, Resource};
use crate::rest_form;
use crate::schema::Schema;
use crate::spec::SpecError;
use crate::spec::proto_json::quote;
use crate::violation::{Path, Violations};

/// A PUT, without its transport.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// Part of the control plane that received it.
    pub mode: &'a Mode,
    /// Whether labels have to suit that part.
    pub origin_label: OriginLabel,
    /// Kind of the collection in the URL.
    pub kind: Kind,
    /// Mesh in the URL; of no account for global kinds.
    pub mesh: &'a str,
    /// Name in the URL.
    pub name: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// A resource that is good by itself.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    mode: &'a Mode,
    /// With the labels of its author.
    resource: Resource,
}

/// A resource that may be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// With all its labels; times and version are the store's.
    pub resource: Resource,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// Why a resource is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The request makes no sense; the text says why.
    BadRequest(String),
    /// The resource breaks rules.
    Invalid {
        /// When that was found.
        stage: Stage,
        /// Which, in order.
        faults: Violations,
    },
}

/// When a fault was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In the document, before anything was looked up.
    Document,
    /// While a new resource was made.
    Creation,
    /// While a resource was replaced.
    Update,
    /// When the labels of a stored resource were compared.
    Labels,
}

impl Rejection {
    /// Headline for the author (api-and-kumactl 1.8).
    pub fn title(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "Bad Request",
            Self::Invalid { stage: Stage::Document, .. } => "Could not process a resource",
            Self::Invalid { stage: Stage::Creation, .. } => "Failed to create a resource",
            Self::Invalid { stage: Stage::Update, .. } => "Failed to update a resource",
            Self::Invalid { stage: Stage::Labels, .. } => "Could not update a resource",
        }
    }

    /// One sentence for the author.
    pub fn detail(&self) -> &str {
        match self {
            Self::BadRequest(detail) => detail,
            Self::Invalid { .. } => "Resource is not valid",
        }
    }

    /// The broken rules, if it is that.
    pub fn faults(&self) -> Option<&Violations> {
        match self {
            Self::BadRequest(_) => None,
            Self::Invalid { faults, .. } => Some(faults),
        }
    }

    /// `invalid Mesh object: "..."`.
    fn unreadable(kind: Kind, reason: &str) -> Self {
        Self::BadRequest(format!("invalid {kind} object: {}", quote(reason)))
    }

    fn unless_good(stage: Stage, faults: Violations) -> Result<(), Self> {
        faults.into_result().map_err(|faults| Self::Invalid { stage, faults })
    }
}

/// The resource in a body, good by itself: stages 2 to 4.
///
/// # Errors
/// The first stage that found faults.
pub fn read(put: Put<'_>) -> Result<Draft<'_>, Rejection> {
    let Put { mode, origin_label, kind, .. } = put;
    let body = document::read_json_body(put.body, Limits::default()).map_err(|error| match error {
        BodyError::Syntax(error) => Rejection::unreadable(kind, &go_json::syntax_fault(put.body, &error)),
        BodyError::Refused(reason) => Rejection::unreadable(kind, &reason),
    })?;
    let (head, spec) = decode(kind, body)?;
    let key = Key { kind, mesh: head.mesh.as_str().into(), name: head.name.as_str().into() };
    let meta = Meta::new(key, head.labels);
    Rejection::unless_good(Stage::Document, head_faults(&put, &head.kind, &meta, mode, origin_label))?;
    Ok(Draft { mode, resource: Resource::new(Key::new(kind, put.mesh, put.name), meta.labels, spec) })
}

/// The resource of a document at hand, such as a user's file: its shape, the rules of its kind, its names. Which labels it
/// may have depends on the control plane that it is for.
///
/// # Errors
/// The first stage that found faults.
pub fn read_document(kind: Kind, document: Value) -> Result<Resource, Rejection> {
    let (head, spec) = decode(kind, document)?;
    let mut faults = Violations::default();
    if let Some(reason) = name::check(&head.name) {
        faults.add(&Path::of("name"), reason);
    }
    if let Some(reason) = name::check_mesh(&head.mesh).filter(|_| kind.info().scope == Scope::Mesh) {
        faults.add(&Path::of("mesh"), reason);
    }
    Rejection::unless_good(Stage::Document, faults)?;
    Ok(Resource::new(Key::new(kind, &head.mesh, &head.name), head.labels, spec))
}

impl Draft<'_> {
    /// The resource with its author's labels.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// A resource that does not exist yet.
    ///
    /// # Errors
    /// Faults that only a new resource can have, or that depend on its name.
    pub fn create(self) -> Result<Accepted, Rejection> {
        if let Some(fault) = label_rules::workload_fault(&self.resource.meta, self.mode) {
            return Err(Rejection::BadRequest(format!("bad request: {fault}")));
        }
        let labels = label_rules::computed(&self.resource, self.mode);
        self.finish(labels, None)
    }

    /// A resource in place of a stored one, whose status it keeps.
    ///
    /// # Errors
    /// Labels would change that must not, or the kind forbids the change.
    pub fn replace(self, stored: &Resource) -> Result<Accepted, Rejection> {
        let labels = label_rules::computed(&self.resource, self.mode);
        let mut faults = Violations::default();
        label_rules::check_unchanged(&label_rules::computed(stored, self.mode), &labels, &mut faults);
        Rejection::unless_good(Stage::Labels, faults)?;
        self.finish(labels, Some(stored))
    }

    fn finish(mut self, labels: Labels, stored: Option<&Resource>) -> Result<Accepted, Rejection> {
        let stage = if stored.is_some() { Stage::Update } else { Stage::Creation };
        self.resource.meta.labels = labels;
        if let Some(stored) = stored {
            self.resource.status.clone_from(&stored.status);
        }
        let Resource { meta, spec, .. } = &self.resource;
        let kind = meta.key.kind;
        let codec = &kind.info().codec;
        let unreadable = |error: SpecError| Rejection::unreadable(kind, &error.to_string());
        let mut faults = Violations::default();
        (codec.validate)(spec.bytes(), meta, &mut faults).map_err(unreadable)?;
        Rejection::unless_good(stage, faults)?;
        let mut faults = Violations::default();
        let replaced = stored.map(|stored| stored.spec.bytes().as_ref());
        (codec.validate_write)(spec.bytes(), replaced, meta, &mut faults).map_err(unreadable)?;
        Rejection::unless_good(stage, faults)?;
        let mut warnings: Vec<String> = name::warning(kind, meta.display_name()).into_iter().collect();
        warnings.extend((codec.warnings)(spec.bytes(), meta).map_err(unreadable)?);
        self.resource.spec = Payload::from_bytes((codec.complete)(spec.bytes().clone()).map_err(unreadable)?);
        Ok(Accepted { resource: self.resource, warnings })
    }
}

/// What a document says of itself.
#[derive(Debug, Default)]
struct Head {
    kind: String,
    mesh: String,
    name: String,
    labels: Labels,
}

/// The document by schema and in the types of its kind, checked by the kind's rules, which know no name yet.
fn decode(kind: Kind, mut body: Value) -> Result<(Head, Payload), Rejection> {
    let unreadable = |reason: &str| Rejection::unreadable(kind, reason);
    let schema = Schema::of(kind);
    let expected = if schema.is_some() { "map[string]interface {}" } else { "v1alpha1.ResourceMeta" };
    if !body.is_object() && !body.is_null() {
        return Err(unreadable(&go_json::type_fault(&body, expected)));
    }
    if let Some(schema) = schema {
        let mut faults = Violations::default();
        if body.is_null() {
            body = Value::Object(serde_json::Map::new());
        }
        schema.fill_defaults(&mut body);
        schema.check(&body, &mut faults);
        Rejection::unless_good(Stage::Document, faults)?;
    }
    let head = head(&body).map_err(|reason| unreadable(&reason))?;
    let codec = &kind.info().codec;
    let content = rest_form::content(kind, body);
    let spec = (codec.from_json)(content).map_err(|error| unreadable(&error.to_string()))?;
    let nameless = Meta::new(Key { kind, mesh: "".into(), name: "".into() }, Labels::default());
    let mut faults = Violations::default();
    (codec.validate)(&spec, &nameless, &mut faults).map_err(|error| unreadable(&error.to_string()))?;
    Rejection::unless_good(Stage::Document, faults)?;
    Ok((head, Payload::from_bytes(spec)))
}

/// The members beside the content, with Go's words for those of a wrong type.
fn head(body: &Value) -> Result<Head, String> {
    let member = |name: &str| body.get(name).filter(|value| !value.is_null());
    let text = |name: &str| match member(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(go_json::member_fault(other, name, "string")),
    };
    for time in ["creationTime", "modificationTime"] {
        if let Some(value) = member(time) {
            go_json::check_time(value)?;
        }
    }
    let labels = match member("labels") {
        None => Labels::default(),
        Some(Value::Object(labels)) => {
            let entries = labels.iter().map(|(key, value)| match value {
                Value::String(value) => Ok((key.as_str(), value.as_str())),
                Value::Null => Ok((key.as_str(), "")),
                other => Err(go_json::member_fault(other, "labels", "string")),
            });
            entries.collect::<Result<_, _>>()?
        }
        Some(other) => return Err(go_json::member_fault(other, "labels", "map[string]string")),
    };
    Ok(Head { kind: text("type")?, mesh: text("mesh")?, name: text("name")?, labels })
}

/// Faults of what surrounds the content, all of them.
fn head_faults(put: &Put<'_>, kind: &str, meta: &Meta, mode: &Mode, origin_label: OriginLabel) -> Violations {
    let mut faults = Violations::default();
    let mut add = |field: &str, reason: &str| faults.add(&Path::of(field), reason);
    let in_mesh = put.kind.info().scope == Scope::Mesh;
    if *meta.key.name != *put.name {
        add("name", "name from the URL has to be the same as in body");
    }
    let zone = mode.zone().filter(|zone| zone.federated);
    if let Some(reason) = zone.and_then(|zone| name::check_on_global(&zone.name, put.name)) {
        add("name", reason);
    }
    if kind != put.kind.name() {
        add("type", "type from the URL has to be the same as in body");
    }
    if in_mesh && *meta.key.mesh != *put.mesh {
        add("mesh", "mesh from the URL has to be the same as in body");
    }
    label_rules::check(meta, mode, origin_label, &mut faults);
    if let Some(reason) = name::check(&meta.key.name) {
        faults.add(&Path::of("name"), reason);
    }
    if let Some(reason) = name::check_mesh(&meta.key.mesh).filter(|_| in_mesh) {
        faults.add(&Path::of("mesh"), reason);
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put<'a>(mode: &'a Mode, kind: Kind, body: &'a str) -> Put<'a> {
        Put { mode, origin_label: OriginLabel::Required, kind, mesh: "default", name: "a", body: body.as_bytes() }
    }

    fn refusal(kind: Kind, body: &str) -> (String, Vec<String>) {
        let rejection = read(put(&Mode::Global, kind, body)).unwrap_err();
        let faults = rejection.faults().into_iter().flat_map(Violations::iter);
        let faults = faults.map(|fault| format!("{}: {}", fault.field, fault.reason)).collect();
        (rejection.detail().to_owned(), faults)
    }

    /// API-18: what unmodified clients send in vain is taken.
    #[test]
    fn a_new_resource_gets_labels_and_an_old_one_keeps_its_status() {
        let zone = Mode::universal_zone("east", true);
        let body = json!({
            "type": "MeshExternalService", "name": "a", "kri": "x", "creationTime": "0001-01-01T00:00:00Z",
            "modificationTime": "0001-01-01T00:00:00Z", "labels": {"kuma.io/origin": "zone"}, "status": {},
            "spec": {"match": {"type": "HostnameGenerator", "port": 80, "protocol": "tcp"}, "unknown": 1,
                "endpoints": [{"address": "example.com", "port": 80}]},
        });
        let body = body.to_string();
        let accepted = read(put(&zone, Kind::MeshExternalService, &body)).unwrap().create().unwrap();
        let labels: Vec<_> = accepted.resource.meta.labels.iter().collect();
        let wanted = [
            ("kuma.io/env", "universal"),
            ("kuma.io/mesh", "default"),
            ("kuma.io/origin", "zone"),
            ("kuma.io/zone", "east"),
        ];
        assert_eq!(labels, wanted);
        assert_eq!(accepted.resource.status.as_ref().unwrap().bytes().as_ref(), br#"{"vip":{}}"#);

        let mut stored = accepted.resource;
        stored.status = Some(Payload::from_bytes(r#"{"vip":{"ip":"242.0.0.1"}}"#));
        let replaced = read(put(&zone, Kind::MeshExternalService, &body)).unwrap().replace(&stored).unwrap();
        assert_eq!(replaced.resource, stored);
    }

    #[test]
    fn a_body_that_is_no_object_is_told_as_go_tells_it() {
        let detail = |kind, body| refusal(kind, body).0;
        assert_eq!(detail(Kind::MeshTimeout, ""), r#"invalid MeshTimeout object: "unexpected end of JSON input""#);
        assert_eq!(
            detail(Kind::MeshTimeout, "[]"),
            r#"invalid MeshTimeout object: "json: cannot unmarshal array into Go value of type map[string]interface {}""#
        );
        assert_eq!(
            detail(Kind::Zone, "3"),
            r#"invalid Zone object: "json: cannot unmarshal number into Go value of type v1alpha1.ResourceMeta""#
        );
        assert_eq!(
            detail(Kind::Dataplane, "{,}"),
            r#"invalid Dataplane object: "invalid character ',' looking for beginning of object key string""#
        );
        assert_eq!(
            detail(Kind::Mesh, r#"{"type": 5}"#),
            r#"invalid Mesh object: "json: cannot unmarshal number into Go struct field ResourceMeta.type of type string""#
        );
        assert_eq!(
            detail(Kind::Mesh, r#"{"labels": {"a": 1}}"#),
            r#"invalid Mesh object: "json: cannot unmarshal number into Go struct field ResourceMeta.labels of type string""#
        );
        assert_eq!(
            detail(Kind::Mesh, r#"{"mtls": {"a": 1, "a": 2}}"#),
            r#"invalid Mesh object: "mtls: key \"a\" is given twice""#
        );
    }

    /// api-and-kumactl 3.1: what a backend leaves open is stored written out.
    #[test]
    fn settings_left_open_are_stored_written_out() {
        let body = r#"{"type": "Mesh", "name": "a", "metrics": {"backends": [{"name": "p", "type": "prometheus"}]}}"#;
        let accepted = read(put(&Mode::Global, Kind::Mesh, body)).unwrap().create().unwrap();
        let shown = rest_form::print(&accepted.resource).unwrap();
        assert_eq!(shown["metrics"]["backends"][0]["conf"]["port"], 5670);
    }

    /// api-and-kumactl 1.4: the stages do not mix.
    #[test]
    fn an_invalid_spec_hides_a_bad_name() {
        let (_, faults) = refusal(Kind::MeshTimeout, r#"{"type": "MeshTimeout", "name": "BAD", "spec": 1}"#);
        assert_eq!(faults, [r#": spec in body must be of type object: "number""#]);
    }

    #[test]
    fn everything_around_the_content_is_compared_and_checked() {
        let (detail, faults) = refusal(
            Kind::Dataplane,
            r#"{"type": "Mesh", "labels": {"_": "x"},
            "networking": {"address": "10.0.0.1", "inbound": [{"port": 1, "tags": {"kuma.io/service": "a"}}]}}"#,
        );
        assert_eq!(detail, "Resource is not valid");
        assert_eq!(
            faults[..3],
            [
                "name: name from the URL has to be the same as in body",
                "type: type from the URL has to be the same as in body",
                "mesh: mesh from the URL has to be the same as in body",
            ]
        );
        assert!(faults[3].starts_with("labels[\"_\"]: name part must consist of"), "{}", faults[3]);
        assert_eq!(faults[4..], ["name: cannot be empty", "mesh: cannot be empty"]);
    }

    #[test]
    fn a_zone_leaves_room_for_its_name() {
        let name = "n".repeat(249);
        let zone = Mode::universal_zone("east", true);
        let body = json!({"type": "Secret", "mesh": "default", "name": name, "data": ""}).to_string();
        let put = Put { name: &name, ..put(&zone, Kind::Secret, &body) };
        let rejection = read(put).unwrap_err();
        assert_eq!(rejection.faults().unwrap().to_string(), "name: the length of the name must be shorter");
    }
}
