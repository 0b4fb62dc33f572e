//! Flags that several commands have, and values in the spelling of Kuma's client.

use clap::{Arg, ArgMatches};
use model::duration::GoDuration;

use crate::failure::Failure;

/// `--mesh`.
pub fn mesh() -> Arg {
    Arg::new("mesh").short('m').long("mesh").value_name("MESH").default_value("default").help("mesh to use")
}

/// The mesh that the flag says.
pub fn mesh_of(matches: &ArgMatches) -> &str {
    text(matches, "mesh").unwrap_or("default")
}

/// The value of a flag.
pub fn text<'a>(matches: &'a ArgMatches, flag: &str) -> Option<&'a str> {
    matches.get_one::<String>(flag).map(String::as_str)
}

/// The value of a flag that is required or has a default.
pub fn known<'a>(matches: &'a ArgMatches, flag: &str) -> &'a str {
    text(matches, flag).unwrap_or_default()
}

/// The values of a flag that may be given several times.
pub fn texts(matches: &ArgMatches, flag: &str) -> Vec<String> {
    matches.get_many::<String>(flag).into_iter().flatten().cloned().collect()
}

/// The words after the flags; how many there are is checked, not by the parser, whose words differ from Kuma's.
pub fn words(name: &'static str) -> Arg {
    Arg::new("words").value_name(name).num_args(0..)
}

/// The words, if they are as many as the command takes.
///
/// # Errors
/// They are more or fewer.
pub fn words_of<const N: usize>(matches: &ArgMatches) -> Result<[String; N], Failure> {
    let words = texts(matches, "words");
    let count = words.len();
    words.try_into().map_err(|_| Failure::Usage(format!("accepts {N} arg(s), received {count}")))
}

/// `key=value` pairs of a flag, several of them separated by commas if each has its own `=`.
#[derive(Clone, Debug)]
pub struct Pairs(Vec<(String, String)>);

/// Reads [`Pairs`].
///
/// # Errors
/// A part has no `=`.
pub fn pairs(text: &str) -> Result<Pairs, String> {
    // With one `=`, commas belong to the value: `kuma.io/service=a,b`.
    let parts = if text.matches('=').count() == 1 { vec![text] } else { text.split(',').collect() };
    let pair = |part: &str| match part.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!("{part} must be formatted as key=value")),
    };
    parts.into_iter().map(pair).collect::<Result<_, _>>().map(Pairs)
}

/// The pairs of a flag, by key; the last one of a key counts.
pub fn pairs_of(matches: &ArgMatches, flag: &str) -> std::collections::BTreeMap<String, String> {
    matches.get_many::<Pairs>(flag).into_iter().flatten().flat_map(|pairs| pairs.0.iter().cloned()).collect()
}

/// A flag of `key=value` pairs.
pub fn pairs_flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("KEY=VALUE").action(clap::ArgAction::Append).value_parser(pairs).help(help)
}

/// A switch.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(clap::ArgAction::SetTrue).help(help)
}

/// A flag with a text.
pub fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// Reads a duration such as `720h`.
///
/// # Errors
/// The text is none.
pub fn duration(text: &str) -> Result<GoDuration, String> {
    text.parse().map_err(|error: model::duration::DurationError| error.to_string())
}

/// Reads a whole number.
///
/// # Errors
/// The text is none.
pub fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_separate_pairs_only_if_each_has_its_own_sign() {
        let read = |text| pairs(text).map(|pairs| pairs.0);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read("kuma.io/service=a,b"), Ok(vec![pair("kuma.io/service", "a,b")]));
        assert_eq!(read("a=b,c=d"), Ok(vec![pair("a", "b"), pair("c", "d")]));
        assert_eq!(read("token=abc=="), Ok(vec![pair("token", "abc==")]));
        assert_eq!(read("foo"), Err("foo must be formatted as key=value".to_owned()));
    }
}
