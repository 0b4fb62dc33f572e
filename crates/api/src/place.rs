//! Where the API stands on the web: the path below which it is, and the pages of other origins that may call it
//! (api-and-kumactl 1.2, 5.2).

use config::Effective;
use http::HeaderValue;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use regex::Regex;
use runtime::Fatal;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

/// Where the API stands.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Path before every route, without a slash at its end; empty for none (`apiServer.basePath`).
    base: String,
    /// Patterns of origins (`apiServer.corsAllowedDomains`).
    origins: Vec<Regex>,
}

impl Place {
    /// The place that a configuration asks for.
    ///
    /// # Errors
    /// The base path is no path, or a domain is no pattern.
    pub fn configured(effective: &Effective) -> Result<Self, Fatal> {
        let base = effective.text("apiServer.basePath").trim_matches('/');
        if base.contains(['{', '}', '?', '#', '*', ' ']) {
            let what = format!("apiServer.basePath is {base:?}, which is no path");
            return Err(Fatal::new(what).remedy("set it to a path such as /mesh"));
        }
        let base = if base.is_empty() { String::new() } else { format!("/{base}") };
        let pattern = |domain: &String| {
            Regex::new(&format!("(?i)^(?:{domain})$")).map_err(|error| {
                Fatal::new(format!("apiServer.corsAllowedDomains has {domain:?}, which is no pattern"))
                    .caused_by(error)
                    .remedy("write an origin such as https://gui.example.com, or a regular expression of some")
            })
        };
        let origins = effective.texts("apiServer.corsAllowedDomains").iter().map(pattern).collect::<Result<_, _>>()?;
        Ok(Self { base, origins })
    }

    /// The paths of a route.
    pub(crate) fn paths(&self, template: &str) -> Vec<String> {
        let path = format!("{}{}", self.base, template.trim_end_matches('/'));
        match template {
            _ if path.is_empty() => vec!["/".to_owned()],
            // A trailing slash is the same route.
            template if !template.ends_with("{*page}") => vec![format!("{path}/"), path],
            _ => vec![path],
        }
    }

    /// A path below the base.
    pub(crate) fn below(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// What answers browsers; nothing when no other origin may call.
    pub(crate) fn cors(&self) -> Option<CorsLayer> {
        if self.origins.is_empty() {
            return None;
        }
        let origins = self.origins.clone();
        let allowed = move |origin: &HeaderValue, _: &http::request::Parts| {
            origin.to_str().is_ok_and(|origin| origins.iter().any(|pattern| pattern.is_match(origin)))
        };
        Some(
            CorsLayer::new()
                .allow_origin(AllowOrigin::predicate(allowed))
                .allow_methods(AllowMethods::mirror_request())
                .allow_headers(AllowHeaders::mirror_request())
                .expose_headers([ACCESS_CONTROL_ALLOW_ORIGIN]),
        )
    }
}

#[cfg(test)]
mod tests {
    use config::{Loader, Role};

    use super::*;

    fn place(sets: &[&str]) -> Result<Place, Fatal> {
        let loader = sets.iter().fold(Loader::new(Role::Global), |loader, set| loader.set(set));
        Place::configured(&loader.load().unwrap().effective)
    }

    #[test]
    fn every_route_is_below_the_base() {
        let nowhere = place(&[]).unwrap();
        assert_eq!(nowhere.paths("/"), ["/"]);
        assert_eq!(nowhere.paths("/meshes/{mesh}"), ["/meshes/{mesh}/", "/meshes/{mesh}"]);
        assert_eq!(nowhere.paths("/gui/{*page}"), ["/gui/{*page}"]);
        for base in ["apiServer.basePath=/a/b", "apiServer.basePath=a/b/"] {
            let below = place(&[base]).unwrap();
            assert_eq!(below.paths("/"), ["/a/b/", "/a/b"]);
            assert_eq!(below.paths("/meshes"), ["/a/b/meshes/", "/a/b/meshes"]);
            assert_eq!(below.paths("/gui/{*page}"), ["/a/b/gui/{*page}"]);
        }
        assert!(place(&["apiServer.basePath=/{mesh}"]).is_err());
    }

    #[test]
    fn a_domain_is_a_whole_origin_or_a_pattern_of_one() {
        let refused = place(&["apiServer.corsAllowedDomains=http://("]).unwrap_err().to_string();
        assert!(refused.starts_with("apiServer.corsAllowedDomains has \"http://(\", which is no pattern"), "{refused}");
        let origins =
            place(&[r"apiServer.corsAllowedDomains=https://gui.example.com,https://.*\.example\.org"]).unwrap().origins;
        let allows = |origin: &str| origins.iter().any(|pattern| pattern.is_match(origin));
        assert!(
            allows("https://gui.example.com") && allows("https://GUI.example.com") && allows("https://a.example.org")
        );
        assert!(!allows("https://gui.example.com.evil.net") && !allows("http://gui.example.com") && !allows("null"));
    }
}
