//! `/openapi.json`: the list of routes and the table of kinds as an OpenAPI 3.1 document.
//!
//! Nothing is written twice: paths and methods are those that the router matches, schemas are those that a PUT is
//! checked with, or the fields of the protobuf message.

use std::sync::LazyLock;

use http::Method;
use kds_proto::json::pool;
use model::Kind;
use model::kind::{Access, Scope};
use model::spec::Encoding;
use prost_reflect::{FieldDescriptor, Kind as FieldKind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::meta::VERSION;
use crate::route::{self, Operation, Route, TokenOf};

/// The document.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(build);
    &DOCUMENT
}

fn build() -> Value {
    let mut paths = Map::new();
    for route in route::all() {
        let path = route.template.replace("{*page}", "{page}");
        let operations =
            route.operation.methods().iter().map(|method| (method.as_str().to_lowercase(), operation(&route, method)));
        paths.insert(path, Value::Object(operations.collect()));
    }
    let shown = Kind::ALL.iter().copied().filter(|kind| kind.info().access != Access::Hidden);
    let mut schemas: Map<String, Value> = shown.map(|kind| (kind.name().to_owned(), resource(kind))).collect();
    schemas.insert("Error".into(), error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Control plane API",
            "version": VERSION,
            "description": "Compatible with the HTTP API of Kuma 2.13.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{}, {"token": []}],
    })
}

fn operation(route: &Route, method: &Method) -> Value {
    let (summary, schema) = told(route.operation, method);
    let failure = json!({"description": "What went wrong", "content": json_content(reference("Error"))});
    let mut operation = json!({
        "summary": summary,
        "parameters": parameters(route, method),
        "responses": {"default": failure},
    });
    let success =
        |description: &str, schema: Value| json!({"description": description, "content": json_content(schema)});
    match (route.operation, method.as_str()) {
        (Operation::One(kind), "PUT") => {
            let warnings =
                json!({"type": "object", "properties": {"warnings": {"type": "array", "items": {"type": "string"}}}});
            operation["requestBody"] = json!({"required": true, "content": json_content(reference(kind.name()))});
            operation["responses"]["200"] = success("Updated", warnings.clone());
            operation["responses"]["201"] = success("Created", warnings);
        }
        (Operation::IssueToken(of), _) => {
            operation["requestBody"] = json!({"required": true, "content": json_content(token_request(of))});
            let token = json!({"text/plain": {"schema": {"type": "string"}}});
            operation["responses"]["200"] = json!({"description": "The token, a JWT", "content": token});
        }
        _ => operation["responses"]["200"] = success("Done", schema),
    }
    operation
}

/// What an operation does, and the schema of its answer.
fn told(operation: Operation, method: &Method) -> (String, Value) {
    let object = json!({"type": "object"});
    match operation {
        Operation::Index => ("Who this control plane is".into(), object),
        Operation::Config => ("Its effective configuration, secrets masked".into(), object),
        Operation::Policies => ("The kinds that are policies".into(), object),
        Operation::Resources => ("All kinds".into(), object),
        Operation::WhoAmI => ("Who the caller is".into(), object),
        Operation::GlobalInsight => ("Roll-up of everything".into(), object),
        Operation::GlobalInsights => ("Counts of the global-scoped kinds".into(), object),
        Operation::ByIdentifier => ("One resource by its identifier".into(), object),
        Operation::IssueToken(_) => ("Issue a token".into(), object),
        Operation::Gui => ("The page that says that there is no GUI".into(), object),
        Operation::OpenApi => ("This document".into(), object),
        Operation::List(kind) => (format!("List {}", kind.info().plural_display_name()), list(reference(kind.name()))),
        Operation::ListOverviews(kind) => {
            (format!("List {} with how they fare", kind.info().plural_display_name()), list(object))
        }
        Operation::Overview(kind) => (format!("One {} with how it fares", kind.info().display_name()), object),
        Operation::View(view) => (view.about().into(), object),
        Operation::AskProxy(kind) => {
            let what = kind.info().display_name();
            (format!("Ask a {what}'s proxy: `xds` for its configuration, `stats` or `clusters`"), object)
        }
        Operation::One(kind) => {
            let what = match method.as_str() {
                "PUT" => "Create or replace",
                "DELETE" => "Delete",
                _ => "Read",
            };
            (format!("{what} one {}", kind.info().display_name()), reference(kind.name()))
        }
    }
}

