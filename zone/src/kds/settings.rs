//! How a zone reaches its global (kds-wire 1.2, 6.2).

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::{Effective, Source};
use model::Kind;
use runtime::Fatal;
use runtime::tasks::Backoff;
use url::Url;

/// Longest token of a zone, in bytes.
const MAX_TOKEN: u64 = 16 << 10;
/// Where the global listens when the address names no port; Kuma's zones assume it too.
const ASSUMED_PORT: u16 = 443;
/// Pauses between two tries, unless somebody set those of Kuma.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_secs(5) };

/// The global of a zone, and the way to it.
#[derive(Clone, Debug)]
pub struct Federation {
    /// Where it listens.
    pub global: Address,
    /// What proves the zone's name; a global of Kuma wants nothing.
    pub token: Token,
    /// Authorities that may have signed the global's certificate, PEM; the machine's without.
    pub ca_file: Option<PathBuf>,
    /// Whether any certificate will do.
    pub skip_verify: bool,
    /// Longest message, in bytes, either way.
    pub max_message: usize,
    /// Pauses between two tries to connect.
    pub backoff: Backoff,
    /// Kinds that are switched off.
    pub off: BTreeSet<Kind>,
    /// Labels with one of these prefixes are not told to the global.
    pub skip_prefixes: Vec<String>,
    /// The identity that this zone may give up.
    pub migrate_from: MigrateFrom,
    /// The zone's configuration, secrets masked, for the global's eyes.
    pub document: Arc<str>,
    /// Connects in place of the system's network.
    #[cfg(feature = "test-support")]
    pub connect: Option<super::dial::Connect>,
}

/// Where a global listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// Where the zone's token is.
#[derive(Clone, Default)]
pub enum Token {
    /// There is none.
    #[default]
    None,
    /// In the configuration.
    Inline(String),
    /// In a file, which is read for each connection, so that it can be exchanged.
    File(PathBuf),
}

/// What a zone was until now, as its operator says (`multizone.zone.migrateFrom`): without it a zone keeps to the name
/// and the global that it has joined with. Naming the old identity instead of a switch makes the setting harmless when it
/// stays behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrateFrom {
    /// The zone's old name.
    pub zone: Option<String>,
    /// `clusterId` of its old global.
    pub global: Option<String>,
}

impl Federation {
    /// `multizone.zone`; none without a global's address, or in the mode that Kuma once called standalone.
    ///
    /// # Errors
    /// The address cannot be used, the token cannot be read, or it would travel over plaintext.
    pub fn configured(effective: &Effective) -> Result<Option<Self>, Fatal> {
        let text = |word: &str| effective.text(&format!("multizone.zone.{word}"));
        let set = |word: &str| Some(text(word)).filter(|text| !text.is_empty()).map(str::to_owned);
        let Some(address) = set("globalAddress").filter(|_| effective.text("mode") != "standalone") else {
            return Ok(None);
        };
        let global = Address::parse(&address)?;
        let token = Token::configured(set("kds.auth.cpTokenPath"), set("kds.auth.cpTokenInline"))?;
        if !global.tls && token.is_set() && !effective.flag("multizone.zone.kds.auth.allowPlaintext") {
            return Err(Fatal::new(format!("the zone's token is not sent to \"{global}\", which is not encrypted"))
                .remedy(
                    "use grpcs://, or, if nobody can listen in, set multizone.zone.kds.auth.allowPlaintext here and \
                 multizone.global.kds.auth.allowPlaintext on the global",
                ));
        }
        Ok(Some(Self {
            global,
            token,
            ca_file: set("kds.rootCaFile").map(PathBuf::from),
            skip_verify: effective.flag("multizone.zone.kds.tlsSkipVerify"),
            max_message: usize::try_from(effective.number("multizone.zone.kds.maxMsgSize")).unwrap_or(usize::MAX),
            backoff: backoff(effective),
            off: effective.switched_off(),
            skip_prefixes: effective.texts("multizone.zone.kds.labels.skipPrefixes").to_vec(),
            migrate_from: MigrateFrom { zone: set("migrateFrom.zone"), global: set("migrateFrom.global") },
            document: effective.document().into(),
            #[cfg(feature = "test-support")]
            connect: None,
        }))
    }

