//! The torture messages and digest vectors in `fixtures/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Holds one row of a tab-separated table, by column name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    cells: BTreeMap<String, String>,
}

impl Row {
    /// Returns a cell. Panics when there is no such column: the table or the test is wrong.
    pub fn cell(&self, column: &str) -> &str {
        match self.cells.get(column) {
            Some(cell) => cell,
            None => panic!("no column `{column}`; there are {:?}", self.cells.keys()),
        }
    }
}

/// Holds one message of RFC 4475 or RFC 5118, and what its RFC says about it.
///
/// The meaning of the columns stands in `fixtures/rfc4475/README.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torture {
    /// The RFC's name of the message.
    pub name: String,
    /// `valid`, `invalid` or `semantic`.
    pub class: String,
    /// What the element that it is meant for does.
    pub outcome: String,
    /// The message, octet for octet.
    pub bytes: Vec<u8>,
    /// The other columns.
    pub row: Row,
}

/// Reads the 49 messages of RFC 4475.
pub fn rfc4475() -> Vec<Torture> {
    torture("rfc4475")
}

/// Reads the 12 messages of RFC 5118.
pub fn rfc5118() -> Vec<Torture> {
    torture("rfc5118")
}

/// Reads one message of either by its name. Panics when there is none.
pub fn message(name: &str) -> Torture {
    match rfc4475()
        .into_iter()
        .chain(rfc5118())
        .find(|fixture| fixture.name == name)
    {
        Some(fixture) => fixture,
        None => panic!("no fixture `{name}`"),
    }
}

/// Reads the digest vectors; the columns stand in `fixtures/digest/README.md`.
pub fn digest() -> Vec<Row> {
    table("digest/vectors.tsv")
}

fn torture(folder: &str) -> Vec<Torture> {
    let rows = table(&format!("{folder}/MANIFEST.tsv"));
    let fixtures = rows.into_iter().map(|row| {
        let bytes = read(&format!("{folder}/{}", row.cell("file")));
        assert_eq!(
            bytes.len().to_string(),
            row.cell("bytes"),
            "size of {}",
            row.cell("file")
        );
        Torture {
            name: row.cell("name").into(),
            class: row.cell("class").into(),
            outcome: row.cell("outcome").into(),
            bytes,
            row,
        }
    });
    fixtures.collect()
}

fn table(file: &str) -> Vec<Row> {
    let text = String::from_utf8_lossy(&read(file)).into_owned();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        assert_eq!(
            cells.len(),
            columns.len(),
            "cells of a row of {file}: {line}"
        );
        Row {
            cells: columns
                .iter()
                .zip(cells)
                .map(|(name, cell)| (name.to_string(), cell.to_string()))
                .collect(),
        }
    };
    lines.filter(|line| !line.is_empty()).map(row).collect()
}

fn read(file: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(file);
    match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => panic!("cannot read {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_row_has_its_file() {
        assert_eq!(rfc4475().len(), 49);
        assert_eq!(rfc5118().len(), 12);
        assert!(message("wsinv").bytes.starts_with(b"INVITE "));
    }

    #[test]
    fn digest_vectors_have_their_columns() {
        assert!(digest().iter().all(|row| !row.cell("response").is_empty()));
    }
}
