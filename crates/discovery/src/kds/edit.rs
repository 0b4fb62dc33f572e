//! Changes single fields of a protobuf message and leaves every other byte where it is. Our messages drop the fields that
//! they do not know, so what is changed by reading and writing it anew would lose what a newer Kuma sends.

use std::borrow::Cow;

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'m> {
    /// Its number.
    pub number: u32,
    /// Its content, when that is a text, bytes, or a message.
    pub content: Option<&'m [u8]>,
    /// All of it, with its number.
    whole: &'m [u8],
}

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It stays as it is.
    Keep,
    /// It has this content instead.
    Replace(Vec<u8>),
    /// It goes.
    Drop,
}

/// The message with some of its fields changed; the same bytes when none is.
///
/// # Errors
/// It is no message.
pub fn edited<'m>(message: &'m [u8], mut edit: impl FnMut(Field<'m>) -> Edit) -> Result<Cow<'m, [u8]>, DecodeError> {
    let (mut rest, mut after) = (message, Cow::Borrowed(message));
    while !rest.is_empty() {
        let field = next(&mut rest)?;
        let done = message.len() - rest.len();
        match edit(field) {
            Edit::Keep => {
                if let Cow::Owned(after) = &mut after {
                    after.extend_from_slice(field.whole);
                }
            }
            change => {
                let after = match &mut after {
                    Cow::Owned(after) => after,
                    Cow::Borrowed(_) => {
                        after = Cow::Owned(message[..done - field.whole.len()].to_vec());
                        after.to_mut()
                    }
                };
                if let Edit::Replace(content) = change {
                    put(field.number, &content, after);
                }
            }
        }
    }
    Ok(after)
}

/// The message with another text in a field, wherever it stands; when it stood nowhere, in the order of the numbers.
///
/// # Errors
/// It is no message.
pub fn with_text<'m>(message: &'m [u8], number: u32, text: &str) -> Result<Cow<'m, [u8]>, DecodeError> {
    let (mut found, mut place, mut ordered) = (false, 0, true);
    let after = edited(message, |field| {
        ordered &= field.number < number;
        if ordered {
            place += field.whole.len();
        }
        match field.content {
            Some(content) if field.number == number => {
                found = true;
                replaced(content, text.as_bytes())
            }
            _ => Edit::Keep,
        }
    })?;
    if found || text.is_empty() {
        return Ok(after);
    }
    let (before, behind) = message.split_at(place);
    let mut with = before.to_vec();
    put(number, text.as_bytes(), &mut with);
    with.extend_from_slice(behind);
    Ok(Cow::Owned(with))
}

/// The message with another value of one key of a map of texts; a key that is not there is not added.
///
/// # Errors
/// It is no message.
pub fn with_entry<'m>(message: &'m [u8], map: u32, key: &str, value: &str) -> Result<Cow<'m, [u8]>, DecodeError> {
    const KEY: u32 = 1;
    const VALUE: u32 = 2;
    within(message, map, |entry| {
        let mut named: &[u8] = b"";
        edited(entry, |field| {
            if field.number == KEY {
                named = field.content.unwrap_or_default();
            }
            Edit::Keep
        })?;
        if named == key.as_bytes() { with_text(entry, VALUE, value) } else { Ok(Cow::Borrowed(entry)) }
    })
}

/// The message with a change in every message that stands in a field.
///
/// # Errors
/// It is no message, or one in it is none.
pub fn within<'m>(
    message: &'m [u8],
    number: u32,
    mut change: impl FnMut(&'m [u8]) -> Result<Cow<'m, [u8]>, DecodeError>,
) -> Result<Cow<'m, [u8]>, DecodeError> {
    let mut failed = None;
    let after = edited(message, |field| match field.content.filter(|_| field.number == number).map(&mut change) {
        Some(Ok(Cow::Owned(content))) => Edit::Replace(content),
        Some(Err(error)) => {
            failed = Some(error);
            Edit::Keep
        }
        _ => Edit::Keep,
    })?;
    failed.map_or(Ok(after), Err)
}