fn parameters(route: &Route, method: &Method) -> Value {
    let names = route.template.split(['{', '}']).skip(1).step_by(2).map(|name| name.trim_start_matches('*'));
    let mut parameters: Vec<Value> =
        names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect();
    let mut query = |name: &str, schema: Value| parameters.push(json!({"name": name, "in": "query", "schema": schema}));
    let text = || json!({"type": "string"});
    if let Operation::List(kind) | Operation::ListOverviews(kind) = route.operation {
        query(
            "size",
            json!({"type": "integer", "maximum": crate::query::MAX_PAGE_SIZE, "default": crate::query::DEFAULT_PAGE_SIZE}),
        );
        query("offset", json!({"type": "integer", "minimum": 0, "default": 0}));
        query("name", text());
        query("filter[labels.<key>]", text());
        if matches!(kind, Kind::Dataplane | Kind::ExternalService) {
            query("tag", json!({"type": "array", "items": {"type": "string"}}));
        }
        if kind == Kind::Dataplane {
            query("gateway", json!({"enum": ["true", "false", "builtin", "delegated"]}));
        }
        if kind == Kind::ServiceInsight {
            query("type", text());
        }
    }
    let formatted = matches!(route.operation, Operation::One(_) | Operation::ByIdentifier) && *method == Method::GET;
    if formatted {
        query("format", json!({"enum": ["universal", "kubernetes", "k8s"]}));
        query("namespace", text());
    }
    Value::Array(parameters)
}

fn resource(kind: Kind) -> Value {
    let info = kind.info();
    let text = || json!({"type": "string"});
    let time = || json!({"type": "string", "format": "date-time", "readOnly": true});
    let mut properties = Map::new();
    properties.insert("type".into(), json!({"const": info.name}));
    if info.scope == Scope::Mesh {
        properties.insert("mesh".into(), text());
    }
    properties.insert("name".into(), text());
    properties.insert("creationTime".into(), time());
    properties.insert("modificationTime".into(), time());
    properties.insert("labels".into(), json!({"type": "object", "additionalProperties": {"type": "string"}}));
    if info.short_name.is_some() {
        properties.insert("kri".into(), json!({"type": "string", "readOnly": true}));
    }
    match (info.codec.encoding, info.codec.schema) {
        (Encoding::Proto { package, message }, _) => {
            if let Some(message) = pool().get_message_by_name(&format!("{package}.{message}")) {
                properties.extend(fields(&message, 0));
            }
        }
        (Encoding::Json, schema) => {
            properties.insert("spec".into(), schema.map_or(json!({}), |schema| schema().to_value()));
        }
    }
    if info.status.is_some() {
        properties.insert("status".into(), json!({"type": "object", "readOnly": true}));
    }
    json!({"type": "object", "required": ["type", "name"], "properties": properties})
}

/// Messages are at most this deep; what is deeper is any object.
const DEEPEST: usize = 12;

fn fields(message: &MessageDescriptor, depth: usize) -> Map<String, Value> {
    message.fields().map(|field| (field.json_name().to_owned(), field_schema(&field, depth))).collect()
}

fn field_schema(field: &FieldDescriptor, depth: usize) -> Value {
    if field.is_map()
        && let FieldKind::Message(entry) = field.kind()
    {
        return json!({"type": "object", "additionalProperties": one_schema(&entry.map_entry_value_field(), depth)});
    }
    if field.is_list() { json!({"type": "array", "items": one_schema(field, depth)}) } else { one_schema(field, depth) }
}

