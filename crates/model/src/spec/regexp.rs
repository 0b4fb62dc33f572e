//! Regular expressions in documents, which are RE2's as Go and Envoy read them.

use regex_syntax::ast::ErrorKind;
use regex_syntax::ast::parse::ParserBuilder;

/// Longest expression that is looked at, in bytes.
const LONGEST: usize = 16 * 1024;
/// How deep an expression may nest; Go's limit.
const DEEPEST: u32 = 1000;

/// Whether an expression can be compiled.
///
/// # Errors
/// What Go says of it.
pub fn check(expression: &str) -> Result<(), String> {
    if expression.len() > LONGEST {
        return Err(format!("error parsing regexp: expression too large: longer than {LONGEST} bytes"));
    }
    let parsed = ParserBuilder::new().nest_limit(DEEPEST).build().parse(expression);
    let Err(fault) = parsed else { return Ok(()) };
    let at = |start: usize| expression.get(start..).unwrap_or_default();
    let span = expression.get(fault.span().start.offset..fault.span().end.offset).unwrap_or_default();
    let operator = at(fault.span().start.offset).get(..1).unwrap_or_default();
    let (code, what) = match fault.kind() {
        ErrorKind::GroupUnclosed => ("missing closing )", expression),
        ErrorKind::GroupUnopened => ("unexpected )", expression),
        ErrorKind::ClassUnclosed => ("missing closing ]", at(fault.span().start.offset)),
        ErrorKind::ClassRangeInvalid => ("invalid character class range", span),
        ErrorKind::RepetitionMissing => ("missing argument to repetition operator", operator),
        ErrorKind::RepetitionCountInvalid => ("invalid repeat count", span),
        ErrorKind::EscapeUnexpectedEof => ("trailing backslash at end of expression", ""),
        ErrorKind::EscapeUnrecognized => ("invalid escape sequence", span),
        ErrorKind::NestLimitExceeded(_) => ("expression nests too deeply", expression),
        ErrorKind::UnsupportedLookAround => ("invalid or unsupported Perl syntax", span),
        ErrorKind::GroupNameInvalid | ErrorKind::GroupNameEmpty | ErrorKind::GroupNameUnexpectedEof => {
            ("invalid named capture", at(expression.rfind("(?").unwrap_or_default()))
        }
        _ => ("invalid regexp", expression),
    };
    Err(if what.is_empty() {
        format!("error parsing regexp: {code}: ``")
    } else {
        format!("error parsing regexp: {code}: `{what}`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_in_gos_words() {
        assert_eq!(check(r"^a(b|c)*\d{2,3}[^x-z]$"), Ok(()));
        assert_eq!(check(""), Ok(()));
        for (expression, expected) in [
            ("(a", "missing closing ): `(a`"),
            ("a)", "unexpected ): `a)`"),
            ("x[a", "missing closing ]: `[a`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a\\", "trailing backslash at end of expression: ``"),
        ] {
            assert_eq!(check(expression), Err(format!("error parsing regexp: {expected}")), "{expression}");
        }
    }

    #[test]
    fn an_expression_of_any_size_and_depth_is_answered() {
        assert!(check(&"(".repeat(LONGEST)).is_err());
        let deep = format!("{}a{}", "(".repeat(5000), ")".repeat(5000));
        assert!(check(&deep).unwrap_err().contains("nests too deeply"));
        assert!(check(&"a".repeat(LONGEST + 1)).unwrap_err().contains("too large"));
    }
}
