//! Go templates in documents: host names, SPIFFE IDs, ports of virtual outbounds.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use gtmpl_ng::{Context, FuncError, ParseError, Template, Value};

use crate::labels::Labels;
use crate::violation::{Path, Violations};

/// Longest template that is parsed, in bytes. Host names and SPIFFE IDs are far below it.
const LONGEST: usize = 16 * 1024;
/// Most parentheses: the parser descends into each.
const MOST_PARENTHESES: usize = 64;

/// Adds a fault when a template does not parse, in Go's words.
pub fn check(at: &Path, template: &str, found: &mut Violations) {
    if let Err(reason) = parse(template) {
        found.add(at, format!("couldn't parse template: {reason}"));
    }
}

/// What a template makes of these entries; what is no entry reads `<no value>`.
///
/// # Errors
/// It does not parse, or cannot be carried out.
pub fn render(text: &str, entries: &BTreeMap<String, String>) -> Result<String, RenderError> {
    let template = parsed(text).map_err(RenderError::Parse)?;
    let entries: HashMap<String, String> = entries.clone().into_iter().collect();
    template.render(&Context::from(entries)).map_err(|fault| RenderError::Execute(fault.to_string()))
}

/// What a template makes of a resource: of its `fields` and, by the function `label`, of its labels.
///
/// # Errors
/// It does not parse, cannot be carried out, or asks for a field or label that is not there.
pub fn render_resource(text: &str, fields: &[(&str, &str)], labels: &Labels) -> Result<String, RenderError> {
    let entries = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let missing = |fault: String| RenderError::Execute(format!("template: :1: executing \"\": {fault}"));
    LABELS.with_borrow_mut(|place| *place = Looked { labels: labels.clone(), missing: None });
    let rendered = render(text, &entries);
    let looked = LABELS.take();
    match looked.missing {
        Some(key) => Err(RenderError::Execute(label_fault(text, &key))),
        None => match rendered {
            Ok(made) if made.contains(NO_VALUE) => Err(missing(format!("there is no such field: {made}"))),
            rendered => rendered,
        },
    }
}

/// What stands for an entry that is not there.
const NO_VALUE: &str = "<no value>";

thread_local! {
    /// Functions of templates have no context: while one is carried out, this is it.
    static LABELS: RefCell<Looked> = RefCell::default();
}

#[derive(Default)]
struct Looked {
    labels: Labels,
    /// The first label that was asked for and is not there.
    missing: Option<String>,
}

/// Go tells where the function stands, counted from 0.
fn label_fault(text: &str, key: &str) -> String {
    let call = format!("label {key:?}");
    let at = text.find(&call).unwrap_or(0);
    let (line, column) = (text[..at].matches('\n').count() + 1, at - text[..at].rfind('\n').map_or(0, |end| end + 1));
    format!("template: :{line}:{column}: executing \"\" at <{call}>: error calling label: label {key} not found")
}

/// Why a template makes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenderError {
    /// It does not parse; in Go's words.
    Parse(String),
    /// It cannot be carried out.
    Execute(String),
}

fn parse(text: &str) -> Result<(), String> {
    parsed(text).map(|_| ())
}

/// A template that knows the function `label`.
fn parsed(text: &str) -> Result<Template, String> {
    if text.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    if text.matches('(').count() > MOST_PARENTHESES {
        return Err(format!("more than {MOST_PARENTHESES} parentheses"));
    }
    let mut template = Template::default();
    template.add_func("label", label);
    template.parse(text).map_err(|fault| in_gos_words(text, &fault))?;
    Ok(template)
}

fn label(arguments: &[Value]) -> Result<Value, FuncError> {
    let [Value::String(key)] = arguments else { return Err(FuncError::ExactlyXArgs("label".to_owned(), 1)) };
    LABELS.with_borrow_mut(|looked| match looked.labels.get(key) {
        Some(value) => Ok(Value::from(value)),
        None => {
            looked.missing.get_or_insert_with(|| key.clone());
            Ok(Value::from(""))
        }
    })
}

