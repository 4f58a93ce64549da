//! A key and its value, or its siblings, in one JSON object a line.

use std::io::BufRead;

use bytes::Bytes;
use data_encoding::BASE64;
use dynkv::types::Key;
use serde::Deserialize;

use super::Item;
use super::lines::{BadInput, Lines};

/// The items of a file; blank lines are skipped.
pub struct Items {
    lines: Lines,
}

/// A line. `schema` and `context` are what `export` adds: a context belongs to one cluster and one state of the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    #[serde(default)]
    key_encoding: Encoding,
    value: Option<String>,
    #[serde(default)]
    encoding: Encoding,
    siblings: Option<Vec<Sibling>>,
    #[serde(default, rename = "schema")]
    _schema: Option<u32>,
    #[serde(default, rename = "context")]
    _context: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sibling {
    value: String,
    #[serde(default)]
    encoding: Encoding,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Utf8,
    Base64,
}

impl Encoding {
    fn decode(self, text: String, what: &str) -> Result<Bytes, String> {
        match self {
            Encoding::Utf8 => Ok(text.into()),
            Encoding::Base64 => {
                let decoded = BASE64.decode(text.as_bytes());
                decoded.map(Bytes::from).map_err(|error| format!("the {what} is not base64: {error}"))
            }
        }
    }
}

impl Items {
    pub fn new(reader: Box<dyn BufRead + Send>) -> Items {
        Items { lines: Lines::new(reader) }
    }
}

impl Iterator for Items {
    type Item = Result<Item, BadInput>;

    fn next(&mut self) -> Option<Result<Item, BadInput>> {
        let mut line = Vec::new();
        loop {
            match self.lines.next_into(&mut line) {
                Ok(true) if line.trim_ascii().is_empty() => line.clear(),
                Ok(true) => {
                    return Some(parse(&line).map_err(|reason| BadInput { line: self.lines.number(), reason }));
                }
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Item, String> {
    let parsed = serde_json::from_slice(line);
    // serde_json counts lines of its own, and this is the only one
    let line: Line = parsed.map_err(|error| error.to_string().replace(" at line 1 column ", " at column "))?;
    let key = line.key_encoding.decode(line.key, "key")?;
    let key = Key::new(key).map_err(|error| error.to_string())?;
    let values = match (line.value, line.siblings) {
        (Some(value), None) => vec![line.encoding.decode(value, "value")?],
        (None, Some(siblings)) if !siblings.is_empty() => siblings
            .into_iter()
            .map(|sibling| sibling.encoding.decode(sibling.value, "value"))
            .collect::<Result<_, _>>()?,
        (None, Some(_)) => return Err(r#""siblings" is empty: there is nothing to write"#.to_owned()),
        _ => return Err(r#"either "value" or "siblings" is needed"#.to_owned()),
    };
    Ok(Item { key, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &'static str) -> Vec<Result<Item, BadInput>> {
        Items::new(Box::new(text.as_bytes())).collect()
    }

    fn item(key: &'static str, values: &[&'static [u8]]) -> Result<Item, BadInput> {
        let values = values.iter().map(|value| Bytes::from_static(value)).collect();
        Ok(Item { key: Key::new(key).unwrap(), values })
    }

    #[test]
    fn keys_and_values_in_both_encodings() {
        let text = concat!(
            "{\"key\": \"a\", \"value\": \"1\"}\n",
            "\n",
            "{\"key\": \"Yg==\", \"key_encoding\": \"base64\", \"value\": \"/w==\", \"encoding\": \"base64\"}",
        );
        assert_eq!(items(text), [item("a", &[b"1"]), item("b", &[b"\xff"])]);
    }

    #[test]
    fn lines_of_export_are_taken() {
        let text =
            r#"{"schema":1,"key":"a","siblings":[{"value":"1"},{"value":"/w==","encoding":"base64"}],"context":"AQ"}"#;
        assert_eq!(items(text), [item("a", &[b"1", b"\xff"])]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let error = |text| items(text).pop().unwrap().unwrap_err().to_string();
        assert_eq!(
            error("{\"key\":\"a\",\"value\":\"\"}\n\n{\"key\":\"b\"}"),
            "line 3: either \"value\" or \"siblings\" is needed"
        );
        assert!(error("{\"key\":\"a\",\"siblings\":[]}").contains("\"siblings\" is empty"));
        assert!(error("{\"key\": 7, \"value\": \"\"}").starts_with("line 1: invalid type: integer `7`"));
        assert!(error("{\"key\":\"a\",\"val\":\"\"}").contains("unknown field `val`"));
        assert!(error("nonsense").ends_with("at column 2"));
        assert!(error("{\"key\":\"\",\"value\":\"\"}").contains("the key is empty"));
        assert!(error("{\"key\":\"a\",\"value\":\"!\",\"encoding\":\"base64\"}").contains("the value is not base64"));
    }
}
