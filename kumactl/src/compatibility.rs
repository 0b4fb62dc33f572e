//! Whether the control plane is of the version that this client speaks (api-and-kumactl 4.1).

use std::io::Write;

use serde_json::Value;

use crate::client::{CallError, Client};
use crate::command::Session;
use crate::failure::Failure;
use crate::version::{PRODUCT, VERSION};

/// A client of the control plane in use, after a look at its version. A difference is a warning, no failure.
///
/// # Errors
/// No control plane is in use.
pub async fn client(session: &mut Session<'_>) -> Result<Client, Failure> {
    Ok(client_and_index(session).await?.0)
}

/// The same, with what the control plane says of itself.
///
/// # Errors
/// As [`client`].
pub async fn client_and_index(session: &mut Session<'_>) -> Result<(Client, Option<Value>), Failure> {
    let client = session.client();
    let index = match &client {
        Ok(client) => index(client).await,
        Err(error) => Err(error.to_string()),
    };
    match &index {
        Ok(index) => {
            let (product, version) = (text(index, "product"), text(index, "version"));
            if !version.contains("preview") && (product != PRODUCT || version != VERSION) {
                writeln!(
                    session.io.stderr,
                    "WARNING: You are using kumactl version {VERSION} for {PRODUCT}, but the server returned version: \
                     {product} for {version}"
                )?;
            }
        }
        Err(reason) => writeln!(
            session.io.stderr,
            "WARNING: Failed to retrieve server version, can't check compatibility: {reason}"
        )?,
    }
    Ok((client?, index.ok()))
}

/// What a control plane says of itself.
///
/// # Errors
/// It says nothing, with the reason.
pub async fn index(client: &Client) -> Result<Value, String> {
    let unable = |error: CallError| format!("Unable to retrieve server version: {error}");
    client.get_json(&[], &[]).await.map_err(unable)
}

/// A text in what a control plane says of itself.
pub fn text<'a>(index: &'a Value, member: &str) -> &'a str {
    index[member].as_str().unwrap_or_default()
}
