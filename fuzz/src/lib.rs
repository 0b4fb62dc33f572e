//! What the fuzz targets do with their input, and what has to hold whatever it is.
//!
//! `cargo xtask test` builds the programs in `src/bin` with coverage feedback and runs each for a few seconds;
//! `cargo fuzz run -s none <target>` runs one for as long as you like. Seeds are in `seeds/<target>`.

use model::document::{self, Limits};
use model::intake::{self, Put};
use model::label_rules::OriginLabel;
use model::resource::Resource;
use model::{Kind, Mode, kubernetes_form, rest_form};

mod peer;

pub use peer::kds_peer;

/// A file of a user becomes resources, or one line says why not.
pub fn yaml_to_resource(data: &[u8]) {
    let limits = Limits { size: 64 << 10, values: 10_000 };
    let documents = match document::read("file.yaml", data, limits) {
        Ok(documents) => documents,
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains('\0') && error.len() < 4096, "no pleasant message: {error:?}");
            return;
        }
    };
    for document in documents {
        if let Ok(text) = std::str::from_utf8(data) {
            document::locate(text, document.index, "spec.to[0].targetRef.kind");
        }
        let value = match kubernetes_form::is_one(&document.value) {
            true => kubernetes_form::to_rest(&document.value).unwrap_or(document.value),
            false => document.value,
        };
        let body = value.to_string();
        let text = |key: &str| value.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        let Ok(kind) = text("type").parse::<Kind>() else { continue };
        for mode in [Mode::Global, Mode::universal_zone("east", true)] {
            let put = Put {
                mode: &mode,
                origin_label: OriginLabel::Required,
                kind,
                mesh: text("mesh"),
                name: text("name"),
                body: body.as_bytes(),
            };
            if let Ok(accepted) = intake::read(put).and_then(intake::Draft::create) {
                is_printed_as_it_is_read(&accepted.resource);
            }
        }
    }
}

/// What we take we can show, and what we show means the same to us.
fn is_printed_as_it_is_read(resource: &Resource) {
    let printed = match rest_form::print(resource) {
        Ok(printed) => printed,
        Err(error) => panic!("accepted and not printable: {error}"),
    };
    let again = match rest_form::read(printed.clone()) {
        Ok(again) => again,
        Err(error) => panic!("printed and not readable: {error}: {printed}"),
    };
    match rest_form::print(&again) {
        Ok(reprinted) => assert_eq!(printed.to_string(), reprinted.to_string()),
        Err(error) => panic!("read and not printable: {error}: {printed}"),
    }
}
