//! Deterministic simulation of KDS: a global of one or two replicas and 2 to 20 zones.
//!
//! [`peer`] is what dials the global besides them, to break the protocol or to lie.
//! [`world`] lets users write and things go wrong, as a seed says. [`oracle`] knows what users were told, and nothing of
//! how control planes work; it looks at every commit on every disk and says what must not be:
//!
//! - an acknowledged write that is gone, or a write that nobody asked for, where the writer wrote it;
//! - an object that vanishes elsewhere though nobody deleted it (*missing is unknown, never empty*);
//! - an object that comes back after its deletion, or goes back to an older version;
//! - anything of one zone that another one said was its, by label, name or spec;
//! - a write of a leader that is deposed;
//! - a resource that is refused, where its author's side does not count it, or where the copy that it hit does not live;
//! - after the last fault and a while of quiet: any difference between what was written and what each one holds.

mod content;
mod machine;
mod network;
mod oracle;
mod peer;
mod trace;
mod world;

/// What became of one seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened, a line each; equal for equal seeds.
    pub trace: String,
    /// What must not be, if it was.
    pub failure: Option<String>,
}

/// Simulates one seed, in this thread.
///
/// Equal traces need more than equal seeds: tokio and hash tables ask the system for random numbers when they are first
/// used in a thread. The program `sim` answers such questions from the seed, in a process of its own for each.
pub fn run(seed: u64) -> Outcome {
    world::World::new(seed).run()
}
