//! The name server beside a workload: names of the mesh are answered here, all others where the machine asks
//! (zone-dataplane 8.5). UDP and TCP.

mod names;
mod server;
mod upstream;

pub use names::{Names, Records};
pub use server::serve;
