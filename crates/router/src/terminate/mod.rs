//! Connections of a mesh that end here and go on to somebody outside of it (zone-dataplane 6.4).
//!
//! The client proves who it is with a certificate of its mesh ([`downstream`]), may or may not call ([`access`]), and is
//! connected to the outside as it is ([`bytes`]) or request by request ([`http`]), in plaintext or in TLS of the outside
//! ([`upstream`]).

pub mod access;
mod bytes;
pub mod downstream;
mod http;
mod san;
mod stream;
pub mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

pub use san::{Pattern, Wanted};
pub use stream::Prefixed;

use crate::cluster::Cluster;
use access::Access;
use downstream::Downstream;

/// For a handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// What is done with connections that end here.
#[derive(Debug)]
pub struct Terminal {
    /// How TLS ends; `None`: there is none.
    pub tls: Option<Arc<Downstream>>,
    /// Who may call.
    pub access: Access,
    /// Where calls go.
    pub forward: Forward,
}

/// Where what was decrypted goes.
#[derive(Debug)]
pub enum Forward {
    /// As it is.
    Bytes(Arc<Cluster>),
    /// Request by request, by the beginning of the path; the first that fits.
    Requests(Arc<[PathRoute]>),
}

/// Requests of a path.
#[derive(Debug)]
pub struct PathRoute {
    /// What the path begins with.
    pub prefix: String,
    /// Where they go.
    pub cluster: Arc<Cluster>,
    /// Whether the host that is asked for becomes the one that is connected to.
    pub rewrite_host: bool,
    /// For a whole answer; `None`: no limit.
    pub timeout: Option<Duration>,
}

/// Why a connection ended before anything was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The certificate to show has not come yet.
    NoCertificate,
    /// The client did not prove that it is of the mesh.
    Handshake,
    /// It may not call.
    Denied,
    /// Nobody could be reached.
    Unreachable,
}

/// What was carried, in bytes, from the client and to it.
pub type Carried = (u64, u64);

impl Terminal {
    /// Serves one connection to its end. `first` was read from it before.
    ///
    /// # Errors
    /// It was refused.
    pub async fn serve(
        &self,
        client: TcpStream,
        peer: SocketAddr,
        first: Vec<u8>,
        idle: Duration,
    ) -> Result<Carried, Refusal> {
        let client = Prefixed::new(client, first);
        let Some(tls) = &self.tls else { return self.forward(client, &[], idle).await };
        let acceptor = tls.acceptor().ok_or(Refusal::NoCertificate)?;
        let accepted = timeout(HANDSHAKE, acceptor.accept(client)).await;
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "no handshake");
                return Err(Refusal::Handshake);
            }
            Err(_) => return Err(Refusal::Handshake),
        };
        let names = downstream::names(stream.as_ref());
        self.forward(stream, &names, idle).await
    }

    async fn forward<S: stream::Stream>(
        &self,
        client: S,
        names: &[String],
        idle: Duration,
    ) -> Result<Carried, Refusal> {
        let allowed = self.access.allows(names);
        match &self.forward {
            Forward::Bytes(_) if !allowed => Err(Refusal::Denied),
            Forward::Bytes(cluster) => bytes::forward(client, cluster, idle).await,
            // A client that may not call is told so in its own language.
            Forward::Requests(routes) => Ok(http::serve(client, Arc::clone(routes), allowed).await),
        }
    }
}