/// One change after another.
///
/// # Errors
/// As the second.
pub fn then<'m>(
    first: Cow<'m, [u8]>,
    second: impl FnOnce(&[u8]) -> Result<Cow<'_, [u8]>, DecodeError>,
) -> Result<Cow<'m, [u8]>, DecodeError> {
    let changed = match second(&first)? {
        Cow::Borrowed(_) => None,
        Cow::Owned(changed) => Some(changed),
    };
    Ok(changed.map_or(first, Cow::Owned))
}

fn replaced(content: &[u8], by: &[u8]) -> Edit {
    if content == by { Edit::Keep } else { Edit::Replace(by.to_vec()) }
}

fn put(number: u32, content: &[u8], after: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, after);
    encode_varint(content.len() as u64, after);
    after.extend_from_slice(content);
}

fn next<'m>(rest: &mut &'m [u8]) -> Result<Field<'m>, DecodeError> {
    let start = *rest;
    let (number, wire_type) = decode_key(rest)?;
    let beginning = *rest;
    // Checks that all of it is there.
    skip_field(wire_type, number, rest, DecodeContext::default())?;
    let whole = &start[..start.len() - rest.len()];
    let content = if wire_type == WireType::LengthDelimited {
        let mut content = &beginning[..beginning.len() - rest.len()];
        decode_varint(&mut content)?;
        Some(content)
    } else {
        None
    };
    Ok(Field { number, content, whole })
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::mesh::v1alpha1::zone_ingress::AvailableService;
    use kds_proto::kuma::mesh::v1alpha1::{DiscoverySubscription, ZoneIngress};
    use prost::Message;

    use super::*;

    /// A field of a later version: number 100, a text.
    const LATER: &[u8] = b"\xa2\x06\x05later";

    fn service(zone: &str) -> Vec<u8> {
        let tags = [("kuma.io/zone".to_owned(), zone.to_owned()), ("a".to_owned(), "b".to_owned())];
        AvailableService { tags: tags.into_iter().collect(), instances: 3, ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn a_text_is_replaced_where_it_stands_and_added_where_it_is_missing() {
        let before =
            [LATER, &ZoneIngress { zone: "west".into(), ..Default::default() }.encode_to_vec(), LATER].concat();
        let after = with_text(&before, 1, "east").unwrap();
        assert_eq!(
            *after,
            [LATER, &ZoneIngress { zone: "east".into(), ..Default::default() }.encode_to_vec(), LATER].concat()
        );
        assert!(matches!(with_text(&after, 1, "east").unwrap(), Cow::Borrowed(_)));
        assert_eq!(ZoneIngress::decode(&*with_text(LATER, 1, "east").unwrap()).unwrap().zone, "east");
    }

    #[test]
    fn an_entry_of_a_map_changes_alone_and_is_not_made() {
        let before = [&service("west")[..], LATER].concat();
        let after = with_entry(&before, 1, "kuma.io/zone", "east").unwrap();
        assert_eq!(*after, [&service("east")[..], LATER].concat());
        assert!(matches!(with_entry(&before, 1, "c", "d").unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn a_number_goes_and_the_rest_stays() {
        let subscription = DiscoverySubscription { id: "1".into(), generation: 7, ..Default::default() };
        let before = [&subscription.encode_to_vec()[..], LATER].concat();
        let drop = |field: Field<'_>| if field.number == 7 { Edit::Drop } else { Edit::Keep };
        let after = edited(&before, drop).unwrap();
        assert_eq!(
            *after,
            [&DiscoverySubscription { generation: 0, ..subscription }.encode_to_vec()[..], LATER].concat()
        );
        assert!(matches!(edited(&after, drop).unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for torn in [&b"\x0a\x05ab"[..], b"\x0a\xff\xff\xff\xff\x0f", b"\x07", b"\x00"] {
            assert!(with_text(torn, 1, "x").is_err(), "{torn:?}");
        }
    }
}
