//! Values that cannot work, told in Kuma's words (api-and-kumactl 5.4). Faults of one section are joined with `; `.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::effective::Effective;
use crate::key::Role;

/// TLS versions by Kuma's names; empty is the library's own limit.
const TLS_VERSIONS: &[&str] = &["TLSv1_2", "TLSv1_3"];

/// The first section with a fault, with all faults of that section.
pub(crate) fn validate(settings: &Effective) -> Result<(), String> {
    let section =
        |name: &str, faults: Result<(), String>| faults.map_err(|fault| format!("{name} validation failed: {fault}"));
    section("Mode", mode(settings))?;
    match settings.role() {
        Role::Global => section("Multizone Global", joined(global(settings)))?,
        Role::Zone => {
            section("Multizone Zone", zone(settings))?;
            section("Xds Server", positive(settings, "xdsServer", "", &["dataplaneStatusFlushInterval"]))?;
            section(
                "Bootstrap Server",
                bootstrap(settings).map_err(|fault| format!("Params validation failed: {fault}")),
            )?;
            environment(settings)?;
            section("Metrics", metrics(settings))?;
        }
    }
    section("Store", store(settings))?;
    section("ApiServer", joined(api_server(settings)))?;
    section("DNSServer", dns(settings))?;
    section("Diagnostics", joined(tls(settings, "diagnostics", true)))?;
    section("IPAM", ipam(settings))
}

