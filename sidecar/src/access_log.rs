//! Access logs: Envoy writes lines into a pipe, each with the address of who collects it (zone-dataplane 1.3).
//!
//! A line is `{"address": "host:port", "message": ..}` or, of the old TrafficLog, `host:port;text`. Lines that cannot be
//! delivered are dropped and counted: a collector that hangs stops no proxy.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use prometheus_client::metrics::counter::Counter;
use runtime::{Fatal, Life, Metrics};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::codec::{Decoder, LinesCodec};

use crate::lasting;
use crate::sockets::Sockets;

/// Longest line, in bytes.
const LONGEST: usize = 64 << 10;
/// Lines that wait for a collector.
const WAITING: usize = 1024;
/// Collectors at a time; policies name few.
const COLLECTORS: usize = 64;
const CONNECTS: Duration = Duration::from_secs(5);
const WRITES: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Default)]
struct Counters {
    sent: Counter,
    dropped: Counter,
}

/// Streams lines until the program ends.
///
/// # Errors
/// There can be no pipe at that path.
pub fn stream(sockets: &Sockets, metrics: &Metrics, life: &Life) -> Result<(), Fatal> {
    let path = sockets.access_log.clone();
    let cannot = |error: io::Error| Fatal::new(format!("cannot make the pipe {path:?}")).caused_by(error);
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).map_err(|error| cannot(error.into()))?;
    let counters = Counters::default();
    metrics.register(|registry| {
        registry.register(
            "dp_access_log_lines_sent",
            "Lines of access logs that went to a collector",
            counters.sent.clone(),
        );
        let help = "Lines of access logs that were dropped: nobody took them, or in no known form";
        registry.register("dp_access_log_lines_dropped", help, counters.dropped.clone());
    });
    life.tasks().spawn(lasting("access-log"), move || {
        let (path, counters) = (path.clone(), counters.clone());
        async move { read(&path, &counters).await }
    });
    Ok(())
}

async fn read(path: &Path, counters: &Counters) -> anyhow::Result<()> {
    // For writing too: the pipe must not end when Envoy closes its side.
    let mut pipe = pipe::OpenOptions::new().read_write(true).open_receiver(path)?;
    let (mut lines, mut arrived) = (LinesCodec::new_with_max_length(LONGEST), BytesMut::new());
    let mut collectors = Collectors::default();
    loop {
        pipe.read_buf(&mut arrived).await?;
        loop {
            match lines.decode(&mut arrived) {
                Ok(Some(line)) => collectors.take(&line, counters),
                Ok(None) => break,
                // Too long, or no text; the next one may be better.
                Err(error) => {
                    counters.dropped.inc();
                    tracing::debug!(%error, "a line of an access log cannot be read");
                }
            }
        }
    }
}

/// Those whom lines have named, while they can be reached.
#[derive(Debug, Default)]
struct Collectors(HashMap<String, mpsc::Sender<Vec<u8>>>);

impl Collectors {
    fn take(&mut self, line: &str, counters: &Counters) {
        let Some((address, text)) = parse(line) else {
            counters.dropped.inc();
            tracing::debug!(line, "a line of an access log has no known form");
            return;
        };
        self.0.retain(|_, collector| !collector.is_closed());
        if !self.0.contains_key(&address) && self.0.len() < COLLECTORS {
            self.0.insert(address.clone(), collector(address.clone(), counters.clone()));
        }
        if self.0.get(&address).is_none_or(|collector| collector.try_send(text).is_err()) {
            counters.dropped.inc();
        }
    }
}

fn parse(line: &str) -> Option<(String, Vec<u8>)> {
    #[derive(Deserialize)]
    struct Wrapped {
        address: String,
        message: Value,
    }
    let (address, mut text) = match serde_json::from_str::<Wrapped>(line) {
        Ok(Wrapped { address, message: Value::String(text) }) => (address, text.into_bytes()),
        Ok(Wrapped { address, message }) => (address, message.to_string().into_bytes()),
        Err(_) => {
            let (address, text) = line.split_once(';')?;
            (address.to_owned(), text.as_bytes().to_vec())
        }
    };
    if text.last() != Some(&b'\n') {
        text.push(b'\n');
    }
    Some((address, text))
}

/// Sends to one collector until it fails; the next line tries again.
fn collector(address: String, counters: Counters) -> mpsc::Sender<Vec<u8>> {
    let (sender, mut lines) = mpsc::channel::<Vec<u8>>(WAITING);
    tokio::spawn(async move {
        let connected = tokio::time::timeout(CONNECTS, TcpStream::connect(&address)).await;
        let mut stream = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(address, %error, "the collector of access logs cannot be reached");
                counters.dropped.inc_by(lines.len() as u64);
                return;
            }
        };
        while let Some(line) = lines.recv().await {
            match tokio::time::timeout(WRITES, stream.write_all(&line)).await {
                Ok(Ok(())) => counters.sent.inc(),
                _ => {
                    tracing::warn!(address, "the collector of access logs takes no more");
                    counters.dropped.inc_by(1 + lines.len() as u64);
                    return;
                }
            };
        }
    });
    sender
}

#[cfg(test)]
mod tests {
    use runtime::Clock;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::drain_limits;

    #[test]
    fn both_forms_are_understood() {
        let text = |line: &str| parse(line).map(|(address, text)| (address, String::from_utf8(text).unwrap()));
        let to = |text: &str| Some(("a:1".to_owned(), text.to_owned()));
        assert_eq!(text(r#"{"address":"a:1","message":"hello\n"}"#), to("hello\n"));
        assert_eq!(text(r#"{"address":"a:1","message":{"b":2}}"#), to("{\"b\":2}\n"));
        assert_eq!(text("a:1;x;y"), to("x;y\n"));
        assert_eq!(text("hello"), None);
    }

    #[tokio::test]
    async fn lines_go_to_whom_they_name_and_others_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (life, metrics) = (Life::new(Clock::system(), drain_limits(Duration::from_secs(1))), Metrics::default());
        let sockets = Sockets::take(folder.path(), "web", "default").await.unwrap();
        stream(&sockets, &metrics, &life).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let long = "x".repeat(LONGEST + 1);
        let lines =
            format!("nonsense\n{address};{long}\n{address};one\n{{\"address\":\"{address}\",\"message\":\"two\"}}\n");
        let path = sockets.access_log.clone();
        tokio::task::spawn_blocking(move || std::fs::write(path, lines)).await.unwrap().unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut received = BufReader::new(stream).lines();
        assert_eq!(received.next_line().await.unwrap().unwrap(), "one");
        assert_eq!(received.next_line().await.unwrap().unwrap(), "two");
        assert!(metrics.text().unwrap().contains("dp_access_log_lines_dropped_total 2"));
    }
}
