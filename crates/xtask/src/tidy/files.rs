//! Sizes and words of files.

use std::path::Path;

use anyhow::Result;

use super::House;

/// Lines of a file without its tests.
const FILE_LINES: usize = 600;
/// Lines of a `main.rs`: a title page.
const MAIN_LINES: usize = 30;

/// Ways to the outside that a pure crate must be given instead.
const IMPURE_WORDS: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::process",
    "std::env::",
    "SystemTime::now",
    "Instant::now",
    "Utc::now",
    "Local::now",
];
const PURE_FOLDERS: &[&str] = &["crates/model/src", "crates/envoy/src"];

/// Files that people write have at most 600 lines without tests, and every `main.rs` at most 30.
pub fn short(house: &House) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (file, text) in house.rust()? {
        let lines = text.lines().count();
        if file.ends_with("src/main.rs") && lines > MAIN_LINES {
            broken.push(format!("{}: {lines} lines; a main.rs is a title page of {MAIN_LINES}", file.display()));
        }
        let lines = without_tests(&text).lines().count();
        if lines > FILE_LINES && !is_test(file) {
            broken.push(format!("{}: {lines} lines without tests; split before {FILE_LINES}", file.display()));
        }
    }
    Ok(broken)
}

/// Pure crates name no clock, file, socket or environment outside their tests.
pub fn pure(house: &House) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (file, text) in house.rust()? {
        if is_test(file) || !PURE_FOLDERS.iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        for (number, line) in without_tests(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(word) = IMPURE_WORDS.iter().find(|word| code.contains(**word)) {
                broken.push(format!("{}:{}: {word}: pass it in as a value", file.display(), number + 1));
            }
        }
    }
    Ok(broken)
}

/// Nothing names a folder of the machine it was written on: the workspace, or the home of who works in it.
pub fn no_machine_paths(house: &House) -> Result<Vec<String>> {
    let home = std::env::home_dir().filter(|home| home.components().count() > 1);
    // A short path ("/app") is a word that may stand anywhere for good reason.
    let root = Some(house.root.clone()).filter(|root| root.components().count() > 2);
    let folders: Vec<String> =
        [home, root].into_iter().flatten().map(|folder| format!("{}/", folder.display())).collect();
    let mut broken = Vec::new();
    for file in &house.files {
        let Some(text) = house.text(file)? else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(folder) = folders.iter().find(|folder| line.contains(folder.as_str())) {
                broken.push(format!("{}:{}: names {folder}", file.display(), number + 1));
            }
        }
    }
    Ok(broken)
}

/// What stands above the tests at the bottom of a file.
fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod ").map_or(text, |tests| &text[..=tests])
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::house_of;

    #[test]
    fn a_long_file_is_found_and_tests_are_not_counted() {
        let long = "x\n".repeat(601);
        let tested = format!("x\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let (_folder, house) = house_of(&[
            ("crates/a/src/long.rs", &long),
            ("crates/a/src/tested.rs", &tested),
            ("crates/a/tests/long.rs", &long),
            ("crates/a/src/generated/long.rs", &long),
            ("crates/a/src/main.rs", &"x\n".repeat(31)),
        ]);
        let broken = short(&house).unwrap();
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(broken[0].starts_with("crates/a/src/long.rs: 601 lines"), "{broken:?}");
        assert!(broken[1].starts_with("crates/a/src/main.rs: 31 lines"), "{broken:?}");
    }

    #[test]
    fn a_clock_in_the_model_is_found() {
        let clock = "// Instant::now is a word here\nlet now = std::time::Instant::now();\n";
        let (_folder, house) = house_of(&[
            ("crates/model/src/a.rs", clock),
            ("crates/model/src/a/tests.rs", clock),
            ("crates/store/src/a.rs", clock),
        ]);
        assert_eq!(pure(&house).unwrap(), ["crates/model/src/a.rs:2: Instant::now: pass it in as a value"]);
    }

    #[test]
    fn a_folder_of_this_machine_is_found() {
        let (folder, house) = house_of(&[("docs/a.md", ""), ("docs/b.md", "see docs/a.md")]);
        let here = format!("{}/", folder.path().display());
        std::fs::write(folder.path().join("docs/a.md"), format!("see\n{here}x")).unwrap();
        assert_eq!(no_machine_paths(&house).unwrap(), [format!("docs/a.md:2: names {here}")]);
    }

    #[test]
    fn tests_at_the_bottom_do_not_count() {
        assert_eq!(without_tests("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), "a\nb\n");
        assert_eq!(without_tests("a\nb\n"), "a\nb\n");
        assert_eq!(without_tests("#[cfg(test)]\nuse x;\n"), "#[cfg(test)]\nuse x;\n", "a line for tests is no end");
    }

    #[test]
    fn integration_tests_are_tests() {
        assert!(is_test(Path::new("crates/store/tests/conformance/leases.rs")));
        assert!(!is_test(Path::new("crates/store/src/leases.rs")));
    }
}