fn joined(faults: Vec<String>) -> Result<(), String> {
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

fn refuse_if(refused: bool, why: &str) -> Result<(), String> {
    if refused { Err(why.to_owned()) } else { Ok(()) }
}

/// Name of a field in Kuma's messages: the last word of the path with a capital.
fn field(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn positive(settings: &Effective, section: &str, dot: &str, words: &[&str]) -> Result<(), String> {
    let wrong = words.iter().find(|word| settings.duration(&format!("{section}.{word}")).nanos() <= 0);
    wrong.map_or(Ok(()), |word| Err(format!("{dot}{} must be positive", field(word))))
}

fn mode(settings: &Effective) -> Result<(), String> {
    let (mode, ours) = (settings.text("mode"), settings.role().mode());
    match mode {
        _ if mode == ours => Ok(()),
        // Its deprecated name for a zone without a global.
        "standalone" if settings.role() == Role::Zone => Ok(()),
        "standalone" | "zone" | "global" => Err(format!(
            "this program is the {ours} control plane; for mode {mode} run the other one or leave mode out"
        )),
        _ => Err("invalid mode. Available modes: standalone, zone, global".to_owned()),
    }
}

fn global(settings: &Effective) -> Vec<String> {
    let kds = "multizone.global.kds";
    let mut faults = Vec::new();
    if settings.number(&format!("{kds}.grpcPort")) > 65535 {
        faults.push(".GrpcPort must be in the range [0, 65535]".to_owned());
    }
    for word in ["refreshInterval", "zoneInsightFlushInterval"] {
        faults.extend(positive(settings, kds, ".", &[word]).err());
    }
    faults.extend(tls(settings, kds, true));
    let auth = settings.text(&format!("{kds}.auth.type"));
    if !["cpToken", "none"].contains(&auth) {
        faults.push(format!(".Auth.Type {auth:?} is not known: use cpToken, or none to let every zone in"));
    }
    let stranger = settings.texts(&format!("{kds}.auth.exceptZones")).iter().find_map(|name| zone_name(name).err());
    faults.extend(stranger.map(|fault| format!(".Auth.ExceptZones names no zone: {fault}")));
    let set = |word| settings.duration(&format!("{kds}.zoneHealthCheck.{word}")).nanos() > 0;
    if set("timeout") != set("pollInterval") {
        let fault = "timeout and pollInterval must both be either set or unset";
        faults.push(format!("invalid zoneHealthCheck config: {fault}"));
    }
    faults
}

/// Faults of certificate, key, versions and ciphers below a section.
fn tls(settings: &Effective, section: &str, pair: bool) -> Vec<String> {
    let text = |word: &str| settings.text(&format!("{section}.{word}"));
    let mut faults = Vec::new();
    for (missing, present) in [("tlsCertFile", "tlsKeyFile"), ("tlsKeyFile", "tlsCertFile")] {
        if pair && text(missing).is_empty() && !text(present).is_empty() {
            faults.push(format!(".{} cannot be empty if {} has been set", field(missing), field(present)));
        }
    }
    for word in ["tlsMinVersion", "tlsMaxVersion"] {
        let version = text(word);
        if !version.is_empty() && !TLS_VERSIONS.contains(&version) {
            let known = TLS_VERSIONS.join(" ");
            faults.push(format!(".{}unsupported tls version: {version} supported versions:[{known}]", field(word)));
        }
    }
    let known: Vec<String> = cipher_suites();
    for cipher in settings.texts(&format!("{section}.tlsCipherSuites")) {
        if !known.contains(cipher) {
            let known = known.join(" ");
            faults.push(format!(".TlsCipherSuitesunsupported tls cipher: {cipher} supported ciphers:[{known}]"));
        }
    }
    faults
}

/// Names of the ciphers that our TLS library has; Kuma's are the IANA names, and so are these.
fn cipher_suites() -> Vec<String> {
    let suites = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES.iter();
    let names = suites.filter_map(|suite| suite.suite().as_str().map(|name| name.replacen("TLS13_", "TLS_", 1)));
    names.collect()
}

fn zone(settings: &Effective) -> Result<(), String> {
    if settings.text("mode") == "standalone" {
        return Ok(());
    }
    zone_name(settings.text("multizone.zone.name"))?;
    let address = settings.text("multizone.zone.globalAddress");
    if address.is_empty() {
        return Ok(());
    }
    match url_scheme(address)
        .map_err(|fault| format!("unable to parse zone GlobalAddress.: parse {address:?}: {fault}"))?
    {
        "grpc" => Ok(()),
        "grpcs" => root_certificate(settings.text("multizone.zone.kds.rootCaFile")),
        other => Err(format!("unsupported scheme {other:?} in zone GlobalAddress. Use one of [grpc grpcs]")),
    }
}

/// Whether a zone may be called so. A zone asks itself at its start, and the global asks of everyone who comes.
///
/// # Errors
/// Why not, in Kuma's words.
pub fn zone_name(name: &str) -> Result<(), String> {
    refuse_if(name.is_empty(), "Name is mandatory")?;
    refuse_if(!is_dns_name(name), &format!("Zone name {name} has to be a valid DNS name"))?;
    refuse_if(name.len() > 63, "Zone name cannot be longer than 63 characters")
}

fn root_certificate(file: &str) -> Result<(), String> {
    if file.is_empty() {
        return Ok(());
    }
    let pem = std::fs::read(file)
        .map_err(|error| format!("could not read certificate {file}: open {file}: {}", no_code(&error)))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).count();
    refuse_if(certificates == 0, "failed to parse root certificate")
}

/// The system's words as Go prints them: small, without the number.
fn no_code(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Scheme of a URL as Go's parser finds it, empty when there is none.
fn url_scheme(url: &str) -> Result<&str, String> {
    if url.contains(|c: char| c.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if url.starts_with(':') {
        return Err("missing protocol scheme".to_owned());
    }
    let scheme = url.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let Some(scheme) = scheme else {
        let first_segment = url.split('/').next().unwrap_or_default();
        let colon = first_segment.contains(':');
        return if colon { Err("first path segment in URL cannot contain colon".to_owned()) } else { Ok("") };
    };
    let authority = url[scheme.len() + 1..].strip_prefix("//").and_then(|rest| rest.split(['/', '?', '#']).next());
    let Some(authority) = authority else { return Ok(scheme) };
    let port = authority.rsplit_once(']').map_or(authority, |(_, after)| after).rsplit_once(':').map(|(_, port)| port);
    match port {
        Some(port) if !port.bytes().all(|b| b.is_ascii_digit()) => Err(format!("invalid port \":{port}\" after host")),
        _ if authority.parse::<http::uri::Authority>().is_err() => Err(format!("invalid host {authority:?}")),
        _ => Ok(scheme),
    }
}

/// Labels of letters, digits, `-` and `_`, 63 at most each, joined by dots; no address.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        (1..=63).contains(&label.len()) && label.starts_with(word) && label.chars().all(|c| word(c) || c == '-')
    };
    name.parse::<IpAddr>().is_err() && name.len() <= 255 && name.strip_suffix('.').unwrap_or(name).split('.').all(label)
}

fn bootstrap(settings: &Effective) -> Result<(), String> {
    let text = |word: &str| settings.text(&format!("bootstrapServer.params.{word}"));
    let port = |word: &str| settings.number(&format!("bootstrapServer.params.{word}"));
    refuse_if(text("adminAddress").is_empty(), "AdminAddress cannot be empty")?;
    refuse_if(text("adminAddress").parse::<IpAddr>().is_err(), "AdminAddress should be a valid IP address")?;
    refuse_if(port("adminPort") > 65535, "AdminPort must be in the range [0, 65535]")?;
    refuse_if(text("adminAccessLogPath").is_empty(), "AdminAccessLogPath cannot be empty")?;
    refuse_if(port("xdsPort") > 65535, "AdminPort must be in the range [0, 65535]")?;
    let timeout = settings.duration("bootstrapServer.params.xdsConnectTimeout");
    refuse_if(timeout.is_negative(), "XdsConnectTimeout cannot be negative")?;
    let template = text("corefileTemplatePath");
    let missing = !template.is_empty() && !std::path::Path::new(template).exists();
    refuse_if(missing, "CorefileTemplatePath must point to an existing file")
}

fn environment(settings: &Effective) -> Result<(), String> {
    let known = ["kubernetes", "universal"].contains(&settings.text("environment"));
    refuse_if(!known, "Environment should be either kubernetes or universal")
}

fn metrics(settings: &Effective) -> Result<(), String> {
    let negative = settings.number("metrics.dataplane.subscriptionLimit") < 0;
    refuse_if(negative, "Dataplane validation failed: SubscriptionLimit should be positive or equal 0")
}

fn store(settings: &Effective) -> Result<(), String> {
    match settings.text("store.type") {
        "sqlite" | "memory" => Ok(()),
        "postgres" => postgres(settings).map_err(|fault| format!("Postgres validation failed: {fault}")),
        _ => Err("Type should be either sqlite, postgres or memory".to_owned()),
    }
}

fn postgres(settings: &Effective) -> Result<(), String> {
    let text = |word: &str| settings.text(&format!("store.postgres.{word}"));
    let number = |word: &str| settings.number(&format!("store.postgres.{word}"));
    let duration = |word: &str| settings.duration(&format!("store.postgres.{word}"));
    refuse_if(text("host").is_empty(), "Host should not be empty")?;
    refuse_if(number("port") < 0, "Port cannot be negative")?;
    for word in ["user", "password", "dbName"] {
        refuse_if(text(word).is_empty(), &format!("{} should not be empty", field(word)))?;
    }
    postgres_tls(settings).map_err(|fault| format!("TLS validation failed: {fault}"))?;
    refuse_if(number("minOpenConnections") < 0, "MinOpenConnections should be greater than 0")?;
    let more = number("minOpenConnections") > number("maxOpenConnections");
    refuse_if(more, "MinOpenConnections should be less than MaxOpenConnections")?;
    for word in ["maxConnectionLifetime", "maxConnectionLifetimeJitter"] {
        refuse_if(duration(word).is_negative(), &format!("{} should be greater than 0", field(word)))?;
    }
    let longer = duration("maxConnectionLifetimeJitter") > duration("maxConnectionLifetime");
    refuse_if(longer, "MaxConnectionLifetimeJitter should be less than MaxConnectionLifetime")?;
    refuse_if(duration("healthCheckInterval").is_negative(), "HealthCheckInterval should be greater than 0")?;
    refuse_if(number("readReplica.ratio") > 100, "ReadReplica validation failed: .Ratio out of [0-100] range")
}

fn postgres_tls(settings: &Effective) -> Result<(), String> {
    let text = |word: &str| settings.text(&format!("store.postgres.tls.{word}"));
    match text("mode") {
        "disable" | "verifyNone" => {}
        "verifyCa" | "verifyFull" => refuse_if(text("caPath").is_empty(), "CAPath cannot be empty")?,
        other => return Err(format!("invalid mode: {other}")),
    }
    let (key, certificate) = (text("keyPath").is_empty(), text("certPath").is_empty());
    refuse_if(key && !certificate, "KeyPath cannot be empty when CertPath is provided")?;
    refuse_if(certificate && !key, "CertPath cannot be empty when KeyPath is provided")
}

/// Kuma adds each part's fault twice, bare and wrapped, and drops those of the parts before it.
fn api_server(settings: &Effective) -> Vec<String> {
    let doubled = |name: &str, faults: Vec<String>| {
        let wrapped = format!("{name}: {}", faults.join("; "));
        faults.into_iter().chain([wrapped]).collect::<Vec<_>>()
    };
    let mut faults = Vec::new();
    for (name, found) in [
        (".HTTP not valid", interface(settings, "apiServer.http", "Interface cannot be empty")),
        (".HTTPS not valid", https(settings)),
        (".Authn is not valid", authn(settings)),
    ] {
        if !found.is_empty() {
            faults = doubled(name, found);
        }
    }
    faults
}

fn interface(settings: &Effective, section: &str, empty: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if settings.text(&format!("{section}.interface")).is_empty() {
        faults.push(empty.to_owned());
    }
    if settings.number(&format!("{section}.port")) > 65535 {
        faults.push("Port must be in range [0, 65535]".to_owned());
    }
    faults
}

fn https(settings: &Effective) -> Vec<String> {
    let section = "apiServer.https";
    if settings.number(&format!("{section}.port")) > 65535 {
        return vec!["Port must be in range [0, 65535]".to_owned()];
    }
    let mut faults = interface(settings, section, ".Interface cannot be empty");
    let unset = |word: &str| settings.text(&format!("{section}.{word}")).is_empty();
    if unset("tlsCertFile") != unset("tlsKeyFile") {
        faults.push("Both TlsCertFile and TlsKeyFile has to be specified".to_owned());
    }
    faults.extend(tls(settings, section, false));
    faults
}

fn authn(settings: &Effective) -> Vec<String> {
    if settings.text("apiServer.authn.type") != "tokens" {
        return Vec::new();
    }
    let keys = settings.setting("apiServer.authn.tokens.validator.publicKeys").value.json();
    let fault = keys.as_array().into_iter().flatten().enumerate().find_map(|(at, key)| {
        let fault = public_key(key).err()?;
        Some(format!(".Tokens is not valid: .Validator is not valid: .PublicKeys[{at}] is not valid: {fault}"))
    });
    fault.into_iter().collect()
}

fn public_key(key: &serde_json::Value) -> Result<(), String> {
    let set = |name: &str| key[name].as_str().is_some_and(|text| !text.is_empty());
    refuse_if(!set("kid"), ".KID is required")?;
    refuse_if(!set("keyFile") && !set("key"), "either .KeyFile or .Key has to be defined")?;
    refuse_if(set("keyFile") && set("key"), "both .KeyFile or .Key cannot be defined")
}

fn dns(settings: &Effective) -> Result<(), String> {
    refuse_if(!is_cidr(settings.text("dnsServer.CIDR")), "CIDR must be valid")?;
    refuse_if(settings.number("dnsServer.serviceVipPort") == 0, "port can't be 0")
}

fn ipam(settings: &Effective) -> Result<(), String> {
    for (section, name, cidr) in [
        ("MeshServie", "MeshServiceCIDR", settings.text("ipam.meshService.cidr")),
        ("MeshExternalServie", "MeshExternalServiceCIDR", settings.text("ipam.meshExternalService.cidr")),
    ] {
        let fault = format!("{section} validation failed: .{name} is invalid: invalid CIDR address: {cidr}");
        refuse_if(!is_cidr(cidr), &fault)?;
    }
    let wrong = settings.texts("ipam.knownInternalCIDRs").iter().find(|cidr| !is_cidr(cidr));
    wrong.map_or(Ok(()), |cidr| {
        Err(format!("entry '{cidr}' in .KnownInternalCIDRs is invalid: invalid CIDR address: {cidr}"))
    })
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let max = if address.is_ipv4() { 32 } else { 128 };
    bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Loader;

    fn fault(role: Role, sets: &[&str]) -> String {
        let loader = sets.iter().fold(Loader::new(role), |loader, set| loader.set(set));
        loader.load().map(|_| String::new()).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn faults_are_told_in_kumas_words() {
        use Role::{Global, Zone};
        for (role, sets, text) in [
            (
                Zone,
                &["mode=foo"][..],
                "Mode validation failed: invalid mode. Available modes: standalone, zone, global",
            ),
            (Zone, &["multizone.zone.name="], "Multizone Zone validation failed: Name is mandatory"),
            (
                Zone,
                &["multizone.zone.name=a_b!"],
                "Multizone Zone validation failed: Zone name a_b! has to be a valid DNS name",
            ),
            (
                Zone,
                &["multizone.zone.globalAddress=http://x:1"],
                "Multizone Zone validation failed: unsupported scheme \"http\" in zone GlobalAddress. Use one of [grpc grpcs]",
            ),
            (
                Zone,
                &["multizone.zone.globalAddress=host:5685"],
                "Multizone Zone validation failed: unsupported scheme \"host\" in zone GlobalAddress. Use one of [grpc grpcs]",
            ),
            (
                Zone,
                &["multizone.zone.globalAddress=1.2.3.4:5685"],
                "Multizone Zone validation failed: unable to parse zone GlobalAddress.: parse \"1.2.3.4:5685\": first path segment in URL cannot contain colon",
            ),
            (
                Zone,
                &["multizone.zone.globalAddress=grpcs://x:5685", "multizone.zone.kds.rootCaFile=/nope"],
                "Multizone Zone validation failed: could not read certificate /nope: open /nope: no such file or directory",
            ),
            (
                Zone,
                &["multizone.zone.globalAddress=grpcs://x:5685", "multizone.zone.kds.rootCaFile=/dev/null"],
                "Multizone Zone validation failed: failed to parse root certificate",
            ),
            (
                Global,
                &["multizone.global.kds.grpcPort=70000", "multizone.global.kds.refreshInterval=0s"],
                "Multizone Global validation failed: .GrpcPort must be in the range [0, 65535]; .RefreshInterval must be positive",
            ),
            (
                Global,
                &["multizone.global.kds.tlsKeyFile=x"],
                "Multizone Global validation failed: .TlsCertFile cannot be empty if TlsKeyFile has been set",
            ),
            (
                Global,
                &["multizone.global.kds.zoneHealthCheck.timeout=1s"],
                "Multizone Global validation failed: invalid zoneHealthCheck config: timeout and pollInterval must both be either set or unset",
            ),
            (
                Global,
                &["multizone.global.kds.auth.type=mtls"],
                "Multizone Global validation failed: .Auth.Type \"mtls\" is not known: use cpToken, or none to let every zone in",
            ),
            (
                Global,
                &["multizone.global.kds.auth.exceptZones=east,a b"],
                "Multizone Global validation failed: .Auth.ExceptZones names no zone: Zone name a b has to be a valid DNS name",
            ),
            (
                Global,
                &["store.type=postgres", "store.postgres.host="],
                "Store validation failed: Postgres validation failed: Host should not be empty",
            ),
            (
                Global,
                &["store.type=postgres", "store.postgres.tls.mode=x"],
                "Store validation failed: Postgres validation failed: TLS validation failed: invalid mode: x",
            ),
            (Zone, &["environment=x"], "Environment should be either kubernetes or universal"),
            (
                Global,
                &["apiServer.http.port=70000"],
                "ApiServer validation failed: Port must be in range [0, 65535]; .HTTP not valid: Port must be in range [0, 65535]",
            ),
            (
                Global,
                &["apiServer.https.tlsCertFile=x"],
                "ApiServer validation failed: Both TlsCertFile and TlsKeyFile has to be specified; .HTTPS not valid: Both TlsCertFile and TlsKeyFile has to be specified",
            ),
            (
                Global,
                &["diagnostics.tlsMinVersion=TLSv1_0"],
                "Diagnostics validation failed: .TlsMinVersionunsupported tls version: TLSv1_0 supported versions:[TLSv1_2 TLSv1_3]",
            ),
            (Global, &["dnsServer.CIDR=x"], "DNSServer validation failed: CIDR must be valid"),
            (
                Zone,
                &["xdsServer.dataplaneStatusFlushInterval=0s"],
                "Xds Server validation failed: DataplaneStatusFlushInterval must be positive",
            ),
        ] {
            assert_eq!(fault(role, sets), format!("configuration validation failed: {text}"), "{sets:?}");
        }
        let long = format!("multizone.zone.name={}.{}", "a".repeat(40), "b".repeat(40));
        assert!(fault(Zone, &[&long]).ends_with("Zone name cannot be longer than 63 characters"));
    }

    #[test]
    fn what_kuma_accepts_is_accepted() {
        for (role, set) in [
            (Role::Zone, "mode=standalone"),
            (Role::Zone, "multizone.zone.globalAddress=grpcs://global.example:5685"),
            (Role::Zone, "multizone.zone.globalAddress=grpc://[::1]:5685"),
            (Role::Global, "environment=anything"),
            (Role::Global, "dpServer.port=7"),
            (Role::Global, "general.tlsMinVersion=anything"),
            (Role::Global, "store.type=memory"),
            (
                Role::Global,
                "apiServer.https.tlsCipherSuites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_AES_128_GCM_SHA256",
            ),
        ] {
            assert_eq!(fault(role, &[set]), "", "{set}");
        }
    }

    #[test]
    fn the_other_programs_mode_is_refused() {
        let text = fault(Role::Global, &["mode=zone"]);
        assert!(text.contains("this program is the global control plane"), "{text}");
    }
}
