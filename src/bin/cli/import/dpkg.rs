//! Debian control stanzas, as in `/var/lib/dpkg/status` (deb-control(5)): fields a line, a blank line between stanzas.

use std::io::BufRead;

use bytes::Bytes;
use dynkv::types::Key;

use super::Item;
use super::lines::{BadInput, Lines};

/// The stanzas of a file: the key is `package:architecture`, the value is every byte of the stanza, the blank line that
/// ends it left out.
pub struct Stanzas {
    lines: Lines,
}

impl Stanzas {
    pub fn new(reader: Box<dyn BufRead + Send>) -> Stanzas {
        Stanzas { lines: Lines::new(reader) }
    }

    fn stanza(&mut self) -> Result<Option<(u64, Vec<u8>)>, BadInput> {
        let (mut stanza, mut first) = (Vec::new(), 0);
        loop {
            let start = stanza.len();
            let more = self.lines.next_into(&mut stanza)?;
            let blank = stanza[start..].iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
            if blank {
                stanza.truncate(start);
            }
            match (blank && !stanza.is_empty(), more) {
                (true, _) => return Ok(Some((first, stanza))),
                (false, false) => return Ok(None),
                (false, true) if first == 0 && !blank => first = self.lines.number(),
                (false, true) => {}
            }
        }
    }
}

impl Iterator for Stanzas {
    type Item = Result<Item, BadInput>;

    fn next(&mut self) -> Option<Result<Item, BadInput>> {
        let (line, stanza) = match self.stanza() {
            Ok(stanza) => stanza?,
            Err(error) => return Some(Err(error)),
        };
        Some(item(stanza).map_err(|reason| BadInput { line, reason }))
    }
}

fn item(stanza: Vec<u8>) -> Result<Item, String> {
    let value = |name| field(&stanza, name).ok_or_else(|| format!("the stanza that begins here has no {name} field"));
    let key = [value("Package")?, b":", value("Architecture")?].concat();
    let key = Key::new(key).map_err(|error| error.to_string())?;
    Ok(Item { key, values: vec![Bytes::from(stanza)] })
}

/// A field's value on its first line; names are told apart without their case.
fn field<'a>(stanza: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let lines = stanza.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| line.split_at_checked(name.len()))
        .find(|(head, rest)| head.eq_ignore_ascii_case(name.as_bytes()) && rest.first() == Some(&b':'))
        .map(|(_, rest)| rest[1..].trim_ascii())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &'static [u8]) -> Vec<Result<(String, Bytes), String>> {
        let shown = |item: Result<Item, BadInput>| match item {
            Ok(item) => Ok((String::from_utf8(item.key.as_bytes().to_vec()).unwrap(), item.values[0].clone())),
            Err(error) => Err(error.to_string()),
        };
        Stanzas::new(Box::new(text)).map(shown).collect()
    }

    #[test]
    fn stanzas_are_kept_byte_for_byte() {
        let text = b"Package: a\nStatus: install ok\nArchitecture: amd64\nDescription: x\n .\n more \xff\n\nPackage: b\nArchitecture: all\n";
        assert_eq!(
            items(text),
            [
                Ok((
                    "a:amd64".into(),
                    Bytes::from_static(
                        b"Package: a\nStatus: install ok\nArchitecture: amd64\nDescription: x\n .\n more \xff\n"
                    )
                )),
                Ok(("b:all".into(), Bytes::from_static(b"Package: b\nArchitecture: all\n"))),
            ]
        );
    }

    #[test]
    fn blank_lines_anywhere_and_no_last_newline() {
        let text = b"\n\nPackage: a\nArchitecture: all\n\n\n\nPackage: b\nArchitecture: all";
        let keys: Vec<_> = items(text).into_iter().map(|item| item.unwrap().0).collect();
        assert_eq!(keys, ["a:all", "b:all"]);
        assert!(items(b"").is_empty() && items(b"\n \n").is_empty());
    }

    #[test]
    fn a_stanza_without_a_name_is_said_with_its_line() {
        let text = b"Package: a\nArchitecture: all\n\n\nPackage: b\nPackage-Type: udeb\n";
        assert_eq!(items(text)[1], Err("line 5: the stanza that begins here has no Architecture field".into()));
        assert_eq!(items(b"X: y\n")[0], Err("line 1: the stanza that begins here has no Package field".into()));
    }
}
