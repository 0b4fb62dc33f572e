//! Whether an answer is the recorded one, apart from what every run does differently.

use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

use crate::call::Call;
use crate::world::Answer;

/// What differs, in a few words; `None` when nothing does.
pub fn difference(call: &Call, answer: &Answer) -> Option<String> {
    if call.status == 0 {
        return (answer.status == 200).then(|| "the real one gave no answer, ours 200".to_owned());
    }
    if call.status != answer.status {
        return Some(format!("status {} instead of {}: {}", answer.status, call.status, shortened(&answer.text)));
    }
    for (name, value) in &call.headers {
        let ours = answer.headers.get(name).and_then(|value| value.to_str().ok());
        if name != "date" && ours != value.as_str() {
            return Some(format!("header {name}: {ours:?} instead of {value}"));
        }
    }
    if call.cut.is_some() {
        return None;
    }
    if let Some(expected) = &call.response {
        let Ok(ours) = serde_json::from_str::<Value>(&answer.text) else {
            return Some(format!("no JSON: {}", shortened(&answer.text)));
        };
        let mut found = Vec::new();
        walk("", &in_order(ours.clone()), &in_order(expected.clone()), &mut found);
        if found.is_empty() && answer.text != printed(&ours) {
            found.push("not printed with one blank per level and a line end".to_owned());
        }
        found.truncate(4);
        return (!found.is_empty()).then(|| found.join("; "));
    }
    let expected = call.text.as_deref().unwrap_or_default();
    (normal(&answer.text) != normal(expected))
        .then(|| format!("text {} instead of {}", shortened(&answer.text), shortened(expected)))
}

/// Some things come in another order in every run of the real system: faults that a schema finds.
fn in_order(mut answer: Value) -> Value {
    for (list, text) in [("invalid_parameters", "reason"), ("causes", "message")] {
        let Some(faults) = answer.get_mut(list).and_then(Value::as_array_mut) else { continue };
        if faults.iter().all(|fault| fault[text].as_str().is_some_and(|text| text.contains("in body"))) {
            faults.sort_by_key(ToString::to_string);
        }
    }
    // So do rules of different kinds that are about the same.
    if let Some(items) = answer.get_mut("items").and_then(Value::as_array_mut)
        && items.iter().all(|item| item["policyType"].is_string())
    {
        items.sort_by_key(|item| (item["name"].to_string(), item["type"].to_string(), item["policyType"].to_string()));
    }
    answer
}

fn printed(value: &Value) -> String {
    use serde::Serialize;
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).unwrap();
    text.push(b'\n');
    String::from_utf8(text).unwrap()
}

fn walk(at: &str, ours: &Value, expected: &Value, found: &mut Vec<String>) {
    match (ours, expected) {
        (Value::Object(ours), Value::Object(expected)) => {
            for (key, value) in expected {
                match ours.get(key) {
                    Some(of_ours) => walk(&format!("{at}.{key}"), of_ours, value, found),
                    None => found.push(format!("{at}.{key} is missing")),
                }
            }
            let extra = ours.keys().filter(|key| !expected.contains_key(*key));
            found.extend(extra.map(|key| format!("{at}.{key} is too much")));
        }
        (Value::Array(ours), Value::Array(expected)) if ours.len() == expected.len() => {
            for (position, (a, b)) in ours.iter().zip(expected).enumerate() {
                walk(&format!("{at}[{position}]"), a, b, found);
            }
        }
        (Value::String(ours), Value::String(expected)) if normal(ours) == normal(expected) => {}
        _ if ours == expected => {}
        _ => found.push(format!(
            "{at}: {} instead of {}",
            shortened(&ours.to_string()),
            shortened(&expected.to_string())
        )),
    }
}

/// Times, tokens and identifiers are another's in every run.
fn normal(text: &str) -> String {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let rules = [
            (r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z", "<time>"),
            (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "<jwt>"),
            (r"http://127\.0\.0\.1:\d+", "<origin>"),
        ];
        rules.map(|(pattern, name)| (Regex::new(pattern).unwrap(), name)).into()
    });
    RULES.iter().fold(text.to_owned(), |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
}

fn shortened(text: &str) -> String {
    let mut text: String = text.chars().take(160).collect();
    text = text.replace('\n', " ");
    text
}
