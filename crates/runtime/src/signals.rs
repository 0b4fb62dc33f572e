//! Unix signals: the first SIGTERM or SIGINT drains, a second one exits at once, SIGHUP reloads.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::life::{Reload, Stop};

/// Listens for signals until the program ends.
///
/// # Errors
/// The system refuses a handler.
pub fn listen(stop: Stop, reload: Reload) -> io::Result<()> {
    let streams = Streams {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    tokio::spawn(streams.follow(stop, reload));
    Ok(())
}

struct Streams {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Streams {
    async fn follow(mut self, stop: Stop, reload: Reload) {
        loop {
            let (kind, name) = tokio::select! {
                _ = self.terminate.recv() => (SignalKind::terminate(), "SIGTERM"),
                _ = self.interrupt.recv() => (SignalKind::interrupt(), "SIGINT"),
                _ = self.hangup.recv() => {
                    tracing::info!(signal = "SIGHUP", "reading certificates and rules again");
                    reload.notify();
                    continue;
                }
            };
            if stop.is_asked() {
                tracing::warn!(signal = name, "second signal: exiting at once");
                std::process::exit(128 + kind.as_raw_value());
            }
            tracing::info!(signal = name, "draining; a second signal exits at once");
            stop.ask();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use crate::Life;
    use crate::clock::Clock;
    use crate::drain::Limits;

    /// Set for the process that is the program below.
    const IS_PROGRAM: &str = "SIGNALS_PROGRAM";

    /// Not a test: the program that the tests below send signals to. It says what it sees on stdout.
    #[tokio::test]
    #[ignore = "started by the other tests"]
    async fn program() {
        if std::env::var_os(IS_PROGRAM).is_none() {
            return;
        }
        let life = Life::new(Clock::system(), Limits::default());
        super::listen(life.stop().clone(), life.reload().clone()).unwrap();
        let (listener, mut reload) = (life.drain().listener(), life.reload().subscribe());
        let stuck = std::env::var_os("STUCK").map(|_| listener.clone());
        tokio::spawn(async move {
            println!("\nready");
            reload.changed().await.unwrap();
            println!("reload");
            listener.closing().await;
            println!("draining");
        });
        let exit = life.end().await;
        drop(stuck);
        println!("{exit:?}");
        std::process::exit(i32::from(exit != crate::Exit::Clean));
    }

    fn start(stuck: bool) -> (Child, impl FnMut(&str)) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "signals::tests::program", "--ignored", "--nocapture"]).stdout(Stdio::piped());
        command.env(IS_PROGRAM, "1");
        if stuck {
            command.env("STUCK", "1");
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, move |text| while lines.next().expect(text).unwrap() != text {})
    }

    fn send(child: &Child, signal: &str) {
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    }

    #[test]
    fn hangup_reloads_and_terminate_drains() {
        let (mut child, mut wait_for) = start(false);
        wait_for("ready");
        send(&child, "-HUP");
        wait_for("reload");
        send(&child, "-TERM");
        wait_for("draining");
        wait_for("Clean");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    #[test]
    fn a_second_signal_exits_at_once() {
        let (mut child, mut wait_for) = start(true);
        wait_for("ready");
        send(&child, "-HUP");
        wait_for("reload");
        send(&child, "-INT");
        wait_for("draining");
        let before = std::time::Instant::now();
        send(&child, "-TERM");
        assert_eq!(child.wait().unwrap().code(), Some(143));
        assert!(before.elapsed() < Limits::default().listeners / 2);
    }
}
