//! Finds the server name in a TLS ClientHello, as raw bytes (RFC 8446 4.1.2 and 5.1, RFC 6066 3).
//!
//! A TLS library would not do: names such as `backend{mesh=default}` are no host names, and rustls refuses them before
//! anybody sees them. Nothing is decided here but where the name is. The bytes are the caller's and stay as they came.

use std::fmt;

/// Most bytes that are looked at; a hello that needs more is refused (zone-dataplane 12.2).
pub const MAX_LEN: usize = 16 << 10;

/// What the bytes so far say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The hello is not complete. Nothing can be said before there are this many bytes in all.
    Incomplete {
        /// Bytes from the start of the connection.
        until: usize,
    },
    /// The hello is complete.
    Complete {
        /// The host name it asks for; `None` without the extension, or with an empty name.
        server_name: Option<&'a [u8]>,
    },
}

/// Why bytes are no ClientHello that can be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are not TLS: plaintext, or a PROXY header.
    NotTls,
    /// They are TLS and break its rules.
    Malformed,
    /// The hello is longer than [`MAX_LEN`].
    TooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "not TLS",
            Self::Malformed => "not a valid ClientHello",
            Self::TooLong => "a ClientHello of more than 16 KiB",
        })
    }
}

impl std::error::Error for Fault {}

const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Largest content of a record (RFC 8446 5.1).
const MAX_RECORD: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Reads what came so far, always from the start of the connection.
///
/// A hello in one record, as nearly all are, is read where it lies. One that is spread over several is put together in
/// `scratch`, whose content before the call does not matter.
///
/// # Errors
/// The bytes can no longer become a hello that is routed.
pub fn parse<'a>(bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Progress<'a>, Fault> {
    let first = match record(bytes)? {
        Record::Partial { until } => return Ok(Progress::Incomplete { until }),
        Record::Whole { content, .. } if content.len() >= HANDSHAKE_HEADER => content,
        Record::Whole { .. } => return spread(bytes, scratch),
    };
    match message(first)? {
        Some(body) => Ok(Progress::Complete { server_name: server_name(body)? }),
        None => spread(bytes, scratch),
    }
}

/// A hello in more than one record.
fn spread<'a>(bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Progress<'a>, Fault> {
    scratch.clear();
    let mut at = 0;
    let complete = loop {
        match record(&bytes[at..])? {
            Record::Partial { until } => {
                let until = at + until;
                return if until > MAX_LEN { Err(Fault::TooLong) } else { Ok(Progress::Incomplete { until }) };
            }
            Record::Whole { content, len } => {
                scratch.extend_from_slice(content);
                at += len;
            }
        }
        if scratch.len() >= HANDSHAKE_HEADER && message(scratch)?.is_some() {
            break scratch;
        }
    };
    let body = message(complete)?.ok_or(Fault::Malformed)?;
    Ok(Progress::Complete { server_name: server_name(body)? })
}

enum Record<'a> {
    Partial { until: usize },
    Whole { content: &'a [u8], len: usize },
}

/// The record at the start of the bytes. What cannot be a handshake record is refused at its first wrong byte.
fn record(bytes: &[u8]) -> Result<Record<'_>, Fault> {
    match bytes {
        [kind, ..] if *kind != HANDSHAKE => return Err(Fault::NotTls),
        [_, major, ..] if *major != 3 => return Err(Fault::NotTls),
        _ => {}
    }
    let Some((header, rest)) = bytes.split_first_chunk::<RECORD_HEADER>() else {
        return Ok(Record::Partial { until: RECORD_HEADER });
    };
    let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if len == 0 || len > MAX_RECORD {
        return Err(Fault::Malformed);
    }
    match rest.get(..len) {
        Some(content) => Ok(Record::Whole { content, len: RECORD_HEADER + len }),
        // A first record that announces too much is not waited for.
        None if RECORD_HEADER + len > MAX_LEN => Err(Fault::TooLong),
        None => Ok(Record::Partial { until: RECORD_HEADER + len }),
    }
}

