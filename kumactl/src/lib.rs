//! The operator's tool: a client of the REST API of a control plane, ours or Kuma's (api-and-kumactl section 4).
//!
//! [`run`] is the whole program: arguments in, exit code out, everything else through [`Io`], so that a test runs it as
//! a user does. Below it, [`command`] is the tree of commands; a module per command has its arguments and its work side
//! by side; [`client`] speaks HTTP, [`settings`] is the configuration file, [`output`] prints.

mod apply;
mod client;
mod command;
mod compatibility;
mod completion;
mod delete;
mod diff;
mod export;
mod failure;
mod flags;
mod generate;
mod get;
mod inspect;
mod io;
mod kinds;
mod output;
mod settings;
mod version;

pub use command::run;
pub use completion::answer as complete;
pub use io::{Io, Terminal};
