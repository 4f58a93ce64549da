//! Seeds that once found something.

use std::path::Path;

use super::engine::{Engine, EngineError};
use super::rig::{Minutes, Order, Rig};

/// The runs that a file names, and how many of its lines need an engine that this build lacks.
#[derive(Debug, PartialEq, Eq)]
pub struct Regressions {
    pub orders: Vec<Order>,
    pub not_built: usize,
}

impl Regressions {
    /// Reads a file of lines `SEED MINUTES ENGINE? # what it once found`.
    ///
    /// # Errors
    /// It cannot be read, or a line is no such line: the message names file and line.
    pub fn read(path: &Path) -> Result<Regressions, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Regressions::parse(&text).map_err(|(line, what)| format!("{}:{line}: {what}", path.display()))
    }

    fn parse(text: &str) -> Result<Regressions, (usize, String)> {
        let mut read = Regressions { orders: Vec::new(), not_built: 0 };
        for (index, line) in text.lines().enumerate() {
            let wrong = |what: String| (index + 1, what);
            let (words, comment) = line.split_once('#').unwrap_or((line, ""));
            let words: Vec<&str> = words.split_whitespace().collect();
            let (seed, minutes, engine) = match words[..] {
                [] => continue,
                [seed, minutes] => (seed, minutes, "memory"),
                [seed, minutes, engine] => (seed, minutes, engine),
                _ => return Err(wrong("a line is: SEED MINUTES ENGINE? # what it once found".to_owned())),
            };
            if comment.trim().is_empty() {
                return Err(wrong("it does not say what it once found: SEED MINUTES ENGINE? # what".to_owned()));
            }
            let seed = seed.parse().map_err(|_| wrong(format!("{seed:?} is no seed")))?;
            let minutes: Minutes = minutes.parse().map_err(wrong)?;
            match engine.parse::<Engine>() {
                Ok(engine) => read.orders.push(Order { seed, minutes, rig: Rig { engine, ..Rig::PLAIN } }),
                Err(EngineError::NotBuilt) => read.not_built += 1,
                Err(unknown) => return Err(wrong(unknown.to_string())),
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_comments_and_blank_lines_are_read() {
        let text = "# a header\n\n17 10 # lost a hint\n  4 0.5 memory#two acks\n9 1 rocks # torn tail\n";
        let read = Regressions::parse(text).unwrap();
        let seeds: Vec<(u64, String)> =
            read.orders.iter().map(|order| (order.seed, order.minutes.to_string())).collect();
        assert_eq!(seeds[..2], [(17, "10".to_owned()), (4, "0.5".to_owned())]);
        assert_eq!(read.orders.len() + read.not_built, 3);
        assert_eq!(read.not_built, usize::from(cfg!(not(feature = "rocksdb"))));
    }

    #[test]
    fn bad_lines_are_named() {
        let place = |line: &str| Regressions::parse(&format!("# ok\n{line}\n")).unwrap_err();
        for (line, what) in [
            ("17 # what", "a line is"),
            ("17 1 memory twice # what", "a line is"),
            ("x 1 # what", "no seed"),
            ("-1 1 # what", "no seed"),
            ("1 zero # what", "no number"),
            ("1 0 # what", "0.01 to"),
            ("1 1 paper # what", "no engine"),
            ("1 1", "once found"),
            ("1 1 #  ", "once found"),
        ] {
            let (number, message) = place(line);
            assert_eq!(number, 2, "{line}");
            assert!(message.contains(what), "{line}: {message}");
        }
    }

    #[test]
    fn the_file_of_the_package_is_well_formed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions.txt");
        Regressions::read(&path).unwrap();
    }

    #[test]
    fn an_absent_file_is_an_error_that_names_it() {
        let error = Regressions::read(Path::new("/nonexistent/seeds.txt")).unwrap_err();
        assert!(error.starts_with("/nonexistent/seeds.txt: "), "{error}");
    }
}
