//! A ClientHello of the usual size.

/// Bytes of a hello, and of the answer that a server's first flight would have.
pub const HELLO: usize = 517;
pub const ANSWER: usize = 1_184;

/// A TLS 1.3 hello for a name, of [`HELLO`] bytes in one record.
pub fn hello(name: &str) -> Vec<u8> {
    let bare = build(name, 0);
    build(name, HELLO - bare.len())
}

fn build(name: &str, padding: usize) -> Vec<u8> {
    fn vector(content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).unwrap_or_default().to_be_bytes();
        [&len, content].concat()
    }
    let host = vector(&[&[0], vector(name.as_bytes()).as_slice()].concat());
    let versions = [0, 43, 0, 3, 2, 3, 4];
    let extensions = [&versions[..], &[0, 0], &vector(&host), &[0, 21], &vector(&vec![0; padding])].concat();
    let body = [&[3, 3][..], &[7; 32], &[32], &[9; 32], &vector(&[0x13, 1]), &[1, 0], &vector(&extensions)].concat();
    let len = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
    let message = [&[1, len[1], len[2], len[3]], body.as_slice()].concat();
    [&[22, 3, 1], vector(&message).as_slice()].concat()
}
