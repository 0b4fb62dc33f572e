//! A collector of traces for tests: `target/rotel/VERSION/rotel`, from the Python package `rotel`.

use crate::packaged::Packaged;

/// A release that is known to run.
const VERSION: &str = "0.0.1a15";
const ROTEL: Packaged = Packaged { name: "rotel", package: "rotel", inside: "rotel/rotel-agent" };

/// Fetches it if it is missing. Without it one test says that it did not run.
pub fn set_up() {
    if let Err(error) = ROTEL.fetch(VERSION) {
        println!("set-up: *** the collector of traces cannot be fetched, its test will not run: {error:#}");
    }
}
