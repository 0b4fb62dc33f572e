//! Kubernetes' syntax of names and labels, complained about in its own words.
//!
//! Each check gives every fault it finds, the length before the characters; nothing means that the text is fine.

const NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const DNS_1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
    '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation \
    is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS_1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with \
    an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Whether dots part the name into pieces of `a-z 0-9 -` that begin and end with a letter or digit (RFC 1123).
pub fn is_dns_1123_subdomain(name: &str) -> bool {
    name.split('.').all(|piece| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !piece.is_empty() && !piece.starts_with('-') && !piece.ends_with('-') && piece.bytes().all(inner)
    })
}

/// What keeps a text from being an RFC 1035 label of at most 63 characters: `my-name`.
pub fn dns_1035_label(name: &str) -> Vec<String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let shaped = name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-') && name.bytes().all(inner);
    let too_long = (name.len() > 63).then(|| "must be no more than 63 characters".to_owned());
    too_long.into_iter().chain((!shaped).then(|| DNS_1035_LABEL.to_owned())).collect()
}

/// What keeps a text from being the key of a label: `name` or `subdomain/name`.
pub fn label_key(key: &str) -> Vec<String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if name.contains('/') {
        return vec![format!(
            "a valid label key {NAME_PART} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        )];
    }
    let mut faults = prefix.map(label_prefix).unwrap_or_default();
    match name.len() {
        0 => faults.push("name part must be non-empty".to_owned()),
        1..=63 => {}
        _ => faults.push("name part must be no more than 63 bytes".to_owned()),
    }
    if !is_name_part(name) {
        faults.push(format!("name part {NAME_PART}"));
    }
    faults
}

fn label_prefix(prefix: &str) -> Vec<String> {
    if prefix.is_empty() {
        return vec!["prefix part must be non-empty".to_owned()];
    }
    let too_long = (prefix.len() > 253).then(|| "prefix part must be no more than 253 bytes".to_owned());
    let misshapen = (!is_dns_1123_subdomain(prefix)).then(|| format!("prefix part {DNS_1123_SUBDOMAIN}"));
    too_long.into_iter().chain(misshapen).collect()
}

/// What keeps a text from being the value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let too_long = (value.len() > 63).then(|| "must be no more than 63 bytes".to_owned());
    let misshapen = (!value.is_empty() && !is_name_part(value)).then(|| LABEL_VALUE.to_owned());
    too_long.into_iter().chain(misshapen).collect()
}

fn is_name_part(text: &str) -> bool {
    let at_ends = |c: char| c.is_ascii_alphanumeric();
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.starts_with(at_ends) && text.ends_with(at_ends) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subdomain_has_no_empty_piece_and_no_outer_dash() {
        for good in ["a", "0", "a-b", "a.b", "a--b.1"] {
            assert!(is_dns_1123_subdomain(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "A", "a_b", "a b", "\u{e9}"] {
            assert!(!is_dns_1123_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn a_label_begins_with_a_letter_and_has_63_characters_at_most() {
        assert_eq!(dns_1035_label("my-name1"), [""; 0]);
        for bad in ["", "1a", "-a", "a-", "a.b", "A", "a_b"] {
            assert_eq!(dns_1035_label(bad), [DNS_1035_LABEL], "{bad}");
        }
        assert_eq!(dns_1035_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(dns_1035_label(&"1".repeat(64)), ["must be no more than 63 characters", DNS_1035_LABEL]);
    }

    #[test]
    fn every_fault_of_a_label_key_is_named() {
        let name_part = format!("name part {NAME_PART}");
        let prefix_part = format!("prefix part {DNS_1123_SUBDOMAIN}");
        for good in ["a", "A_b.c-1", "kuma.io/zone", "k8s.kuma.io/x_Y"] {
            assert_eq!(label_key(good), [""; 0]);
        }
        assert_eq!(label_key("bad key!"), [name_part.as_str()]);
        assert_eq!(label_key(""), ["name part must be non-empty", &name_part]);
        assert_eq!(label_key("/a"), ["prefix part must be non-empty"]);
        assert_eq!(label_key("A/"), [&prefix_part, "name part must be non-empty", &name_part]);
        assert_eq!(label_key(&"a".repeat(64)), ["name part must be no more than 63 bytes"]);
        assert_eq!(label_key(&format!("{}/a", "a".repeat(254))), ["prefix part must be no more than 253 bytes"]);
        assert!(label_key("a/b/c")[0].starts_with("a valid label key must consist of alphanumeric"));
        assert_eq!(label_key("a/b/c").len(), 1);
    }

    #[test]
    fn a_label_value_may_be_empty() {
        for good in ["", "a", "1.2_3-4", "A"] {
            assert_eq!(label_value(good), [""; 0]);
        }
        assert_eq!(label_value("bad value!"), [LABEL_VALUE]);
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
    }
}
