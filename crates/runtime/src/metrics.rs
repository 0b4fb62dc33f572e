//! The registry of metrics and its OpenMetrics text.
//!
//! A part of a program keeps its metrics in one struct beside its code and registers them here by name. The only file
//! that names the exporter's text format.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::registry::Registry;

/// Content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a program. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Registers metrics; counters without `_total`, units in the name's last word.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.lock())
    }

    /// Everything in OpenMetrics text.
    ///
    /// # Errors
    /// A label cannot be written.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.lock())?;
        Ok(text)
    }

    /// A table of all metrics for the documentation: name, type, unit, meaning.
    ///
    /// # Errors
    /// A label cannot be written.
    pub fn markdown(&self) -> Result<String, fmt::Error> {
        let text = self.text()?;
        let mut table = String::from("| Metric | Type | Unit | Meaning |\n|---|---|---|---|\n");
        let facts = |word: &str| {
            let prefix = format!("# {word} ");
            text.lines()
                .filter_map(move |line| line.strip_prefix(&*prefix.clone())?.split_once(' '))
                .collect::<Vec<_>>()
        };
        let (types, units) = (facts("TYPE"), facts("UNIT"));
        let of =
            |facts: &[(&str, &str)], name| facts.iter().find(|(n, _)| *n == name).map_or("", |(_, f)| f).to_owned();
        for (name, help) in facts("HELP") {
            let kind = of(&types, name);
            let suffix = if kind == "counter" { "_total" } else { "" };
            writeln!(table, "| `{name}{suffix}` | {kind} | {} | {help} |", of(&units, name))?;
        }
        Ok(table)
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::registry::Unit;

    use super::*;

    #[test]
    fn text_and_table_agree() {
        let metrics = Metrics::default();
        let (sent, age): (Counter, Gauge) = Default::default();
        metrics.register(|registry| {
            registry.register("kds_sent", "Messages sent", sent.clone());
            registry.register_with_unit("snapshot_age", "Age of the snapshot", Unit::Seconds, age.clone());
        });
        sent.inc();
        let text = metrics.text().unwrap();
        assert!(text.contains("kds_sent_total 1\n") && text.ends_with("# EOF\n"), "{text}");
        assert_eq!(
            metrics.markdown().unwrap(),
            "| Metric | Type | Unit | Meaning |\n|---|---|---|---|\n\
             | `kds_sent_total` | counter |  | Messages sent. |\n\
             | `snapshot_age_seconds` | gauge | seconds | Age of the snapshot. |\n"
        );
    }
}