/// Body of the ClientHello at the start of handshake bytes, of which there are enough for a header; `None` while it is
/// not complete.
fn message(handshake: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let Some(([kind, len @ ..], rest)) = handshake.split_first_chunk::<HANDSHAKE_HEADER>() else {
        return Ok(None);
    };
    if *kind != CLIENT_HELLO {
        return Err(Fault::Malformed);
    }
    let len = usize::from(len[0]) << 16 | usize::from(len[1]) << 8 | usize::from(len[2]);
    if RECORD_HEADER + HANDSHAKE_HEADER + len > MAX_LEN {
        return Err(Fault::TooLong);
    }
    Ok(rest.get(..len))
}

/// The host name in a complete body.
fn server_name(body: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let mut hello = Reader(body);
    // legacy_version and random
    hello.take(2 + 32)?;
    // legacy_session_id, cipher_suites, legacy_compression_methods
    hello.vector8()?;
    hello.vector16()?;
    hello.vector8()?;
    if hello.0.is_empty() {
        // TLS 1.2 allows a hello without extensions.
        return Ok(None);
    }
    let mut extensions = Reader(hello.vector16()?);
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        if kind == SERVER_NAME {
            if found.is_some() {
                return Err(Fault::Malformed);
            }
            found = Some(host_name(content)?);
        }
    }
    Ok(found.flatten())
}

fn host_name(extension: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let mut names = Reader(Reader(extension).vector16()?);
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.vector16()?;
        if kind == HOST_NAME {
            return Ok(Some(name).filter(|name| !name.is_empty()));
        }
    }
    Ok(None)
}

