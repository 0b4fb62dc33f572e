//! The configuration of a control plane, with Kuma's keys, variables, defaults and messages (api-and-kumactl section 5).
//!
//! Every key stands once, in [`table`]. Four layers give it its value: the default, a YAML file, the environment, flags;
//! the later wins, and each [`Setting`] knows where its value comes from. A program reads its settings as a struct of
//! its own by [`Effective::typed`], which holds exactly the keys that the table says it reads.
//!
//! ```
//! use config::{Loader, Role};
//!
//! let loaded = Loader::new(Role::Zone).env([("KUMA_MULTIZONE_ZONE_NAME", "east")]).load()?;
//! assert_eq!(loaded.effective.text("multizone.zone.name"), "east");
//! assert_eq!(loaded.effective.setting("multizone.zone.name").source.to_string(), "KUMA_MULTIZONE_ZONE_NAME");
//! # Ok::<(), config::Error>(())
//! ```

mod automatic;
pub mod cli;
mod effective;
mod file;
mod key;
mod loader;
pub mod table;
mod validate;
mod value;

pub use automatic::{Host, TLS_CERT_FILE, TLS_KEY_FILE};
pub use effective::{Effective, Setting, Source};
pub use key::{Key, Role};
pub use loader::{Error, Loaded, Loader};
pub use validate::zone_name;
pub use value::Value;
