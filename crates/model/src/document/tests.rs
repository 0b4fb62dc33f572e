use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

fn values(text: &str) -> Vec<Value> {
    let documents = read("a.yaml", text.as_bytes(), Limits::default()).unwrap_or_else(|error| panic!("{error}"));
    documents.into_iter().map(|document| document.value).collect()
}

fn error(text: impl AsRef<[u8]>) -> String {
    read("a.yaml", text.as_ref(), Limits::default()).unwrap_err().to_string()
}

#[test]
fn yaml_and_json_mean_the_same() {
    let wanted = [json!({"type": "Mesh", "on": ["no", 1, 0.5, true, null]})];
    assert_eq!(values("type: Mesh\non: [no, 1, 0.5, true, ~]"), wanted);
    assert_eq!(values(r#"{"type": "Mesh", "on": ["no", 1, 0.5, true, null]}"#), wanted);
    assert_eq!(values("{type: Mesh, on: [no, 1, 0.5, true, null]}"), wanted);
}

#[test]
fn a_text_may_hold_several_documents_and_empty_ones() {
    let documents = read("a.yaml", b"---\na: 1\n---\n# nothing\n---\nb: 2\n", Limits::default()).unwrap();
    let found: Vec<_> = documents.into_iter().map(|document| (document.index, document.value)).collect();
    assert_eq!(found, [(0, json!({"a": 1})), (2, json!({"b": 2}))]);
    assert_eq!(values("{\"a\": 1}\n{\"b\": 2}"), [json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(values(""), [Value::Null; 0]);
    assert_eq!(values("\u{feff}a: 1"), [json!({"a": 1})]);
}

#[test]
fn anchors_and_merges_are_written_out() {
    let text = "base: &base {a: 1, b: 2}\nuse:\n  <<: *base\n  b: 3\nlist: [*base]";
    let wanted = json!({"base": {"a": 1, "b": 2}, "use": {"b": 3, "a": 1}, "list": [{"a": 1, "b": 2}]});
    assert_eq!(values(text), [wanted]);
}

#[test]
fn a_mistake_is_told_with_its_place_and_field() {
    let table: &[(&[u8], &str)] = &[
        (b"a: 1\nb: {c: 1,\n  c: 2}\n", "a.yaml:3:3: b: key \"c\" is given twice"),
        (b"a: 1\na: 2\n", "a.yaml:2:1: key \"a\" is given twice"),
        (b"spec:\n  to:\n    - x: 1\n      x: 1\n", "a.yaml:4:7: spec.to[0]: key \"x\" is given twice"),
        (b"{\"a\": {\"b\": 1, \"b\": 2}}", "a.yaml:1:18: a: key \"b\" is given twice"),
        (b"tags: {\"kuma.io/x\": {y: 1, y: 1}}", "a.yaml:1:28: tags[\"kuma.io/x\"]: key \"y\" is given twice"),
        (b"1: a\n1: b\n", "a.yaml:2:1: key \"1\" is given twice"),
        (b"a: b\n\xff\xfe: c\n", "a.yaml:2:1: byte 0xff is no UTF-8: save the file in that encoding"),
        (b"a: \"b\0\"", "a.yaml:1:6: a NUL byte is not allowed here: is this a text file?"),
        (b"a: .inf", "a.yaml:1:4: a: has to be a finite number"),
        (b"a: !thing b", "a.yaml:1:4: a: has a tag that means nothing here"),
        (b"{\"a\": ]}", "a.yaml:1:7: expected value"),
        (b"{\"a\": 1", "a.yaml:1:7: EOF while parsing an object"),
        (b"a: b: c", "a.yaml:1:5: mapping values are not allowed in this context"),
        (b"a: *b", "a.yaml:1:4: unknown anchor"),
        (b"<<: 3", "a.yaml:1:1: \"<<\" takes a map, or a list of maps"),
        (b"a: [", "a.yaml:2:1: did not find expected node content"),
    ];
    let read = |text: &[u8]| read("a.yaml", text, Limits::default());
    let found: Vec<String> =
        table.iter().map(|(text, _)| read(text).map_or_else(|e| e.to_string(), |d| format!("{d:?}"))).collect();
    let wanted: Vec<&str> = table.iter().map(|(_, wanted)| *wanted).collect();
    assert_eq!(found, wanted);
}

/// Reads something hostile; the answer has to be one line, and come soon.
fn refused_soon(what: &str, text: impl AsRef<[u8]>) -> String {
    let start = Instant::now();
    let error = error(text);
    assert!(start.elapsed() < Duration::from_secs(10), "{what} took {:?}", start.elapsed());
    assert!(error.len() < 500 && !error.contains('\n'), "{what}: {error}");
    error
}

#[test]
fn a_hostile_text_is_refused_soon() {
    let long = refused_soon("50 MB", vec![b'a'; 50 << 20]);
    assert_eq!(long, "a.yaml: is 52428800 bytes long, and 10 MiB is the most that is read");
    for deep in ["[".repeat(100_000), "{\"a\":".repeat(100_000), format!("a: {}", "[".repeat(100_000))] {
        assert!(refused_soon("nesting", deep).contains("nested too deeply"));
    }
    let half = "[".repeat(900);
    refused_soon("some nesting", &half);
    let lists = "- ".repeat(100_000);
    refused_soon("nesting by dashes", &lists);
    let indented: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    refused_soon("nesting by blanks", indented);
    let many = format!("[{}]", "1,".repeat(4_000_000));
    assert!(refused_soon("many values", many).contains("more content than is read at once"));
}

#[test]
fn an_alias_bomb_is_refused_soon() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    refused_soon("aliases of aliases", bomb);
    let text = format!("a: &a {}\nb: [{}]", "x".repeat(1 << 20), vec!["*a"; 1000].join(", "));
    assert!(refused_soon("aliases of a long text", text).contains("more content than is read at once"));
    refused_soon("an alias of itself", "a: &a [*a]");
}

#[test]
fn long_names_are_read_and_shortened_in_messages() {
    let name = "n".repeat(10_000);
    assert_eq!(values(&format!("name: {name}")), [json!({"name": name})]);
    let twice = refused_soon("a long key twice", format!("{{{name:?}: 1, {name:?}: 2}}"));
    assert!(twice.contains("…\" is given twice"), "{twice}");
    refused_soon("a fault below a long key", format!("{{{name:?}: {{a: 1, a: 2}}}}"));
}

#[test]
fn a_body_is_one_json_value() {
    let read = |body: &str| read_json_body(body.as_bytes(), Limits::default());
    assert_eq!(read(" {\"a\": 1} ").unwrap(), json!({"a": 1}));
    assert_eq!(read("{\"a\": {\"b\": 1, \"b\": 1}}").unwrap_err().to_string(), "a: key \"b\" is given twice");
    assert!(matches!(read("{} {}"), Err(BodyError::Syntax(_))));
    assert!(matches!(read(&"[".repeat(100_000)), Err(BodyError::Syntax(_))));
    let small = Limits { size: 10, values: 3 };
    assert!(matches!(read_json_body(b"[1, 2, 3, 4]", small), Err(BodyError::Refused(_))));
    assert!(matches!(read_json_body(b"[1,2,3,4]", small), Err(BodyError::Refused(_))));
}