    /// What an operator should know about a connection that is less than safe.
    pub fn warnings(&self) -> Vec<String> {
        let global = &self.global;
        let mut warnings = Vec::new();
        if !global.tls {
            warnings.push(format!("the connection to {global} is not encrypted: secrets of the mesh travel over it"));
        } else if self.skip_verify {
            warnings.push(format!(
                "tlsSkipVerify: whoever answers as {global} is taken for the global; name its authority with \
                 multizone.zone.kds.rootCaFile instead"
            ));
        }
        warnings
    }
}

impl Address {
    /// `grpcs://host:5685`, or `grpc://` without encryption.
    ///
    /// # Errors
    /// It is another kind of URL.
    pub fn parse(text: &str) -> Result<Self, Fatal> {
        let refused = || Fatal::new(format!("cannot use the global's address \"{text}\""));
        let remedy = "set multizone.zone.globalAddress to grpcs://host:5685, or to grpc://host:5685 without encryption";
        let url = Url::parse(text).map_err(|error| refused().caused_by(error).remedy(remedy))?;
        let tls = match url.scheme() {
            "grpcs" => true,
            "grpc" => false,
            other => return Err(refused().caused_by(format!("the scheme is \"{other}\"")).remedy(remedy)),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| refused().caused_by("it names no host").remedy(remedy))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: url.port().unwrap_or(ASSUMED_PORT), tls })
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "grpcs" } else { "grpc" }, self.authority())
    }
}

impl Token {
    /// One of the two settings; a file is read once, so that a misprint shows at start.
    fn configured(file: Option<String>, inline: Option<String>) -> Result<Self, Fatal> {
        let token = match (file, inline) {
            (Some(_), Some(_)) => {
                let what = "both multizone.zone.kds.auth.cpTokenPath and cpTokenInline are set";
                return Err(Fatal::new(what).remedy("keep one of them"));
            }
            (Some(file), None) => Self::File(file.into()),
            (None, Some(token)) => Self::Inline(token.trim().to_owned()),
            (None, None) => Self::None,
        };
        token.read().map(|_| token)
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The token as it is now.
    ///
    /// # Errors
    /// The file cannot be read, is empty or too large.
    pub fn read(&self) -> Result<Option<String>, Fatal> {
        match self {
            Self::None => Ok(None),
            Self::Inline(token) => Ok(Some(token.clone())),
            Self::File(file) => read(file).map(Some),
        }
    }
}

/// Without the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Inline(_) => f.write_str("Inline"),
            Self::File(file) => write!(f, "File({})", file.display()),
        }
    }
}

fn read(file: &Path) -> Result<String, Fatal> {
    let cannot = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Fatal::new(format!("cannot read the zone's token \"{}\"", file.display())).caused_by(cause).remedy(
            "set multizone.zone.kds.auth.cpTokenPath to a file made with 'kumactl generate zone-token --scope cp'",
        )
    };
    let mut token = String::new();
    let size = File::open(file).and_then(|file| file.take(MAX_TOKEN + 1).read_to_string(&mut token));
    match size.map_err(|error| cannot(error.into()))? {
        size if size as u64 > MAX_TOKEN => Err(cannot(format!("it is larger than {MAX_TOKEN} bytes").into())),
        _ if token.trim().is_empty() => Err(cannot("it is empty".into())),
        _ => Ok(token.trim().to_owned()),
    }
}

/// Kuma waits for 5 to 60 s, which is its default for many things; so only if somebody asked for it.
fn backoff(effective: &Effective) -> Backoff {
    let (base, max) = ("general.resilientComponentBaseBackoff", "general.resilientComponentMaxBackoff");
    if [base, max].iter().all(|key| effective.setting(key).source == Source::Default) {
        return BACKOFF;
    }
    let length = |key: &str| effective.duration(key).to_std().unwrap_or_default();
    Backoff { base: length(base), max: length(max) }
}

#[cfg(test)]
mod tests {
    use config::{Loader, Role};

    use super::*;

    fn configured(sets: &[&str]) -> Result<Option<Federation>, Fatal> {
        let loader = sets.iter().fold(Loader::new(Role::Zone), |loader, set| loader.set(set));
        Federation::configured(&loader.load().unwrap().effective)
    }

