//! The one list of routes: what the router matches, what a 405 allows and what the OpenAPI document tells.
//!
//! Generic routes come from the table of kinds (api-and-kumactl 2.1, 2.2), the rest is 2.3 and 2.5.

use http::Method;
use model::Kind;
use model::kind::{Access, Scope};

use crate::inspect::View;

/// Whose token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOf {
    /// A data plane proxy, or an older zone proxy.
    Dataplane,
    /// A zone's proxies, or its control plane.
    Zone,
    /// A person or a script.
    User,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who this control plane is.
    Index,
    /// Its effective configuration.
    Config,
    /// The kinds that are policies.
    Policies,
    /// All kinds.
    Resources,
    /// Who the caller is.
    WhoAmI,
    /// Roll-up of everything.
    GlobalInsight,
    /// Counts of the global-scoped kinds.
    GlobalInsights,
    /// One resource by its identifier.
    ByIdentifier,
    /// Issues a token.
    IssueToken(TokenOf),
    /// The page that says that there is no GUI.
    Gui,
    /// This list as a document.
    OpenApi,
    /// Many resources of a kind.
    List(Kind),
    /// One resource: read, written, deleted.
    One(Kind),
    /// Many resources with what is known of how they fare.
    ListOverviews(Kind),
    /// One resource with what is known of how it fares.
    Overview(Kind),
    /// What policies, proxies and services mean to each other.
    View(View),
    /// A question to a proxy itself.
    AskProxy(Kind),
}

/// A path and what it does.
#[derive(Clone, Debug)]
pub struct Route {
    /// Path with names in braces; `{mesh}` and `{name}` are what they say.
    pub template: String,
    /// What it does.
    pub operation: Operation,
}

impl Operation {
    /// Methods that the route answers, in the order of the `Allow` header.
    pub fn methods(self) -> &'static [Method] {
        const GET: &[Method] = &[Method::GET];
        const POST: &[Method] = &[Method::POST];
        const ALL: &[Method] = &[Method::PUT, Method::DELETE, Method::GET];
        match self {
            Self::One(_) => ALL,
            Self::IssueToken(_) => POST,
            _ => GET,
        }
    }

    /// Whether anybody may ask, without showing who they are.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Index | Self::Gui)
    }
}

/// Every route.
pub fn all() -> Vec<Route> {
    let mut routes: Vec<Route> = [
        ("/", Operation::Index),
        ("/config", Operation::Config),
        ("/policies", Operation::Policies),
        ("/_resources", Operation::Resources),
        ("/who-am-i", Operation::WhoAmI),
        ("/global-insight", Operation::GlobalInsight),
        ("/global-insights", Operation::GlobalInsights),
        ("/_kri/{kri}", Operation::ByIdentifier),
        ("/tokens/dataplane", Operation::IssueToken(TokenOf::Dataplane)),
        ("/tokens/zone", Operation::IssueToken(TokenOf::Zone)),
        ("/tokens/user", Operation::IssueToken(TokenOf::User)),
        ("/gui", Operation::Gui),
        ("/gui/{*page}", Operation::Gui),
        ("/openapi.json", Operation::OpenApi),
        ("/meshes/{mesh}/{collection}/{name}/_hostnames", Operation::View(View::Hostnames)),
    ]
    .into_iter()
    .map(|(template, operation)| Route { template: template.to_owned(), operation })
    .collect();
    for kind in Kind::ALL.iter().copied().filter(|kind| kind.info().access != Access::Hidden) {
        of_kind(kind, &mut routes);
    }
    routes
}

fn of_kind(kind: Kind, routes: &mut Vec<Route>) {
    let info = kind.info();
    let mut add = |template: String, operation| routes.push(Route { template, operation });
    for path in info.path_aliases.iter().chain([&info.path]) {
        let (collection, name) = match (info.scope, kind) {
            (Scope::Mesh, _) => (format!("/meshes/{{mesh}}/{path}"), "name"),
            (Scope::Global, Kind::Mesh) => (format!("/{path}"), "mesh"),
            (Scope::Global, _) => (format!("/{path}"), "name"),
        };
        add(collection.clone(), Operation::List(kind));
        add(format!("{collection}/{{{name}}}"), Operation::One(kind));
        if info.scope == Scope::Mesh {
            add(format!("/{path}"), Operation::List(kind));
        }
        if info.insight.is_some() {
            add(format!("{collection}/_overview"), Operation::ListOverviews(kind));
            add(format!("{collection}/{{{name}}}/_overview"), Operation::Overview(kind));
            if info.scope == Scope::Mesh {
                add(format!("/{path}/_overview"), Operation::ListOverviews(kind));
            }
        }
    }
    for (path, view) in View::of(kind) {
        add(format!("/meshes/{{mesh}}/{}/{{name}}/{path}", info.path), Operation::View(view));
    }
    if matches!(kind, Kind::Dataplane | Kind::ZoneIngress | Kind::ZoneEgress) {
        let mesh = if info.scope == Scope::Mesh { "/meshes/{mesh}" } else { "" };
        add(format!("{mesh}/{}/{{name}}/{{operation}}", info.path), Operation::AskProxy(kind));
    }
    if let Some((_, older)) = info.insight {
        let collection =
            if info.scope == Scope::Mesh { format!("/meshes/{{mesh}}/{older}") } else { format!("/{older}") };
        add(collection.clone(), Operation::ListOverviews(kind));
        add(format!("{collection}/{{name}}"), Operation::Overview(kind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(template: &str) -> Option<Operation> {
        all().into_iter().find(|route| route.template == template).map(|route| route.operation)
    }

    #[test]
    fn every_kind_has_its_generic_routes() {
        assert_eq!(operation("/meshes/{mesh}/meshtimeouts/{name}"), Some(Operation::One(Kind::MeshTimeout)));
        assert_eq!(operation("/meshtimeouts"), Some(Operation::List(Kind::MeshTimeout)));
        assert_eq!(operation("/meshes/{mesh}"), Some(Operation::One(Kind::Mesh)));
        assert_eq!(operation("/zone-ingresses/_overview"), Some(Operation::ListOverviews(Kind::ZoneIngress)));
        assert_eq!(operation("/zones+insights/{name}"), Some(Operation::Overview(Kind::Zone)));
        assert_eq!(operation("/configs"), None);
    }

    #[test]
    fn no_template_is_listed_twice() {
        let mut templates: Vec<String> = all().into_iter().map(|route| route.template).collect();
        let count = templates.len();
        templates.sort();
        templates.dedup();
        assert_eq!(templates.len(), count);
    }
}
