//! TCP connections: how they are made, and what the kernel is told to notice that their other end is gone though nobody
//! said so.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

/// From the last packet heard until a dead connection is closed: two seconds of quiet, then a question each second.
pub const SILENCE: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Sends small writes at once, and has reads and writes fail [`SILENCE`] after the other end was last heard, whether
/// something waits to be acknowledged or not.
///
/// # Errors
/// The kernel refuses.
pub fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(QUIET).with_interval(ASK_EVERY).with_retries(3))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE))?;
    Ok(())
}

/// A connection to the first address of a name that answers, each within `patience`.
///
/// # Errors
/// The name has no address, or none answers; the reason of the last is told.
pub async fn reach(host: &str, port: u16, patience: Duration) -> Result<TcpStream> {
    let addresses = lookup_host((host, port)).await.with_context(|| format!("cannot find \"{host}\""))?;
    let mut last = anyhow!("\"{host}\" has no address");
    for address in addresses {
        match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = anyhow::Error::new(error),
            Err(_) => last = anyhow!("no answer within {} s", patience.as_secs()),
        }
        last = last.context(address);
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_holds_what_it_was_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        notice_silence(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), QUIET);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), ASK_EVERY);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(SILENCE));
    }
}
