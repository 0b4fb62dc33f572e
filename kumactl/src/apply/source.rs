//! Where documents come from: a file, a folder, standard input, the web.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client;
use crate::command::Session;
use crate::failure::Failure;
use crate::io::{Io, plain, read_file};

/// A text with documents.
pub struct Source {
    /// What it is called in messages.
    pub name: String,
    /// The text, as it came.
    pub text: Vec<u8>,
}

/// Longest time that the web may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest text that is taken from the web.
const LONGEST: usize = 64 << 20;

/// Everything that the flag `--file` names.
pub async fn read(file: &str, session: &mut Session<'_>) -> Result<Vec<Source>, Failure> {
    if file == "-" {
        let text = session.io.read_stdin()?;
        return Ok(vec![Source { name: "stdin".to_owned(), text }]);
    }
    if file.starts_with("http://") || file.starts_with("https://") {
        let answer = client::fetch(file, PATIENCE, LONGEST).await;
        let text = answer.map_err(|reason| Failure::other(format!("error with GET http request: {reason}")))?;
        return Ok(text.map(|text| Source { name: file.to_owned(), text }).into_iter().collect());
    }
    let io: &Io = session.io;
    if !io.path(file).is_dir() {
        return Ok(vec![read_one(io, Path::new(file))?]);
    }
    let mut files = Vec::new();
    list(&io.path(file), Path::new(file), &mut files)?;
    if files.is_empty() {
        return Err(Failure::other(format!("the folder {file} holds no file that ends in .yaml, .yml or .json")));
    }
    files.iter().map(|file| read_one(io, file)).collect()
}

fn read_one(io: &Io, file: &Path) -> Result<Source, Failure> {
    let name = file.display().to_string();
    match read_file(&io.directory.join(file)) {
        Ok(text) => Ok(Source { name, text }),
        Err(error) => Err(Failure::other(format!("error while reading provided file: open {name}: {}", plain(&error)))),
    }
}

/// Files of a folder and of those below it, by name; hidden ones are left out.
fn list(folder: &Path, shown: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let cannot = |error: &std::io::Error| {
        Failure::other(format!("error while reading provided file: open {}: {}", shown.display(), plain(error)))
    };
    let entries = std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut names: Vec<_> =
        entries.map_err(|error| cannot(&error))?.into_iter().map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    for name in names.into_iter().filter(|name| !name.to_string_lossy().starts_with('.')) {
        let (path, shown) = (folder.join(&name), shown.join(&name));
        let is_document =
            path.extension().is_some_and(|kind| ["yaml", "yml", "json"].iter().any(|known| kind == *known));
        // A link to a folder may lead back here.
        if path.is_dir() && !path.is_symlink() {
            list(&path, &shown, files)?;
        } else if is_document {
            files.push(shown);
        }
    }
    Ok(())
}