fn one_schema(field: &FieldDescriptor, depth: usize) -> Value {
    match field.kind() {
        FieldKind::Bool => json!({"type": "boolean"}),
        FieldKind::Double | FieldKind::Float => json!({"type": "number"}),
        FieldKind::Int32 | FieldKind::Sint32 | FieldKind::Sfixed32 | FieldKind::Uint32 | FieldKind::Fixed32 => {
            json!({"type": "integer"})
        }
        FieldKind::Int64 | FieldKind::Sint64 | FieldKind::Sfixed64 | FieldKind::Uint64 | FieldKind::Fixed64 => {
            json!({"type": "string", "pattern": "^-?[0-9]+$"})
        }
        FieldKind::String => json!({"type": "string"}),
        FieldKind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        FieldKind::Enum(of) => json!({"enum": of.values().map(|value| value.name().to_owned()).collect::<Vec<_>>()}),
        FieldKind::Message(of) => message_schema(&of, depth),
    }
}

fn message_schema(message: &MessageDescriptor, depth: usize) -> Value {
    match message.full_name() {
        "google.protobuf.Duration" => json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?s$"}),
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.BoolValue" => json!({"type": "boolean"}),
        "google.protobuf.DoubleValue" => json!({"type": "number"}),
        "google.protobuf.UInt32Value" => json!({"type": "integer"}),
        "google.protobuf.StringValue" => json!({"type": "string"}),
        "google.protobuf.BytesValue" => json!({"type": "string", "contentEncoding": "base64"}),
        name if name.starts_with("google.protobuf.") || depth == DEEPEST => json!({"type": "object"}),
        _ => json!({"type": "object", "properties": fields(message, depth + 1)}),
    }
}

fn token_request(of: TokenOf) -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let (required, properties) = match of {
        TokenOf::Dataplane => (
            json!(["mesh"]),
            json!({"name": text, "mesh": text, "type": text, "workload": text, "validFor": text,
                "tags": {"type": "object", "additionalProperties": texts}}),
        ),
        TokenOf::Zone => (json!(["scope"]), json!({"zone": text, "scope": texts, "validFor": text})),
        TokenOf::User => (json!(["name", "validFor"]), json!({"name": text, "groups": texts, "validFor": text})),
    };
    json!({"type": "object", "required": required, "properties": properties})
}

fn list(item: Value) -> Value {
    json!({"type": "object", "properties": {
        "total": {"type": "integer"},
        "items": {"type": "array", "items": item},
        "next": {"type": ["string", "null"]},
    }})
}

fn error() -> Value {
    let faults = |text: &str| json!({"type": "array", "items": {"type": "object", "properties": {"field": {"type": "string"}, text: {"type": "string"}}}});
    json!({"type": "object", "properties": {
        "type": {"const": "/std-errors"},
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "detail": {"type": "string"},
        "invalid_parameters": faults("reason"),
        "details": {"type": "string"},
        "causes": faults("message"),
    }})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn json_content(schema: Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_document() {
        let document = document();
        for route in route::all() {
            let path = &document["paths"][route.template.replace("{*page}", "{page}")];
            for method in route.operation.methods() {
                assert!(path[method.as_str().to_lowercase()].is_object(), "{method} {}", route.template);
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(object) => {
                    if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
                    }
                    object.values().for_each(|inner| walk(inner, document));
                }
                Value::Array(items) => items.iter().for_each(|inner| walk(inner, document)),
                _ => {}
            }
        }
        walk(document(), document());
    }

    #[test]
    fn a_message_is_described_by_its_fields() {
        let dataplane = &document()["components"]["schemas"]["Dataplane"]["properties"];
        assert_eq!(dataplane["networking"]["properties"]["inbound"]["items"]["properties"]["port"]["type"], "integer");
        let zone = &document()["components"]["schemas"]["Zone"]["properties"];
        assert_eq!(zone["enabled"]["type"], "boolean");
        assert!(zone.get("mesh").is_none());
    }
}
