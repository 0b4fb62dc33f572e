//! One key of the configuration, as the table describes it.

use crate::value::Kind;

/// Which control plane reads the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The hub.
    Global,
    /// A zone's.
    Zone,
}

impl Role {
    /// Value of the key `mode`.
    pub const fn mode(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Zone => "zone",
        }
    }
}

/// Which control planes do something with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readers {
    global: bool,
    zone: bool,
}

pub(crate) const GLOBAL: Readers = Readers { global: true, zone: false };
pub(crate) const ZONE: Readers = Readers { global: false, zone: true };
pub(crate) const BOTH: Readers = Readers { global: true, zone: true };
/// A key of Kuma that we take and leave aside.
pub(crate) const NOWHERE: Readers = Readers { global: false, zone: false };

/// A row of the table.
#[derive(Debug)]
pub struct Key {
    /// Dotted path in the file, `multizone.zone.name`.
    pub path: &'static str,
    pub(crate) kind: Kind,
    default: Default,
    readers: Readers,
    env: Env,
    /// Left out of `/config` when it is empty.
    pub(crate) omit_empty: bool,
    /// Never shown.
    pub(crate) secret: bool,
    /// Not a key of Kuma.
    pub(crate) ours: bool,
}

#[derive(Debug)]
enum Default {
    /// In the spelling of the environment.
    Text(&'static str),
    Computed(fn(Role) -> String),
}

#[derive(Debug)]
enum Env {
    /// From the path: `dnsServer.domain` is `KUMA_DNS_SERVER_DOMAIN`.
    Derived,
    Named(&'static str),
    /// The file alone.
    None,
}

/// A row; the default is spelled as in the environment.
pub(crate) const fn key(path: &'static str, kind: Kind, default: &'static str, readers: Readers) -> Key {
    let default = Default::Text(default);
    Key { path, kind, default, readers, env: Env::Derived, omit_empty: false, secret: false, ours: false }
}

impl Key {
    pub(crate) const fn env(self, name: &'static str) -> Self {
        Self { env: Env::Named(name), ..self }
    }

    pub(crate) const fn no_env(self) -> Self {
        Self { env: Env::None, ..self }
    }

    pub(crate) const fn computed(self, default: fn(Role) -> String) -> Self {
        Self { default: Default::Computed(default), ..self }
    }

    pub(crate) const fn omit_empty(self) -> Self {
        Self { omit_empty: true, ..self }
    }

    pub(crate) const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    pub(crate) const fn ours(self) -> Self {
        Self { ours: true, ..self }
    }

    /// Whether a control plane does something with it.
    pub fn read_by(&self, role: Role) -> bool {
        match role {
            Role::Global => self.readers.global,
            Role::Zone => self.readers.zone,
        }
    }

    /// The other control plane, when that one alone reads it.
    pub(crate) fn read_by_other(&self, role: Role) -> Option<Role> {
        let other = if role == Role::Global { Role::Zone } else { Role::Global };
        (!self.read_by(role) && self.read_by(other)).then_some(other)
    }

    /// Name of its environment variable; a few keys have none.
    pub fn variable(&self) -> Option<String> {
        match self.env {
            Env::Derived => Some(derived_variable(self.path)),
            Env::Named(name) => Some(name.to_owned()),
            Env::None => None,
        }
    }

    pub(crate) fn default_text(&self, role: Role) -> String {
        match self.default {
            Default::Text(text) => text.to_owned(),
            Default::Computed(compute) => compute(role),
        }
    }

    /// Name of the Go field, as Kuma's messages about variables call it.
    pub(crate) fn field_name(&self) -> String {
        let last = self.path.rsplit('.').next().unwrap_or(self.path);
        let initials = ["dns", "nack", "uid", "gid", "cni", "vip"].into_iter().find(|word| {
            last.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_uppercase()))
        });
        let upper = initials.map_or(1, str::len);
        last[..upper].to_uppercase() + &last[upper..]
    }
}

/// `KUMA_` and the words of the path; a word starts at a dot, or at a capital that follows or precedes a small letter.
fn derived_variable(path: &str) -> String {
    let letters: Vec<char> = path.chars().collect();
    let mut name = String::from("KUMA_");
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| letters[before]);
        let word_ends = before.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let word_starts =
            before.is_some_and(|b| b.is_ascii_uppercase()) && letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        match letter {
            '.' => name.push('_'),
            _ if letter.is_ascii_uppercase() && (word_ends || word_starts) => name.extend(['_', *letter]),
            _ => name.push(letter.to_ascii_uppercase()),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_follow_from_paths() {
        for (path, variable) in [
            ("general.dnsCacheTTL", "KUMA_GENERAL_DNS_CACHE_TTL"),
            ("dnsServer.CIDR", "KUMA_DNS_SERVER_CIDR"),
            ("defaults.SkipHostnameGenerators", "KUMA_DEFAULTS_SKIP_HOSTNAME_GENERATORS"),
            ("multizone.zone.kds.rootCaFile", "KUMA_MULTIZONE_ZONE_KDS_ROOT_CA_FILE"),
            ("store.postgres.tls.disableSSLSNI", "KUMA_STORE_POSTGRES_TLS_DISABLE_SSLSNI"),
        ] {
            assert_eq!(derived_variable(path), variable);
        }
    }

    #[test]
    fn fields_are_called_as_kuma_calls_them() {
        for (path, field) in [
            ("general.dnsCacheTTL", "DNSCacheTTL"),
            ("multizone.global.kds.grpcPort", "GrpcPort"),
            ("xdsServer.nackBackoff", "NACKBackoff"),
            ("dpServer.port", "Port"),
        ] {
            assert_eq!(key(path, Kind::Text, "", BOTH).field_name(), field);
        }
    }
}
