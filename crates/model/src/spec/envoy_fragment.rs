//! Pieces of Envoy configuration that users write into policies, as YAML or JSON.

use prost::{Message, Name};
use serde_json::Value;

use kds_proto::json;

use crate::spec::proto_json;

/// Longest piece that is read, in bytes.
const LONGEST: usize = 1 << 20;

/// Checks that a text is a message in YAML or JSON. Members that the message does not have are ignored, as the real
/// control plane does; so is what stands in an `Any` whose type we do not know.
///
/// # Errors
/// What is wrong with the text, in words like those of the real control plane.
pub fn check<M: Message + Name + Default>(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    let value: Value = serde_yaml::from_str(text)
        .or_else(|_| serde_json::from_str(text).map_err(|fault| in_gos_words(text, &fault)))?;
    proto_json::from_value::<M>(&without_unknown_types(value)).map(drop).map_err(|fault| fault.to_string())
}

fn in_gos_words(text: &str, fault: &serde_json::Error) -> String {
    match text.trim_start().chars().next() {
        None => "EOF".to_owned(),
        Some(_) if fault.is_eof() => "unexpected EOF".to_owned(),
        Some(first) if !matches!(first, '{' | '[' | '"') => {
            format!("invalid character {first:?} looking for beginning of value")
        }
        Some(_) => fault.to_string(),
    }
}

/// Leaves out every `Any` whose type our descriptors lack: it cannot be checked here.
fn without_unknown_types(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, inner)| !is_of_unknown_type(inner))
            .map(|(key, inner)| (key, without_unknown_types(inner)))
            .collect(),
        Value::Array(items) => {
            items.into_iter().filter(|item| !is_of_unknown_type(item)).map(without_unknown_types).collect()
        }
        leaf => leaf,
    }
}

fn is_of_unknown_type(value: &Value) -> bool {
    let url = value.get("@type").and_then(Value::as_str);
    let name = url.map(|url| url.rsplit('/').next().unwrap_or_default());
    name.is_some_and(|name| json::pool().get_message_by_name(name).is_none())
}

#[cfg(test)]
mod tests {
    use kds_proto::envoy::config::cluster::v3::Cluster;
    use kds_proto::envoy::config::listener::v3::Filter;

    use super::*;

    #[test]
    fn yaml_and_json_are_read_and_unknown_members_ignored() {
        assert_eq!(check::<Cluster>("name: a\nconnectTimeout: 5s\ntype: STATIC\n"), Ok(()));
        assert_eq!(check::<Cluster>(r#"{"name": "a", "connect_timeout": "5s"}"#), Ok(()));
        assert_eq!(check::<Cluster>("foo: bar"), Ok(()));
    }

    #[test]
    fn the_content_of_a_known_type_is_checked_and_that_of_others_is_not() {
        let filter = |url: &str, member: &str| {
            check::<Filter>(&format!("name: f\ntypedConfig:\n  '@type': type.googleapis.com/{url}\n  {member}\n"))
        };
        let tcp_proxy = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        assert_eq!(filter(tcp_proxy, "statPrefix: a"), Ok(()));
        assert!(filter(tcp_proxy, "statPrefix: [1]").is_err());
        assert_eq!(filter("envoy.extensions.filters.network.redis_proxy.v3.RedisProxy", "statPrefix: [1]"), Ok(()));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(check::<Cluster>("{"), Err("unexpected EOF".to_owned()));
        assert!(check::<Cluster>("type: [STATIC]").is_err());
        assert!(check::<Cluster>("type: NOPE").unwrap_err().starts_with("unknown value"));
        assert!(check::<Cluster>("connectTimeout: soon").unwrap_err().starts_with("bad Duration"));
        assert_eq!(
            check::<Cluster>("just text"),
            Err("json: cannot unmarshal string into Go value of type map[string]json.RawMessage".to_owned())
        );
        assert!(check::<Cluster>(&" ".repeat(LONGEST + 1)).unwrap_err().starts_with("longer than"));
        let bomb: String = (1..40).map(|n| format!("a{n}: &a{n} [*a{m},*a{m},*a{m},*a{m}]\n", m = n - 1)).collect();
        assert!(check::<Cluster>(&format!("a0: &a0 [x]\n{bomb}")).is_err());
    }
}
