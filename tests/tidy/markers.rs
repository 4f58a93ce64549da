//! Words that may not be left behind, and permissions that only drivers have.

use syn::buffer::TokenBuffer;
use syn::parse::{ParseStream, Parser as _};
use syn::visit::Visit;

use crate::modules::Source;
use crate::tokens::{self, Token};

/// Modules that touch the world: clocks, sockets, threads. The rest of the crate is handed time and randomness.
const DRIVERS: &[&[&str]] = &[&["net"], &["server"], &["client", "driver"], &["bin"], &["storage", "rocks"]];

/// Half-done work and tests that do not run.
pub fn unfinished(source: &Source) -> Vec<String> {
    let all = |input: ParseStream<'_>| {
        input.step(|cursor| {
            let mut flat = Vec::new();
            tokens::flatten(*cursor, &mut flat);
            let mut end = *cursor;
            while let Some((_, rest)) = end.token_tree() {
                end = rest;
            }
            Ok((flat, end))
        })
    };
    let flat = all.parse_str(&source.text).unwrap_or_else(|error| panic!("{}: {error}", source.path));
    let mut findings = Vec::new();
    for (at, pair) in flat.windows(2).enumerate() {
        match pair {
            // `todo != x` compares
            [Token::Word(word), Token::Mark('!')]
                if (word == "todo" || word == "unimplemented") && flat.get(at + 2) != Some(&Token::Mark('=')) =>
            {
                findings.push(format!("{}: `{word}!` is left", source.path));
            }
            [Token::Mark('#'), Token::Word(word)] if word == "ignore" => {
                findings.push(format!("{}: a test is ignored", source.path));
            }
            _ => {}
        }
    }
    findings
}

/// Permissions to use what `clippy.toml` disallows, outside the drivers. One given where a driver is declared counts as its own.
pub fn misplaced_allows(source: &Source) -> Vec<String> {
    let mut allows = Allows { here: source.module(), misplaced: Vec::new() };
    allows.visit_file(&source.tree);
    allows
        .misplaced
        .iter()
        .map(|module| {
            format!("{}: `{module}` is no driver, and may not be allowed what clippy.toml disallows", source.path)
        })
        .collect()
}

struct Allows {
    here: Vec<String>,
    misplaced: Vec<String>,
}

impl<'ast> Visit<'ast> for Allows {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.here.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.here.pop();
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let is_driver =
            DRIVERS.iter().any(|driver| self.here.iter().zip(*driver).filter(|(a, b)| a == *b).count() == driver.len());
        let syn::Meta::List(list) = &attribute.meta else { return };
        let permits = ["allow", "expect", "warn", "cfg_attr"].iter().any(|level| list.path.is_ident(level));
        if is_driver || !permits {
            return;
        }
        let mut flat = Vec::new();
        tokens::flatten(TokenBuffer::new2(list.tokens.clone()).begin(), &mut flat);
        if flat.iter().any(|token| matches!(token, Token::Word(word) if word.starts_with("disallowed_"))) {
            self.misplaced.push(self.here.join("::"));
        }
    }
}

#[track_caller]
fn check(found: &[String], expected: usize, text: &str) {
    assert_eq!(found.len(), expected, "{text}: {found:?}");
}

#[test]
fn planted_markers_are_found() {
    let found = |text: &str| unfinished(&Source::new("src/ring/claim.rs", text.to_owned()));
    for planted in [
        "fn f() { todo!() }",
        "fn f() { vec![unimplemented!(\"later\")]; }",
        "#[test]\n#[ignore]\nfn f() {}",
        "#[test]\n#[ignore = \"slow\"]\nfn f() {}",
        "macro_rules! m { () => { core::todo!() } }",
    ] {
        check(&found(planted), 1, planted);
    }
    let clean = "/// todo!()\nfn f(todo: bool) -> bool { g(\"todo!()\"); todo != ignore }";
    check(&found(clean), 0, clean);
}

#[test]
fn planted_allows_are_found_outside_the_drivers() {
    let found = |path: &str, text: &str| misplaced_allows(&Source::new(path, text.to_owned()));
    let text = "#![allow(clippy::disallowed_methods, reason = \"it is the clock\")]";
    for (path, expected) in [
        ("src/net/lane.rs", 0),
        ("src/bin/dynkv.rs", 0),
        ("src/client/driver.rs", 0),
        ("src/client/session.rs", 1),
        ("src/storage/rocks/batch.rs", 0),
        ("src/storage/mod.rs", 1),
        ("src/lib.rs", 1),
        ("src/sim/world.rs", 1),
    ] {
        check(&found(path, text), expected, path);
    }
    for (text, expected) in [
        ("#[allow(clippy::disallowed_types, reason = \"r\")] pub mod net;", 0),
        ("#[allow(clippy::disallowed_types, reason = \"r\")] pub mod ring;", 1),
        ("#[expect(clippy::disallowed_types, reason = \"r\")] fn f() {}", 1),
        ("fn f() { #[allow(clippy::disallowed_types)] let x = 1; }", 1),
        ("#[allow(dead_code, reason = \"r\")] fn f() {}", 0),
    ] {
        check(&found("src/lib.rs", text), expected, text);
    }
}
