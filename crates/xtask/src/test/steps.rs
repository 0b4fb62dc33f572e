//! Cargo as a step, and what became of the tests it ran.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Tests of a step that passed, and those that were left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub passed: u64,
    pub ignored: u64,
}

impl Passed {
    /// That many, and none left out.
    pub fn all(passed: u64) -> Self {
        Self { passed, ignored: 0 }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { passed: 0, .. } => Ok(()),
            Self { passed, ignored: 0 } => write!(f, "{passed} passed"),
            Self { passed, ignored } => write!(f, "{passed} passed, {ignored} left out"),
        }
    }
}

/// Runs cargo, its output unchanged.
pub fn cargo(arguments: &[&str]) -> Result<Passed> {
    let status = command(arguments).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo {} ({status})", arguments.join(" "));
    }
    Ok(Passed::default())
}

/// Runs the tests of the whole workspace, the slow ones too unless `quick`, and adds up what they say.
///
/// A failing test does not stop the others.
pub fn cargo_test(quick: bool) -> Result<Passed> {
    let mut arguments = vec!["test", "--workspace", "--no-fail-fast"];
    if !quick {
        arguments.extend(["--", "--include-ignored"]);
    }
    let mut child = command(&arguments).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut total = Passed::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            if let Some(Passed { passed, ignored }) = result_line(&line) {
                total.passed += passed;
                total.ignored += ignored;
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo {} ({status}); {total}", arguments.join(" "));
    }
    Ok(total)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(workspace::root());
    command
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; ..`, which libtest prints for each binary.
fn result_line(line: &str) -> Option<Passed> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok()).unwrap_or_default()
    };
    Some(Passed { passed: count("passed"), ignored: count("ignored") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_each_binary_is_counted() {
        let line = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.05s";
        assert_eq!(result_line(line), Some(Passed { passed: 12, ignored: 3 }));
        assert_eq!(result_line("test result: FAILED. 1 passed; 2 failed"), Some(Passed { passed: 1, ignored: 0 }));
        assert_eq!(result_line("test a::b ... ok"), None);
    }
}
