//! `cargo xtask codegen`: the Rust of every message in `kds-proto`, from its `.proto` files.
//!
//! Kuma's messages are ours, in `kds-proto/proto`. Envoy's come from the tree that the package `envoy-types`
//! ships; only the roots named here and what they import are generated. The result is committed, so that a build
//! needs neither the tree nor a compiler for it, and `tidy` fails when it has drifted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;
use prost::Message;
use prost_types::FileDescriptorSet;

/// What the control planes, the routers and the proxies say to each other in Envoy's words.
const ENVOY_ROOTS: &[&str] = &[
    "envoy/service/discovery/v3/ads.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/access_loggers/grpc/v3/als.proto",
    "envoy/extensions/access_loggers/open_telemetry/v3/logs_service.proto",
    "envoy/extensions/clusters/aggregate/v3/cluster.proto",
    "envoy/extensions/filters/http/buffer/v3/buffer.proto",
    "envoy/extensions/filters/http/cors/v3/cors.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
    "envoy/extensions/filters/http/health_check/v3/health_check.proto",
    "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/http/lua/v3/lua.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
    "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/direct_response/v3/config.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/network/rbac/v3/rbac.proto",
    "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/matching/common_inputs/ssl/v3/ssl_inputs.proto",
    "envoy/extensions/retry/host/omit_host_metadata/v3/omit_host_metadata_config.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
];

/// Folders of `envoy-types/proto` that hold the roots and what they import.
const ENVOY_TREES: &[&str] = &[
    "data-plane-api",
    "xds",
    "protoc-gen-validate",
    "googleapis",
    "opentelemetry-proto",
    "client_model",
    "cel-spec/proto",
];

/// Writes the generated folder anew.
pub fn write(workspace: &Path) -> Result<()> {
    let folder = folder(workspace);
    let files = generate(workspace)?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    for (name, bytes) in &files {
        fs::write(folder.join(name), bytes).with_context(|| format!("cannot write {name}"))?;
    }
    println!("codegen: {} files in {}", files.len(), folder.display());
    Ok(())
}

/// Names of the generated files that differ from what a fresh run would write.
pub fn drift(workspace: &Path) -> Result<Vec<String>> {
    let folder = folder(workspace);
    let fresh = generate(workspace)?;
    let mut drifted: Vec<String> = fresh
        .iter()
        .filter(|(name, bytes)| fs::read(folder.join(name)).ok().as_ref() != Some(bytes))
        .map(|(name, _)| name.clone())
        .collect();
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !fresh.contains_key(&name) {
            drifted.push(name);
        }
    }
    Ok(drifted)
}

fn folder(workspace: &Path) -> PathBuf {
    workspace.join("kds-proto/src/generated")
}

fn generate(workspace: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let ours = workspace.join("kds-proto/proto");
    let theirs = envoy_protos(workspace)?;
    let mut includes = vec![ours.clone()];
    includes.extend(ENVOY_TREES.iter().map(|tree| theirs.join(tree)));

    let mut roots: Vec<String> = proto_files(&ours)?;
    roots.extend(ENVOY_ROOTS.iter().map(|root| (*root).to_owned()));
    let descriptors = descriptors(&includes, &roots)?;

    let out = std::env::temp_dir().join(format!("kds-proto-codegen-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    let generated = compile(&descriptors, &out);
    let files = generated.and_then(|()| read_all(&out));
    fs::remove_dir_all(&out).ok();
    let mut files = files?;
    files.insert("descriptors.bin".into(), descriptors.encode_to_vec());
    Ok(files)
}

/// One descriptor set of all roots, each file once, imports before what imports them.
///
/// Every root is compiled by itself: a relative name must see the packages that its file imports and no others
/// (`common.ratelimit.v3` in a filter is not `envoy.extensions.filters.common`, which another root brings in).
fn descriptors(includes: &[PathBuf], roots: &[String]) -> Result<FileDescriptorSet> {
    let mut set = FileDescriptorSet::default();
    let mut seen = BTreeSet::new();
    for root in roots {
        let compiled = protox::Compiler::new(includes)?
            .include_imports(true)
            .open_file(root)
            .with_context(|| format!("{root} does not compile"))?
            .file_descriptor_set();
        for mut file in compiled.file {
            if seen.insert(file.name().to_owned()) {
                file.source_code_info = None;
                set.file.push(file);
            }
        }
    }
    Ok(set)
}

fn compile(descriptors: &FileDescriptorSet, out: &Path) -> Result<()> {
    let mut config = tonic_prost_build::Config::new();
    config
        .btree_map(["."])
        .bytes([".kuma.mesh"])
        .disable_comments(["."])
        .skip_debug([".kuma.system.v1alpha1.Secret"])
        .type_attribute(".kuma.system.v1alpha1.DataSource.type", QUIET.trim_end())
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .extern_path(".google.protobuf.Any", "crate::any::Any")
        .include_file("mod.rs");
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(out)
        .compile_fds_with_config(descriptors.clone(), config)
        .context("code generation failed")
}

/// The attribute that keeps a oneof from printing its content. The generator can only put it before the derive that it
/// belongs to, where the compiler does not take it.
const QUIET: &str = "#[prost(skip_debug)]\n";

fn quiet_after_derive(generated: &str) -> String {
    let mut lines = generated.split_inclusive('\n');
    let mut text = String::with_capacity(generated.len());
    while let Some(line) = lines.next() {
        let derive = (line.trim_start() == QUIET).then(|| lines.next()).flatten();
        text.extend(derive.filter(|derive| derive.trim_start().starts_with("#[derive")));
        text.push_str(line);
        text.extend(derive.filter(|derive| !derive.trim_start().starts_with("#[derive")));
    }
    text
}

fn read_all(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let generated = fs::read_to_string(entry.path())?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), quiet_after_derive(&generated).into_bytes());
    }
    Ok(files)
}

/// The `.proto` tree of `envoy-types`, wherever cargo has unpacked it.
fn envoy_protos(workspace: &Path) -> Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace.join("Cargo.toml"))
        .features(cargo_metadata::CargoOpt::SomeFeatures(vec!["xtask/envoy-protos".into()]))
        .exec()
        .context("cargo metadata")?;
    let Some(package) = metadata.packages.iter().find(|p| p.name.as_str() == "envoy-types") else {
        bail!("cargo metadata does not list envoy-types, which crates/xtask/Cargo.toml names");
    };
    let manifest = package.manifest_path.as_std_path();
    Ok(manifest.with_file_name("proto"))
}

/// Every `.proto` file below `root`, as a path relative to it, sorted.
fn proto_files(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "proto") {
                found.push(path.strip_prefix(root)?.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}
