//! Callers of the API (api-and-kumactl 2.8).

use std::fmt;

use serde::Serialize;

/// Name and group of administrators.
pub const ADMIN: &str = "mesh-system:admin";
/// Group of everybody who proved who they are.
pub const AUTHENTICATED: &str = "mesh-system:authenticated";
/// Group of everybody else.
pub const UNAUTHENTICATED: &str = "mesh-system:unauthenticated";
/// Name of everybody else.
const ANONYMOUS: &str = "mesh-system:anonymous";

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// The name in the token, or one of the two that the system gives.
    pub name: String,
    /// Groups of the caller.
    pub groups: Vec<String>,
}

impl User {
    /// Somebody on this machine, who is trusted.
    pub fn admin() -> Self {
        Self { name: ADMIN.to_owned(), groups: vec![ADMIN.to_owned(), AUTHENTICATED.to_owned()] }
    }

    /// Somebody who showed nothing.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()] }
    }

    /// Somebody who showed a good token.
    pub fn authenticated(name: String, mut groups: Vec<String>) -> Self {
        groups.push(AUTHENTICATED.to_owned());
        Self { name, groups }
    }
}

/// `name/group,group`, as refusals name a caller.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.groups.join(","))
    }
}