    const GLOBAL: &str = "multizone.zone.globalAddress=grpcs://global.example:5685";
    const PLAIN: &str = "multizone.zone.globalAddress=grpc://[::1]";
    const INLINE: &str = "multizone.zone.kds.auth.cpTokenInline= abc ";

    #[test]
    fn an_address_is_a_grpc_url() {
        let address = |text: &str| Address::parse(text).map(|address| (address.to_string(), address.authority()));
        for (text, shown, authority) in [
            ("grpcs://global.example:5685", "grpcs://global.example:5685", "global.example:5685"),
            ("grpcs://global.example", "grpcs://global.example:443", "global.example:443"),
            ("grpc://[::1]:5685/ignored", "grpc://[::1]:5685", "[::1]:5685"),
        ] {
            assert_eq!(address(text).unwrap(), (shown.to_owned(), authority.to_owned()));
        }
        for (text, cause) in [
            ("http://x:1", ": the scheme is \"http\"; set"),
            ("global:5685", ": the scheme is \"global\"; set"),
            ("grpcs://", ": it names no host; set"),
            ("grpcs://x:port", ": invalid port number; set"),
            ("", ": relative URL without a base; set"),
        ] {
            let error = address(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot use the global's address \"{text}\"{cause}")), "{error}");
        }
    }

    #[test]
    fn a_token_never_travels_over_plaintext_unless_told_to() {
        let refused = configured(&[PLAIN, INLINE]).unwrap_err().to_string();
        assert!(refused.starts_with("the zone's token is not sent to \"grpc://[::1]:443\", which is not"), "{refused}");
        let allowed = [PLAIN, INLINE, "multizone.zone.kds.auth.allowPlaintext=true"];
        let federation = configured(&allowed).unwrap().unwrap();
        assert_eq!(federation.token.read().unwrap().as_deref(), Some("abc"));
        assert!(!format!("{federation:?}").contains("abc"));
        assert!(federation.warnings()[0].contains("not encrypted"));
        assert!(configured(&[PLAIN]).unwrap().is_some());
        assert!(configured(&[GLOBAL, INLINE]).unwrap().unwrap().warnings().is_empty());
        let blind = configured(&[GLOBAL, "multizone.zone.kds.tlsSkipVerify=true"]).unwrap().unwrap();
        assert!(blind.warnings()[0].starts_with("tlsSkipVerify: whoever answers as grpcs://global.example:5685 is"));
    }

    #[test]
    fn a_tokens_file_is_read_anew_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " first\n").unwrap();
        let path = format!("multizone.zone.kds.auth.cpTokenPath={}", file.path().display());
        let token = configured(&[GLOBAL, &path]).unwrap().unwrap().token;
        assert_eq!(token.read().unwrap().as_deref(), Some("first"));
        std::fs::write(file.path(), "second").unwrap();
        assert_eq!(token.read().unwrap().as_deref(), Some("second"));
        for (content, cause) in
            [("\n".to_owned(), "it is empty"), ("x".repeat(20_000), "it is larger than 16384 bytes")]
        {
            std::fs::write(file.path(), content).unwrap();
            let error = token.read().unwrap_err().to_string();
            assert!(error.starts_with("cannot read the zone's token") && error.contains(cause), "{error}");
        }
        let error = configured(&[GLOBAL, &path, INLINE]).unwrap_err().to_string();
        assert!(error.starts_with("both multizone.zone.kds.auth.cpTokenPath and cpTokenInline are set"), "{error}");
    }

    /// kds-wire 5.9: 5 to 60 s are Kuma's.
    #[test]
    fn pauses_are_short_unless_kumas_are_asked_for() {
        let pauses = |sets: &[&str]| configured(sets).unwrap().unwrap().backoff;
        assert_eq!(pauses(&[GLOBAL]).base, Duration::from_millis(100));
        assert_eq!(pauses(&[GLOBAL]).max, Duration::from_secs(5));
        let kumas = pauses(&[GLOBAL, "general.resilientComponentBaseBackoff=5s"]);
        assert_eq!((kumas.base, kumas.max), (Duration::from_secs(5), Duration::from_secs(60)));
    }

    #[test]
    fn without_an_address_a_zone_is_alone() {
        assert!(configured(&[]).unwrap().is_none());
        assert!(configured(&[GLOBAL, "mode=standalone"]).unwrap().is_none());
    }
}
