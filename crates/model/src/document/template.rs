//! Documents with variables in them.

use serde_json::{Map, Value};

/// A text with `{{ key }}` replaced, as Mustache does it: dotted keys nest, two braces escape for HTML and three do not,
/// unknown keys become nothing (api-and-kumactl 4.6). `called` is the text's name in messages.
///
/// # Errors
/// The text is no template.
pub fn fill_in<'v>(
    called: &str,
    text: &[u8],
    variables: impl IntoIterator<Item = (&'v String, &'v String)>,
) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("{called}: {error}"))?;
    let fault = |error: mustache::Error| format!("{called}: {error}");
    let template = mustache::compile_str(text).map_err(fault)?;
    let mut values = Map::new();
    for (key, value) in variables {
        nest(&mut values, key, value);
    }
    let mut filled = Vec::new();
    template.render(&mut filled, &Value::Object(values)).map_err(fault)?;
    Ok(filled)
}

/// `a.b` is `b` inside of `a`.
fn nest(values: &mut Map<String, Value>, key: &str, value: &str) {
    match key.split_once('.') {
        None => {
            values.insert(key.to_owned(), value.into());
        }
        Some((first, rest)) => {
            let inner = values.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Value::Object(inner) = inner {
                nest(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn filled(text: &str, pairs: &[(&str, &str)]) -> String {
        let variables: BTreeMap<String, String> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        String::from_utf8(fill_in("a.yaml", text.as_bytes(), &variables).unwrap()).unwrap()
    }

    /// API 4.6: dotted keys nest, two braces escape, three do not, unknown keys are empty.
    #[test]
    fn variables_are_replaced_as_mustache_does() {
        assert_eq!(filled("a: {{ x }}/{{ y.z }}/{{y.w}}", &[("x", "1"), ("y.z", "2"), ("y.w", "3")]), "a: 1/2/3");
        assert_eq!(filled("{{ x }} {{{ x }}}", &[("x", "<a>&")]), "&lt;a&gt;&amp; <a>&");
        assert_eq!(filled("name: {{ other }}\n", &[("x", "1")]), "name: \n");
    }

    #[test]
    fn a_broken_template_is_told_with_its_name() {
        assert!(fill_in("a.yaml", b"a: {{ x", &BTreeMap::new()).unwrap_err().starts_with("a.yaml: "));
    }
}
