//! What the kernel is told of a TCP connection: to notice that its other end is gone though nobody said so.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

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
