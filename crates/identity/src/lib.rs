//! Who is who: callers of the API and what they may do, tokens and the keys that sign them, TLS certificates, certificate
//! authorities, and how a proxy introduces itself.

pub mod access;
pub mod bootstrap;
pub mod ca;
pub mod caller;
mod configured;
pub mod first_start;
pub mod instances;
pub mod mesh_ca;
pub mod signing_key;
pub mod tls;
pub mod token;
pub mod user;

pub use access::{Access, Permission};
pub use caller::{Authentication, RequestFacts};
pub use signing_key::SigningKey;
pub use user::User;
