//! Bytes as text: keys, values, contexts.

use std::borrow::Cow;

use bytes::Bytes;
use clap::ValueEnum;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Serialize;

use super::exit::{Exit, Failure};

/// How keys are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum KeyFormat {
    /// As they are; a key that is not UTF-8 is printed in base64 where the format can say so.
    #[default]
    Utf8,
    /// Two hexadecimal digits a byte.
    Hex,
    /// Base64 with padding.
    Base64,
}

impl KeyFormat {
    /// The bytes that a text stands for.
    pub fn parse(self, text: &str) -> Result<Bytes, String> {
        let decoded = match self {
            KeyFormat::Utf8 => return Ok(Bytes::copy_from_slice(text.as_bytes())),
            KeyFormat::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()),
            KeyFormat::Base64 => BASE64.decode(text.as_bytes()),
        };
        decoded.map(Bytes::from).map_err(|error| format!("not {}: {error}", self.word()))
    }

    /// For people; bytes that are not UTF-8 are shown as such.
    pub fn show(self, bytes: &[u8]) -> String {
        match self {
            KeyFormat::Utf8 => printable(bytes),
            KeyFormat::Hex => HEXLOWER.encode(bytes),
            KeyFormat::Base64 => BASE64.encode(bytes),
        }
    }

    fn word(self) -> &'static str {
        match self {
            KeyFormat::Utf8 => "utf8",
            KeyFormat::Hex => "hex",
            KeyFormat::Base64 => "base64",
        }
    }

    /// For programs: the text, and what it is written in unless that is UTF-8.
    pub fn encode(self, bytes: &[u8]) -> Text {
        match (self, std::str::from_utf8(bytes)) {
            (KeyFormat::Utf8, Ok(text)) => Text { text: text.to_owned(), encoding: None },
            (KeyFormat::Hex, _) => Text { text: HEXLOWER.encode(bytes), encoding: Some("hex") },
            _ => Text { text: BASE64.encode(bytes), encoding: Some("base64") },
        }
    }
}

/// Bytes for JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Text {
    /// The text.
    pub text: String,
    /// "hex" or "base64"; absent for UTF-8.
    pub encoding: Option<&'static str>,
}

/// UTF-8 as it is but for control characters; anything else as the hexadecimal of its bytes.
pub fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().flat_map(Shown::of).collect(),
        Err(_) => format!("0x{}", HEXLOWER.encode(bytes)),
    }
}

/// A character that does no harm to a terminal.
enum Shown {
    Plain(std::iter::Once<char>),
    Escaped(std::char::EscapeDefault),
}

impl Shown {
    fn of(c: char) -> Shown {
        if c.is_control() && c != '\n' && c != '\t' {
            Shown::Escaped(c.escape_default())
        } else {
            Shown::Plain(std::iter::once(c))
        }
    }
}

impl Iterator for Shown {
    type Item = char;
    fn next(&mut self) -> Option<char> {
        match self {
            Shown::Plain(one) => one.next(),
            Shown::Escaped(many) => many.next(),
        }
    }
}

/// One line of at most `width` characters, for a table's cell.
pub fn preview(bytes: &[u8], width: usize) -> String {
    let shown = printable(&bytes[..bytes.len().min(width * 4)]);
    // a cut may have split a character
    let shown = if shown.starts_with("0x") && std::str::from_utf8(bytes).is_ok() {
        String::from_utf8_lossy(&bytes[..width * 4]).into_owned()
    } else {
        shown
    };
    let line = shown.replace(['\n', '\t'], " ");
    if line.chars().count() <= width && bytes.len() <= width * 4 {
        return line;
    }
    let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A context as people carry it around.
pub fn show_context(context: &[u8]) -> String {
    BASE64URL_NOPAD.encode(context)
}

/// A context of the command line: base64url, or `@FILE` that holds it.
pub fn parse_context(text: &str) -> Result<Bytes, Failure> {
    let text = match text.strip_prefix('@') {
        Some(path) => Cow::Owned(
            std::fs::read_to_string(path)
                .map_err(|error| Failure::new(Exit::Error, format!("cannot read {path}: {error}")))?,
        ),
        None => Cow::Borrowed(text),
    };
    let bad = |error| Failure::usage(format!("the context is not one that get or put printed: {error}"));
    BASE64URL_NOPAD.decode(text.trim().as_bytes()).map(Bytes::from).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_every_format() {
        for (format, text) in [(KeyFormat::Utf8, "a7"), (KeyFormat::Hex, "6137"), (KeyFormat::Base64, "YTc=")] {
            assert_eq!(format.parse(text), Ok(Bytes::from_static(b"a7")));
            assert_eq!(format.show(b"a7"), text);
        }
        assert!(KeyFormat::Hex.parse("6g").unwrap_err().starts_with("not hex"));
        assert_eq!(KeyFormat::Utf8.encode(&[0xff]), Text { text: "/w==".into(), encoding: Some("base64") });
    }

    #[test]
    fn terminals_are_not_harmed() {
        assert_eq!(printable(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\n");
        assert_eq!(printable(&[0xff, 0]), "0xff00");
    }

    #[test]
    fn previews_are_one_short_line() {
        assert_eq!(preview(b"short", 10), "short");
        assert_eq!(preview(b"two\nlines", 10), "two lines");
        assert_eq!(preview("äöüäöüäöüäöü".as_bytes(), 5), "äöüä…");
        assert_eq!(preview(&[b'a'; 1000], 5), "aaaa…");
        assert_eq!(preview("a€€€€€€€€€".as_bytes(), 3).chars().count(), 3);
    }

    #[test]
    fn contexts_come_as_text_or_from_a_file() {
        let context = Bytes::from_static(&[1, 255, 62]);
        assert_eq!(parse_context(&show_context(&context)), Ok(context.clone()));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{}\n", show_context(&context))).unwrap();
        assert_eq!(parse_context(&format!("@{}", file.path().display())), Ok(context));
        assert_eq!(parse_context("no context!").unwrap_err().exit, Exit::Usage);
        assert_eq!(parse_context("@/nowhere").unwrap_err().exit, Exit::Error);
    }
}
