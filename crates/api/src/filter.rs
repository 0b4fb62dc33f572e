//! Which resources of a list a client asked for (api-and-kumactl 1.9).

use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::gateway::GatewayType;
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, ExternalService};
use model::{Kind, Labels, Path, Resource, Violations};

use crate::problem::Problem;
use crate::query::Query;

/// Title of every refusal of a list.
pub const TITLE: &str = "Could not retrieve resources";

/// All conditions of one request; a resource passes when it meets each of them.
#[derive(Debug, Default)]
pub struct Filter {
    name: Option<String>,
    labels: Vec<(String, String)>,
    tags: Vec<(String, String)>,
    gateway: Option<Gateway>,
}

#[derive(Clone, Copy, Debug)]
enum Gateway {
    Any,
    None,
    OfType(GatewayType),
}

impl Filter {
    /// Reads the conditions that lists of a kind know; `template` is the route's, for the field of a fault.
    ///
    /// # Errors
    /// A filter that is not on labels, one with an operator, an unknown value of `gateway`.
    pub fn from_query(query: &Query, kind: Kind, template: &str) -> Result<Self, Problem> {
        let mut faults = Violations::default();
        let mut filter = Self { name: query.get("name").map(str::to_owned), ..Self::default() };
        for (key, value) in query.pairs().filter(|(key, _)| key.starts_with("filter[")) {
            match label_of(key) {
                Ok(label) => filter.labels.push((label.to_owned(), value.to_owned())),
                Err(reason) => faults.add(&Path::of(template).field(key), reason),
            }
        }
        if matches!(kind, Kind::Dataplane | Kind::ExternalService) {
            let tags = query.all("tag").filter_map(|tag| tag.split_once(':'));
            filter.tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        }
        if kind == Kind::Dataplane
            && let Some(asked) = query.get("gateway")
        {
            match Gateway::parse(asked) {
                Some(gateway) => filter.gateway = Some(gateway),
                None => {
                    let reason = format!("shoud use `true`, `false`, 'builtin' or 'delegated' instead of {asked}");
                    faults.add(&Path::of(template).field("gateway"), reason);
                }
            }
        }
        if faults.is_empty() { Ok(filter) } else { Err(Problem::invalid(TITLE, faults)) }
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.labels.is_empty() && self.tags.is_empty() && self.gateway.is_none()
    }

    /// Whether a resource meets every condition.
    pub fn passes(&self, resource: &Resource) -> bool {
        self.name.as_deref().is_none_or(|part| resource.meta.key.name.contains(part))
            && self.passes_labels(&resource.meta.labels)
            && self.passes_content(resource)
    }

    /// Whether labels meet the conditions on labels; on overviews the insight's must too.
    pub fn passes_labels(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    fn passes_content(&self, resource: &Resource) -> bool {
        if self.tags.is_empty() && self.gateway.is_none() {
            return true;
        }
        match resource.kind() {
            Kind::Dataplane => {
                resource.spec.message::<Dataplane>().is_ok_and(|dataplane| self.passes_dataplane(&dataplane))
            }
            Kind::ExternalService => resource.spec.message::<ExternalService>().is_ok_and(|service| {
                self.passes_tags(|key, part| service.tags.get(key).is_some_and(|v| v.contains(part)))
            }),
            _ => true,
        }
    }

    fn passes_dataplane(&self, dataplane: &Dataplane) -> bool {
        let Some(networking) = &dataplane.networking else { return false };
        let gateway = networking.gateway.as_ref();
        let tag_sets = || networking.inbound.iter().map(|inbound| &inbound.tags).chain(gateway.map(|g| &g.tags));
        let right_gateway = match self.gateway {
            None => true,
            Some(Gateway::Any) => gateway.is_some(),
            Some(Gateway::None) => gateway.is_none(),
            Some(Gateway::OfType(wanted)) => gateway.is_some_and(|g| g.r#type() == wanted),
        };
        right_gateway
            && self
                .passes_tags(|key, part| tag_sets().any(|tags| tags.get(key).is_some_and(|value| value.contains(part))))
    }

    fn passes_tags(&self, has: impl Fn(&str, &str) -> bool) -> bool {
        self.tags.iter().all(|(key, part)| has(key, part))
    }
}

impl Gateway {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "true" => Some(Self::Any),
            "false" => Some(Self::None),
            "builtin" => Some(Self::OfType(GatewayType::Builtin)),
            "delegated" => Some(Self::OfType(GatewayType::Delegated)),
            _ => None,
        }
    }
}

/// `kuma.io/zone` of `filter[labels.kuma.io/zone]`.
fn label_of(parameter: &str) -> Result<&str, &'static str> {
    let inside = parameter.strip_prefix("filter[").and_then(|rest| rest.split_once(']'));
    match inside.map(|(path, rest)| (path.strip_prefix("labels."), rest)) {
        Some((Some(label), "")) => Ok(label),
        Some((Some(_), _)) => Err("advanced filters are not supported"),
        _ => Err("filters are only supported on labels"),
    }
}

#[cfg(test)]
mod tests {
    use model::{Key, Payload};
    use prost::Message;

    use super::*;

    fn filter(query: &str) -> Filter {
        Filter::from_query(&Query::parse(Some(query)), Kind::Dataplane, "/meshes/{mesh}/dataplanes").unwrap()
    }

    fn refusal(query: &str) -> (String, String) {
        let query = Query::parse(Some(query));
        let problem = Filter::from_query(&query, Kind::Dataplane, "/meshes/{mesh}/dataplanes").unwrap_err();
        (problem.parameters[0].field.clone(), problem.parameters[0].reason.clone())
    }

    fn dataplane() -> Resource {
        let json = serde_json::json!({"networking": {"address": "10.0.0.1", "inbound": [
            {"port": 80, "tags": {"kuma.io/service": "backend", "version": "v1"}},
            {"port": 81, "tags": {"kuma.io/service": "admin"}}]}});
        let spec = (Kind::Dataplane.info().codec.from_json)(json).unwrap();
        assert!(Dataplane::decode(spec.as_ref()).is_ok());
        let labels = [("kuma.io/zone", "east")].into_iter().collect();
        Resource::new(Key::new(Kind::Dataplane, "default", "backend-1"), labels, Payload::from_bytes(spec))
    }

    #[test]
    fn conditions_are_joined_by_and() {
        let passing = [
            "",
            "name=end-1",
            "filter[labels.kuma.io/zone]=east",
            "tag=version:v",
            "gateway=false",
            "tag=kuma.io/service:backend&tag=kuma.io/service:admin",
            "tag=version",
            "foo=bar",
        ];
        for query in passing {
            assert!(filter(query).passes(&dataplane()), "{query}");
        }
        for query in
            ["name=web", "filter[labels.kuma.io/zone]=west", "tag=version:v2", "gateway=true", "gateway=builtin"]
        {
            assert!(!filter(query).passes(&dataplane()), "{query}");
        }
    }

    #[test]
    fn a_bad_filter_names_the_route_and_the_parameter() {
        let field = |suffix: &str| format!("/meshes/{{mesh}}/dataplanes.{suffix}");
        let only_labels = "filters are only supported on labels".to_owned();
        assert_eq!(refusal("filter[name]=x"), (field("filter[name]"), only_labels));
        let advanced = "advanced filters are not supported".to_owned();
        assert_eq!(refusal("filter[labels.a][eq]=x"), (field("filter[labels.a][eq]"), advanced));
        assert_eq!(refusal("gateway=maybe").0, field("gateway"));
    }
}
