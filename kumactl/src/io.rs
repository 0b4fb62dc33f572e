//! What a call of the program touches of the world, as an argument.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset, Local};
use runtime::Clock;

/// Largest input that is read, bytes.
const MOST_INPUT: u64 = 64 << 20;

/// Which of the two outputs a person looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// Standard output: colours.
    pub output: bool,
    /// Standard error: advice besides the error.
    pub errors: bool,
}

/// Streams, folders and time of one call.
pub struct Io {
    /// Standard input.
    pub stdin: Box<dyn Read>,
    /// Standard output.
    pub stdout: Box<dyn Write>,
    /// Standard error.
    pub stderr: Box<dyn Write>,
    /// Whether a person looks.
    pub terminal: Terminal,
    /// Folder that relative paths start from.
    pub directory: PathBuf,
    /// The user's home, where the configuration lies.
    pub home: Option<PathBuf>,
    /// What time it is.
    pub clock: Clock,
    /// The time zone in which dates are printed; `None` for the system's.
    pub zone: Option<FixedOffset>,
}

impl Io {
    /// What the process was started with.
    pub fn of_process() -> Self {
        Self {
            stdin: Box::new(std::io::stdin()),
            stdout: Box::new(std::io::stdout()),
            stderr: Box::new(std::io::stderr()),
            terminal: Terminal { output: std::io::stdout().is_terminal(), errors: std::io::stderr().is_terminal() },
            directory: PathBuf::new(),
            home: std::env::home_dir(),
            clock: Clock::system(),
            zone: None,
        }
    }

    /// A path as the user means it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// A moment as the user's wall clock shows it.
    pub(crate) fn wall(&self, moment: DateTime<chrono::Utc>) -> DateTime<FixedOffset> {
        match self.zone {
            Some(zone) => moment.with_timezone(&zone),
            None => moment.with_timezone(&Local).fixed_offset(),
        }
    }

    /// All of standard input, within bounds.
    pub(crate) fn read_stdin(&mut self) -> std::io::Result<Vec<u8>> {
        bounded(&mut self.stdin)
    }
}

/// A file, within bounds: a pipe or a device may never end.
pub(crate) fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    bounded(&mut std::fs::File::open(path)?)
}

fn bounded(reader: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    reader.take(MOST_INPUT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MOST_INPUT {
        return Err(std::io::Error::other(format!("more than {} MiB are not read", MOST_INPUT >> 20)));
    }
    Ok(content)
}

/// `no such file or directory`, without Rust's number, as operators know it from other tools.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_system_reads_as_in_other_tools() {
        let error = std::fs::File::open("/nowhere/at/all").unwrap_err();
        assert_eq!(plain(&error), "no such file or directory");
    }

    #[test]
    fn an_endless_file_ends() {
        let error = read_file(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "more than 64 MiB are not read");
    }
}
