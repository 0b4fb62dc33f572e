//! What a generator makes anew each time: compared by what it says.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::call::Call;

/// The key and the junk that the recorded calls read.
pub fn put_keys(folder: &Path) {
    let calls = Call::of_group("generate");
    let key = calls.iter().find(|call| call.name == "signing-key-pem").unwrap();
    fs::write(folder.join("key.pem"), &key.stdout).unwrap();
    fs::write(folder.join("junk"), "junk").unwrap();
}

/// Whether an output ends in a token that says the same as the recorded one, for as long; its number and its moment are
/// its own. `None` if the recorded output ends in no token.
pub fn agree(ours: &str, recorded: &str) -> Option<bool> {
    let split = |text: &str| {
        let (before, token) =
            text.rsplit_once('\n').map_or((String::new(), text), |(before, token)| (before.to_owned(), token));
        let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let mut next = || serde_json::from_slice::<Value>(&parts.next()??).ok();
        Some((before, next()?, next()?))
    };
    let (recorded_before, recorded_header, recorded) = split(recorded)?;
    let Some((before, header, ours)) = split(ours) else { return Some(false) };
    let lifetime = |claims: &Value| claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat);
    Some(
        before == recorded_before
            && header == recorded_header
            && lifetime(&ours) == lifetime(&recorded)
            && ours["nbf"] == ours["iat"]
            && text(&stripped(&ours)) == text(&stripped(&recorded)),
    )
}

/// With the members in their order, which a comparison of values does not look at.
fn text(claims: &Value) -> String {
    claims.to_string()
}

fn stripped(claims: &Value) -> Value {
    let mut claims = claims.clone();
    if let Some(members) = claims.as_object_mut() {
        for own in ["exp", "nbf", "iat", "jti"] {
            members.shift_remove(own);
        }
    }
    claims
}

/// Whether the same blocks of PEM are there, in the same order; or the same in base64.
pub fn same_shape(ours: &str, recorded: &str) -> bool {
    let labels = |text: &str| {
        let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let was_encoded = decoded.is_some();
        let text = decoded.unwrap_or_else(|| text.to_owned());
        let lines: Vec<String> = text.lines().filter(|line| line.starts_with("-----")).map(str::to_owned).collect();
        (was_encoded, lines, text.ends_with('\n'))
    };
    labels(ours) == labels(recorded) && (ours == recorded || !ours.contains("PUBLIC KEY"))
}