fn in_gos_words(text: &str, fault: &ParseError) -> String {
    let (line, said) = match fault {
        ParseError::WithContext(place, said) => (place.line, said.clone()),
        other => (1, other.to_string()),
    };
    // At the end of the text Go reads a lone dot as the beginning of a number.
    let lone_dot = text.strip_suffix('.').is_some_and(|before| before.ends_with([' ', '\t', '{', '(', '|']));
    let reason =
        if lone_dot && said == "unclosed action" { r#"illegal number syntax: ".""#.into() } else { quote(&said) };
    format!("template: :{line}: {reason}")
}

/// The parser speaks as Go does, but for the quotes around what it met and for what it says of the lexer's faults.
fn quote(said: &str) -> String {
    if let Some(name) = said.strip_prefix("function ").and_then(|rest| rest.strip_suffix(" not defined")) {
        return format!("function {name:?} not defined");
    }
    if let Some(name) = said.strip_prefix("undefined variable ") {
        return format!("undefined variable {name:?}");
    }
    if said.starts_with("unable to unqote string") {
        return "invalid syntax".to_owned();
    }
    let Some((met, context)) = said.strip_prefix("unexpected ").and_then(|rest| rest.rsplit_once(" in ")) else {
        return said.to_owned();
    };
    if let Some(number) = met.strip_prefix("bad number syntax: ") {
        return format!("bad number syntax: {number:?}");
    }
    if let Some(character) = met.strip_prefix("bad character ").and_then(|rest| rest.chars().next()) {
        return format!("bad character U+{:04X} '{character}'", u32::from(character));
    }
    let of_the_lexer = ["unterminated ", "unclosed ", "comment ends ", "unrecognized character "];
    if of_the_lexer.iter().any(|words| met.starts_with(words)) {
        return met.to_owned();
    }
    match met {
        "EOF" => format!("unexpected {met} in {context}"),
        keyword if KEYWORDS.contains(&keyword) => format!("unexpected <{keyword}> in {context}"),
        // Go cuts what is longer.
        long if long.chars().count() > 10 => {
            format!("unexpected {:?}... in {context}", long.chars().take(10).collect::<String>())
        }
        short => format!("unexpected {short:?} in {context}"),
    }
}

const KEYWORDS: [&str; 11] =
    ["block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_host_names_parse() {
        for text in [
            "plain.mesh",
            "{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local",
            r#"{{ label "k8s.kuma.io/service-name" }}.{{ .Namespace }}"#,
            r#"{{ if .Zone }}{{ printf "%s" .Zone | len }}{{ else }}x{{ end }}"#,
            "{{/* nothing */}}",
        ] {
            assert_eq!(parse(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn fields_and_labels_of_a_resource_are_filled_in() {
        let labels: Labels = [("app", "web"), ("a/b", "c")].into_iter().collect();
        let render = |text: &str| render_resource(text, &[("Name", "web-1"), ("Empty", "")], &labels);
        assert_eq!(render(r#"{{ .Name }}.{{ label "a/b" }}{{ .Empty }}.mesh"#).unwrap(), "web-1.c.mesh");
        assert_eq!(
            render(r#"{{ if .Empty }}x{{ else }}{{ printf "%s-%s" .Name (label "app") }}{{ end }}"#).unwrap(),
            "web-1-web"
        );
        let execute = |fault: &str| Err(RenderError::Execute(fault.to_owned()));
        let fault = r#"template: :1:6: executing "" at <label "zone">: error calling label: label zone not found"#;
        assert_eq!(render(r#"abc{{ label "zone" }}"#), execute(fault));
        assert!(render("{{ .Nope }}").is_err());
        assert_eq!(render("{{ .Name").unwrap_err(), RenderError::Parse("template: :1: unclosed action".to_owned()));
        // Nothing is left behind for the next.
        assert!(render_resource(r#"{{ label "app" }}"#, &[], &Labels::default()).is_err());
    }

    #[test]
    fn faults_are_told_in_gos_words() {
        for (text, expected) in [
            ("{{ .Name", "template: :1: unclosed action"),
            ("{{ .", r#"template: :1: illegal number syntax: ".""#),
            ("a\n{{ .Name }}{{ end }}", "template: :2: unexpected {{end}}"),
            ("{{ if .X }}", "template: :1: unexpected EOF"),
            ("{{ foo }}", r#"template: :1: function "foo" not defined"#),
            ("{{ .Name | nope }}", r#"template: :1: function "nope" not defined"#),
            ("{{ $x }}", r#"template: :1: undefined variable "$x""#),
            (r#"{{ label "x" }"#, r#"template: :1: unexpected "}" in operand"#),
            ("{{}}", "template: :1: missing value for command"),
            ("{{ 1a }}", r#"template: :1: bad number syntax: "1a""#),
            ("{{ 08 }}", r#"template: :1: illegal number syntax: "08""#),
            ("{{ 'a }}", "template: :1: unterminated character constant"),
            ("{{ \"a }}", "template: :1: unterminated quoted string"),
            ("{{/* c", "template: :1: unclosed comment"),
            ("{{ (.A }}", "template: :1: unclosed left paren"),
            ("{{ .a-b }}", "template: :1: bad character U+002D '-'"),
            (r#"{{ "a\q" }}"#, "template: :1: invalid syntax"),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_template_of_any_size_and_depth_is_answered() {
        assert!(parse(&"{{".repeat(LONGEST)).unwrap_err().contains("longer than"));
        assert!(parse(&"{{if .A}}".repeat(1000)).is_err());
        assert!(parse(&format!("{{{{ {} }}}}", "(".repeat(8000))).unwrap_err().contains("parentheses"));
    }
}
