//! Where in a text a field stands, for messages about documents that were read well but say something wrong.
//!
//! Readers of YAML tell places only with their errors. So the text is walked again to the field, and there the walk
//! fails on purpose.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Position;

/// Place of a field (`spec.to[0].targetRef.kind`, `tags["kuma.io/service"]`) of the document with this index, or of
/// the innermost thing around it that is there. `text` was read before without an error.
pub fn locate(text: &str, document: usize, path: &str) -> Option<Position> {
    let steps = steps(path);
    let document = serde_yaml::Deserializer::from_str(text).nth(document)?;
    let error = Seeker(&steps).deserialize(document).err()?;
    let place = error.location()?;
    Some(Position { line: place.line(), column: place.column() })
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some((key, after)) = rest.strip_prefix("[\"").and_then(|inner| inner.split_once("\"]")) {
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        } else if let Some((index, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            let Ok(index) = index.parse() else { return steps };
            steps.push(Step::Index(index));
            rest = after;
        } else {
            let member = rest.strip_prefix('.').unwrap_or(rest);
            let end = member.find(['.', '[']).unwrap_or(member.len());
            steps.push(Step::Key(member[..end].to_owned()));
            rest = &member[end..];
            if end == 0 {
                return steps;
            }
        }
    }
    steps
}

/// Walks to a value and fails there.
#[derive(Clone, Copy)]
struct Seeker<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Seeker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seeker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the place")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.0.split_first() else { return Err(here()) };
        while let Some(key) = entries.next_key::<String>()? {
            if key == *wanted {
                return entries.next_value_seed(Seeker(rest));
            }
            entries.next_value::<IgnoredAny>()?;
        }
        Err(here())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.0.split_first() else { return Err(here()) };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Err(here());
            }
        }
        items.next_element_seed(Seeker(rest))?;
        Err(here())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Err(here())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Err(here())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Err(here())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Err(here())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(here())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Err(here())
    }
}

fn here<E: Error>() -> E {
    E::custom("here")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
type: MeshTimeout
---
type: MeshTimeout
spec:
  to:
    - targetRef:
        kind: Mesh
      default: {connectionTimeout: 5s}
  tags:
    kuma.io/service: web
";

    #[test]
    fn a_field_is_found_by_its_path() {
        let at = |path: &str| locate(TEXT, 1, path).map(|Position { line, column }| (line, column));
        assert_eq!(at(""), Some((3, 1)));
        assert_eq!(at("spec.to[0].targetRef.kind"), Some((7, 15)));
        assert_eq!(at("spec.to[0].default.connectionTimeout"), Some((8, 36)));
        assert_eq!(at("spec.tags[\"kuma.io/service\"]"), Some((10, 22)));
        assert_eq!(locate(TEXT, 2, ""), None);
    }

    #[test]
    fn of_a_missing_field_the_parent_is_found() {
        let at = |path: &str| locate(TEXT, 1, path).map(|place| place.line);
        assert_eq!(at("spec.to[0].targetRef.name"), Some(7));
        assert_eq!(at("spec.from"), Some(5));
        assert_eq!(at("spec.to[7].x"), Some(6));
        assert_eq!(at("spec..x"), Some(5));
    }

    #[test]
    fn paths_are_cut_into_steps() {
        let key = |key: &str| Step::Key(key.to_owned());
        assert_eq!(steps("a.b[3][\"c.d\"].e"), [key("a"), key("b"), Step::Index(3), key("c.d"), key("e")]);
        assert_eq!(steps("a["), [key("a"), key("")]);
    }
}
