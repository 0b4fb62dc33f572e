//! Who may do what: lists of users and groups per permission (api-and-kumactl 2.9).
//!
//! One rule is stricter than Kuma's: writing takes a token or a place on the machine. Adding the group of the
//! unauthenticated to [`Access::write`] gives Kuma's openness.

use serde::Deserialize;

use crate::user::{ADMIN, AUTHENTICATED, UNAUTHENTICATED, User};

/// Users and groups that have a permission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// Names of users.
    pub users: Vec<String>,
    /// Groups; being in one is enough.
    pub groups: Vec<String>,
}

impl Permission {
    /// Administrators alone.
    pub fn of_admins() -> Self {
        Self { users: vec![ADMIN.to_owned()], groups: vec![ADMIN.to_owned()] }
    }

    /// Everybody who proved who they are.
    pub fn of_authenticated() -> Self {
        Self { users: Vec::new(), groups: vec![AUTHENTICATED.to_owned()] }
    }

    /// Everybody.
    pub fn of_everybody() -> Self {
        Self { users: Vec::new(), groups: vec![UNAUTHENTICATED.to_owned(), AUTHENTICATED.to_owned()] }
    }

    /// Whether a caller has it.
    pub fn allows(&self, user: &User) -> bool {
        self.users.contains(&user.name) || user.groups.iter().any(|group| self.groups.contains(group))
    }
}

/// The permissions of one control plane, `access.static` in its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Access {
    /// Secrets, to read as well as to write.
    pub admin_resources: Permission,
    /// Writing of everything else.
    pub write: Permission,
    /// Tokens of data plane proxies.
    #[serde(rename = "generateDpToken")]
    pub generate_dataplane_token: Permission,
    /// Tokens of zones.
    pub generate_zone_token: Permission,
    /// Tokens of users.
    pub generate_user_token: Permission,
    /// Configuration of a proxy.
    pub view_config_dump: Permission,
    /// Statistics of a proxy.
    pub view_stats: Permission,
    /// Clusters of a proxy.
    pub view_clusters: Permission,
    /// Configuration of the control plane.
    pub control_plane_metadata: Permission,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            admin_resources: Permission::of_admins(),
            write: Permission::of_authenticated(),
            generate_dataplane_token: Permission::of_admins(),
            generate_zone_token: Permission::of_admins(),
            generate_user_token: Permission::of_admins(),
            view_config_dump: Permission::of_everybody(),
            view_stats: Permission::of_everybody(),
            view_clusters: Permission::of_everybody(),
            control_plane_metadata: Permission::of_everybody(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_or_one_of_its_groups_is_enough() {
        let access = Access::default();
        let ops = User::authenticated("jo".into(), vec!["ops".into()]);
        assert!(access.admin_resources.allows(&User::admin()));
        assert!(!access.admin_resources.allows(&ops));
        assert!(Permission { users: vec!["jo".into()], groups: vec![] }.allows(&ops));
        assert!(Permission { users: vec![], groups: vec!["ops".into()] }.allows(&ops));
    }

    /// The defaults are those of the configuration, and the fields are its keys.
    #[test]
    fn it_is_what_the_configuration_says() {
        for role in [config::Role::Global, config::Role::Zone] {
            let effective = config::Loader::new(role).load().unwrap().effective;
            let read = effective.typed::<serde_json::Value>().unwrap();
            let access: Access = serde_json::from_value(read["access"]["static"].clone()).unwrap();
            assert_eq!(access, Access::default());
        }
    }

    #[test]
    fn the_unauthenticated_read_and_do_not_write() {
        let mut access = Access::default();
        assert!(access.control_plane_metadata.allows(&User::anonymous()));
        assert!(!access.write.allows(&User::anonymous()));
        access.write.groups.push(UNAUTHENTICATED.to_owned());
        assert!(access.write.allows(&User::anonymous()));
    }
}
