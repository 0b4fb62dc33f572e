//! The last good configuration on disk: a router starts from it when its control plane does not answer.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kds_proto::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use prost::Message;
use tokio::sync::watch;

/// Largest file.
const LARGEST: u64 = 256 << 20;
/// Between two writes: in a burst of updates only the last one counts.
const PAUSE: Duration = Duration::from_millis(500);

/// A file, and whether something else shall be in it.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    changed: watch::Sender<()>,
}

impl Disk {
    /// The file of a proxy of this name. [`keep`](Self::keep) writes it.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: &Path, proxy: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
        let name: String = proxy.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect();
        Ok(Self { path: folder.join(format!("{name}.last-good")), changed: watch::Sender::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it; nothing when there is none or it cannot be understood, which is told.
    pub fn read(&self) -> Vec<DeltaDiscoveryResponse> {
        match self.try_read() {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "cannot use the last good configuration");
                Vec::new()
            }
        }
    }

    fn try_read(&self) -> io::Result<Vec<DeltaDiscoveryResponse>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(LARGEST).read_to_end(&mut bytes)?;
        let (mut rest, mut kept) = (&*bytes, Vec::new());
        while !rest.is_empty() {
            kept.push(DeltaDiscoveryResponse::decode_length_delimited(&mut rest)?);
        }
        Ok(kept)
    }

    /// Has what is held then written soon.
    pub fn write(&self) {
        self.changed.send_replace(());
    }

    /// Writes what is held whenever that has changed, until nothing is.
    pub fn keep<F>(&self, held: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Fn() -> Option<Vec<DeltaDiscoveryResponse>> + Send,
    {
        let (mut changed, path) = (self.changed.subscribe(), self.path.clone());
        async move {
            while changed.changed().await.is_ok() {
                let Some(kept) = held() else { return };
                let path = path.clone();
                let written = tokio::task::spawn_blocking(move || replace(&path, &kept)).await;
                if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                    tracing::warn!(%error, "cannot keep the last good configuration");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Writes a new file and puts it in the place of the old one. It holds keys: its owner alone can read it.
fn replace(path: &Path, kept: &[DeltaDiscoveryResponse]) -> io::Result<()> {
    let bytes: Vec<u8> = kept.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
    let next = path.with_extension("next");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    fs::rename(&next, path)
}
