//! Tables in Kuma's layout: three blanks between columns, nothing after the last cell (api-and-kumactl 4.4).

use std::io::Write;

use tabwriter::TabWriter;

/// A table: a header and rows of as many cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns.
    pub header: Vec<String>,
    /// Cells, row by row.
    pub rows: Vec<Vec<String>>,
    /// A line after the table, set off by an empty one.
    pub footer: Option<String>,
}

impl Table {
    /// An empty table.
    pub fn new<'a>(header: impl IntoIterator<Item = &'a str>) -> Self {
        Self { header: header.into_iter().map(str::to_owned).collect(), ..Self::default() }
    }
}

/// A cell takes one line, whatever it holds: a terminal must not obey what a control plane sends.
fn clean(cell: &str) -> String {
    if cell.contains(char::is_control) { cell.replace(char::is_control, " ") } else { cell.to_owned() }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut writer = TabWriter::new(Vec::new()).minwidth(0).padding(3);
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let line: Vec<String> = row.iter().map(|cell| clean(cell)).collect();
            writeln!(writer, "{}", line.join("\t")).map_err(|_| std::fmt::Error)?;
        }
        let text = writer.into_inner().map_err(|_| std::fmt::Error)?;
        f.write_str(&String::from_utf8_lossy(&text))?;
        if let Some(footer) = &self.footer {
            write!(f, "\n{footer}\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cell_is_not_padded_and_an_empty_one_leaves_blanks() {
        let mut table = Table::new(["NAME", "STATUS", "BACKEND"]);
        table.rows.push(vec!["zone-1".into(), "Online".into(), "memory".into()]);
        table.rows.push(vec!["zone-20".into(), "Offline\t\u{1b}[31m".into(), String::new()]);
        table.footer = Some("Total: 2".into());
        assert_eq!(
            table.to_string(),
            "NAME      STATUS          BACKEND\nzone-1    Online          memory\nzone-20   Offline  [31m   \n\nTotal: 2\n"
        );
    }
}
