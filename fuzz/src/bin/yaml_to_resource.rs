#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::yaml_to_resource(data));
