//! Results on stdout: tables, JSON, bytes.

use std::io::{BufWriter, IsTerminal, Stdout, Write};
use std::time::Duration;

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::exit::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For people with wide terminals.
    Wide,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
    /// Bytes as they are stored.
    Raw,
}

impl Format {
    /// Whether a program reads it.
    pub fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Jsonl)
    }
}

/// The version of all JSON that this program prints.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Versioned<'a, T> {
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// A document with its schema, on one line.
pub fn json<T: Serialize>(body: &T) -> String {
    serde_json::to_string(&Versioned { schema: SCHEMA, body }).expect("results have string keys only")
}

/// A document with its schema, for reading.
pub fn pretty_json<T: Serialize>(body: &T) -> String {
    serde_json::to_string_pretty(&Versioned { schema: SCHEMA, body }).expect("results have string keys only")
}

/// Stdout, buffered. A reader that has gone ends the program quietly.
pub struct Out {
    stdout: BufWriter<Stdout>,
}

impl Out {
    pub fn stdout() -> Out {
        Out { stdout: BufWriter::new(std::io::stdout()) }
    }

    pub fn line(&mut self, line: impl AsRef<str>) -> Result<(), Failure> {
        self.bytes(line.as_ref().as_bytes())?;
        self.bytes(b"\n")
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stdout.write_all(bytes)?)
    }

    /// JSON as `format` has it.
    pub fn json<T: Serialize>(&mut self, format: Format, body: &T) -> Result<(), Failure> {
        self.line(if format == Format::Json { pretty_json(body) } else { json(body) })
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.stdout.flush()?)
    }
}

/// Columns under headings, two spaces apart, no lines.
pub struct Columns {
    table: Table,
}

impl Columns {
    pub fn new(headings: &[&str]) -> Columns {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(headings.to_vec());
        // in a pipe a line is a row, whatever its length
        table.set_content_arrangement(if std::io::stdout().is_terminal() {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        Columns { table }
    }

    /// Numbers stand under each other's ends.
    pub fn right(mut self, columns: &[usize]) -> Columns {
        for &column in columns {
            if let Some(column) = self.table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.table.add_row(cells.into_iter().map(Into::into).collect::<Vec<String>>());
    }

    /// The lines, without blanks at either side.
    pub fn lines(&self) -> Vec<String> {
        let lines: Vec<String> = self.table.lines().collect();
        let indent = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
        lines.iter().map(|line| line[indent..].trim_end().to_owned()).collect()
    }

    pub fn print(&self, out: &mut Out) -> Result<(), Failure> {
        self.lines().iter().try_for_each(|line| out.line(line))
    }
}

/// Milliseconds as people read them.
pub fn ms(elapsed: Duration) -> String {
    let ms = elapsed.as_secs_f64() * 1000.0;
    if ms < 100.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// Milliseconds for programs, to the microsecond.
pub fn ms_number(elapsed: Duration) -> f64 {
    elapsed.as_micros() as f64 / 1000.0
}

/// "1 key", "2 keys".
pub fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_carry_their_schema_first() {
        #[derive(Serialize)]
        struct Body {
            key: &'static str,
        }
        assert_eq!(json(&Body { key: "k" }), r#"{"schema":1,"key":"k"}"#);
    }

    #[test]
    fn columns_are_aligned_and_bare() {
        let mut columns = Columns::new(&["NAME", "KEYS"]).right(&[1]);
        columns.row(["n1", "5"]);
        columns.row(["node-2", "12345"]);
        assert_eq!(columns.lines(), ["NAME     KEYS", "n1          5", "node-2  12345"]);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(ms(Duration::from_micros(3140)), "3.1 ms");
        assert_eq!(ms(Duration::from_millis(1234)), "1234 ms");
        assert_eq!((count(1, "key"), count(0, "key")), ("1 key".into(), "0 keys".into()));
    }
}
