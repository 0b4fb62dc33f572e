//! Writes that depend on what is stored: `ETag`, `If-Match` and `If-None-Match` (RFC 9110, 13.1).
//!
//! Beyond Kuma. A condition that does not hold is answered as a lost race is: 409 with Kuma's text, not 412.

use axum::response::Response;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};
use model::{Key, Resource};

use crate::problem::Problem;

/// What must be stored for a write to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Precondition {
    /// Tags of `If-Match`, one of which the stored resource must have; `*` is any.
    one_of: Option<Vec<String>>,
    /// `If-None-Match: *`: nothing.
    nothing: bool,
}

impl Precondition {
    /// Reads it from the headers; what is no tag is a tag that nothing has.
    pub fn of(headers: &HeaderMap) -> Self {
        let values = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
        let tags = |value: &str| value.split(',').map(|tag| tag.trim().to_owned()).collect::<Vec<_>>();
        let one_of = headers.contains_key(IF_MATCH).then(|| values(IF_MATCH).flat_map(tags).collect());
        Self { one_of, nothing: values(IF_NONE_MATCH).any(|value| value.trim() == "*") }
    }

    /// Whether it holds for what is stored.
    ///
    /// # Errors
    /// 409.
    pub fn check(&self, key: &Key, stored: Option<&Resource>) -> Result<(), Problem> {
        if self.nothing && stored.is_some() {
            return Err(already_exists(key));
        }
        let Some(tags) = &self.one_of else { return Ok(()) };
        let stored = stored.map(tag);
        if stored.is_some_and(|stored| tags.iter().any(|tag| *tag == "*" || *tag == stored)) {
            return Ok(());
        }
        Err(conflict(key))
    }

    /// Whether a write is tied to the version that it was checked against.
    pub fn is_of_version(&self) -> bool {
        self.one_of.is_some()
    }
}

/// 409: somebody else was faster.
pub(crate) fn conflict(key: &Key) -> Problem {
    named("conflict", key)
}

/// 409: it is there.
pub(crate) fn already_exists(key: &Key) -> Problem {
    named("already exists", key)
}

fn named(what: &str, Key { kind, mesh, name }: &Key) -> Problem {
    Problem::conflict(format!("resource {what}: type=\"{kind}\" name=\"{name}\" mesh=\"{mesh}\""))
}

/// Adds the resource's tag, its version in quotes.
pub(crate) fn tagged(mut response: Response, resource: &Resource) -> Response {
    if let Ok(value) = HeaderValue::from_str(&tag(resource)) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

fn tag(resource: &Resource) -> String {
    format!("\"{}\"", resource.meta.version)
}

#[cfg(test)]
mod tests {
    use model::{Kind, Labels, Payload};

    use super::*;

    fn holds(headers: &[(http::HeaderName, &str)], stored: Option<u64>) -> Result<(), String> {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        let key = Key::new(Kind::MeshTimeout, "default", "t");
        let resource = stored.map(|version| {
            let mut resource = Resource::new(key.clone(), Labels::default(), Payload::default());
            resource.meta.version = version;
            resource
        });
        Precondition::of(&headers).check(&key, resource.as_ref()).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_tag_must_be_the_stored_version() {
        let conflict = Err(r#"resource conflict: type="MeshTimeout" name="t" mesh="default""#.to_owned());
        assert_eq!(holds(&[], None), Ok(()));
        for good in [r#""7""#, "*", r#""1", "7""#] {
            assert_eq!(holds(&[(IF_MATCH, good)], Some(7)), Ok(()), "{good}");
        }
        for bad in [r#""8""#, r#"W/"7""#, "7", ""] {
            assert_eq!(holds(&[(IF_MATCH, bad)], Some(7)), conflict, "{bad}");
        }
        assert_eq!(holds(&[(IF_MATCH, "*")], None), conflict);
        let exists = r#"resource already exists: type="MeshTimeout" name="t" mesh="default""#;
        assert_eq!(holds(&[(IF_NONE_MATCH, "*")], Some(7)), Err(exists.to_owned()));
        assert_eq!(holds(&[(IF_NONE_MATCH, "*")], None), Ok(()));
    }
}