/// Takes pieces off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number16(&mut self) -> Result<u16, Fault> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Bytes behind their length in one byte.
    fn vector8(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.take(1)?[0];
        self.take(usize::from(len))
    }

    /// Bytes behind their length in two bytes.
    fn vector16(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.number16()?;
        self.take(usize::from(len))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector16(content: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes
    }

    /// The handshake message of a hello for a name, padded by an extension of so many bytes.
    pub(crate) fn handshake(name: Option<&[u8]>, padding: usize) -> Vec<u8> {
        let mut extensions = Vec::new();
        extensions.extend([0, 21]);
        extensions.extend(vector16(&vec![0; padding]));
        if let Some(name) = name {
            let mut entry = vec![HOST_NAME];
            entry.extend(vector16(name));
            extensions.extend([0, 0]);
            extensions.extend(vector16(&vector16(&entry)));
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0]);
        body.extend(vector16(&[0x13, 1]));
        body.extend([1, 0]);
        body.extend(vector16(&extensions));
        let len = u32::try_from(body.len()).unwrap().to_be_bytes();
        let mut message = vec![CLIENT_HELLO, len[1], len[2], len[3]];
        message.extend(body);
        message
    }

    /// Handshake bytes in records of at most so many bytes.
    pub(crate) fn records(handshake: &[u8], size: usize) -> Vec<u8> {
        let record = |content: &[u8]| [&[HANDSHAKE, 3, 1], vector16(content).as_slice()].concat();
        handshake.chunks(size).flat_map(record).collect()
    }

    pub(crate) fn hello(name: &str) -> Vec<u8> {
        records(&handshake(Some(name.as_bytes()), 100), MAX_RECORD)
    }

    fn name_in(bytes: &[u8]) -> Result<Option<Option<String>>, Fault> {
        let mut scratch = Vec::new();
        Ok(match parse(bytes, &mut scratch)? {
            Progress::Incomplete { until } => {
                assert!(until > bytes.len(), "{until} bytes are wanted and there are {}", bytes.len());
                None
            }
            Progress::Complete { server_name } => {
                Some(server_name.map(|name| String::from_utf8_lossy(name).into_owned()))
            }
        })
    }

    /// DP-37, DP-39: any split over segments and records, one byte each included.
    #[test]
    fn a_hello_is_found_however_it_is_split() {
        const NAME: &str = "backend{mesh=default,version=V1}";
        let message = handshake(Some(NAME.as_bytes()), 1_400);
        for size in [1, 2, 3, 4, 5, 64, 100, 1_400, MAX_RECORD] {
            let bytes = records(&message, size);
            for end in 0..bytes.len() {
                assert_eq!(name_in(&bytes[..end]), Ok(None), "{end} bytes in records of {size}");
            }
            assert_eq!(name_in(&bytes), Ok(Some(Some(NAME.to_owned()))), "records of {size}");
            let followed = [&bytes[..], b"more"].concat();
            assert_eq!(name_in(&followed), Ok(Some(Some(NAME.to_owned()))), "what follows does not matter");
        }
    }

    /// DP-36: what cannot be routed is known at the first byte that tells.
    #[test]
    fn what_is_no_hello_is_refused() {
        for plaintext in ["GET / HTTP/1.1\r\n", "PROXY TCP4 ", "\r\n", "\u{16}abc"] {
            assert_eq!(name_in(plaintext.as_bytes()), Err(Fault::NotTls), "{plaintext:?}");
        }
        assert_eq!(name_in(&[HANDSHAKE, 3, 1, 0, 0]), Err(Fault::Malformed), "an empty record");
        assert_eq!(name_in(&[HANDSHAKE, 3, 1, 0x40, 1]), Err(Fault::Malformed), "a record above 2^14");
        assert_eq!(name_in(&[HANDSHAKE, 3, 1, 0, 4, 2, 0, 0, 0]), Err(Fault::Malformed), "a ServerHello");
        assert_eq!(name_in(&records(&handshake(None, 0), MAX_RECORD)), Ok(Some(None)));
        assert_eq!(name_in(&records(&handshake(Some(b""), 0), MAX_RECORD)), Ok(Some(None)));
    }

    /// DP-38, its second half; the first is told by time.
    #[test]
    fn a_hello_of_16_kib_is_the_longest() {
        let sized = |len: usize| {
            let bare = RECORD_HEADER + handshake(Some(b"a"), 0).len();
            records(&handshake(Some(b"a"), len - bare), MAX_RECORD)
        };
        assert_eq!(name_in(&sized(16_308)), Ok(Some(Some("a".to_owned()))));
        assert_eq!(name_in(&sized(MAX_LEN)), Ok(Some(Some("a".to_owned()))));
        assert_eq!(name_in(&sized(16_388)), Err(Fault::TooLong));
        let announced = &records(&handshake(Some(b"a"), 20_000), 64)[..128];
        assert_eq!(name_in(announced), Err(Fault::TooLong), "it is not waited for");
    }

    /// What a name may be is not ours to say.
    #[test]
    fn names_stay_as_they_came() {
        let long = "a".repeat(254);
        for name in ["backend{kuma.io/zone=z,mesh=m}", "UPPER.Case", "127.0.0.1", "name.", "a_b", "ä", &long] {
            assert_eq!(name_in(&hello(name)), Ok(Some(Some(name.to_owned()))));
        }
    }

    #[test]
    fn a_second_server_name_extension_is_refused() {
        let mut message = handshake(Some(b"a"), 0);
        let extension = message[message.len() - 10..].to_vec();
        let extensions = message.len() - 14 - 2;
        message.extend_from_slice(&extension);
        let grown = u16::from_be_bytes([message[extensions], message[extensions + 1]]) + 10;
        message[extensions..extensions + 2].copy_from_slice(&grown.to_be_bytes());
        let len = u32::try_from(message.len() - HANDSHAKE_HEADER).unwrap().to_be_bytes();
        message[1..4].copy_from_slice(&len[1..]);
        assert_eq!(name_in(&records(&message, MAX_RECORD)), Err(Fault::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = name_in(&bytes);
        }

        #[test]
        fn a_damaged_hello_is_answered(at: prop::sample::Index, to: u8, size in 1_usize..200) {
            let mut bytes = records(&handshake(Some(b"backend{mesh=default}"), 50), size);
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = name_in(&bytes);
        }
    }
}
