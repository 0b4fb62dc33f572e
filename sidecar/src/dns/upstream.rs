//! The name servers of the machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use resolv_conf::ScopedIp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// For one server to answer; then the next is asked.
const ANSWERS: Duration = Duration::from_secs(3);
/// Servers that are asked, as resolvers do.
const ASKED: usize = 3;
/// Largest answer over UDP.
const DATAGRAM: usize = 65_535;

/// Whom to ask for all other names.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<[SocketAddr]>);

impl Upstream {
    /// Those of a machine, `/etc/resolv.conf`. One that is us is left out: it would ask itself for ever.
    pub fn of_machine(file: &Path, own: SocketAddr) -> Self {
        let text = std::fs::read(file).unwrap_or_default();
        let (config, faults) = resolv_conf::Config::parse_with_errors(&text);
        for fault in faults {
            tracing::debug!(%fault, ?file, "a line of the resolver's configuration is not understood");
        }
        let address = |server: ScopedIp| SocketAddr::new(IpAddr::from(server), 53);
        let servers = config.nameservers.into_iter().map(address).filter(|server| !is_own(*server, own));
        let servers: Arc<[SocketAddr]> = servers.take(ASKED).collect();
        if servers.is_empty() {
            tracing::warn!(?file, "the machine has no name servers: only names of the mesh are answered");
        }
        Self(servers)
    }

    #[cfg(test)]
    pub fn to(servers: &[SocketAddr]) -> Self {
        Self(servers.into())
    }

    /// Asks one after the other until one answers.
    ///
    /// # Errors
    /// None does.
    pub async fn ask(&self, question: &[u8], over_tcp: bool) -> io::Result<Vec<u8>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "there are no name servers");
        for server in self.0.iter() {
            let asked = async { if over_tcp { tcp(*server, question).await } else { udp(*server, question).await } };
            match tokio::time::timeout(ANSWERS, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

fn is_own(server: SocketAddr, own: SocketAddr) -> bool {
    server.port() == own.port() && (server.ip() == own.ip() || (own.ip().is_unspecified() && server.ip().is_loopback()))
}

async fn udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut answer).await?;
        // A late answer to somebody else's question has another number.
        if length >= 12 && answer[..2] == question[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_of_the_machine_but_not_ourselves() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "search x\nnameserver 127.0.0.1\nnameserver 10.0.0.2\nodd\nnameserver fd00::1\n")
            .unwrap();
        let of = |own: &str| Upstream::of_machine(file.path(), own.parse().unwrap()).0.to_vec();
        let all: Vec<SocketAddr> = ["127.0.0.1:53", "10.0.0.2:53", "[fd00::1]:53"].map(|at| at.parse().unwrap()).into();
        assert_eq!(of("0.0.0.0:15053"), all);
        assert_eq!(of("0.0.0.0:53"), all[1..]);
        assert!(Upstream::of_machine(Path::new("/nope"), "0.0.0.0:53".parse().unwrap()).0.is_empty());
    }
}
