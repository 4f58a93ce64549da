//! Which module may know which: arrows run one way.

use std::collections::BTreeSet;

use syn::buffer::TokenBuffer;
use syn::visit::Visit;

use crate::modules::{self, Source};
use crate::tokens;

/// Each module, in reading order, and the others that its code may name. Tests are exempt. What is absent is meant:
/// `gossip`, `quorum` and `antientropy` never know one another (`node` mediates), no subsystem reads `config`, and the
/// client knows what travels, not how a node works.
const EDGES: &[(&str, &[&str])] = &[
    (ANYWHERE, &[]),
    ("types", &[]),
    ("version", &["types"]),
    ("ring", &["types", "version"]),
    ("storage", &["types", "version"]),
    ("gossip", &["types", "version"]),
    ("quorum", &["types", "version", "ring", "storage"]),
    ("antientropy", &["types", "version", "ring", "storage"]),
    ("api", &["types", "version", "ring", "storage", "gossip", "quorum", "antientropy"]),
    // a node forwards a client's request as it is
    ("message", &["types", "version", "ring", "storage", "gossip", "quorum", "antientropy", "api"]),
    ("frame", &["types", "version", "ring", "storage", "gossip", "quorum", "antientropy", "message", "api"]),
    ("node", &["types", "version", "ring", "storage", "gossip", "quorum", "antientropy", "message", "api", "frame"]),
    ("net", &["types", "version", "ring", "gossip", "quorum", "message", "api", "frame", "node"]),
    ("client", &["types", "version", "ring", "quorum", "api", "frame", "net"]),
    (
        "sim",
        &[
            "types",
            "version",
            "ring",
            "storage",
            "gossip",
            "quorum",
            "antientropy",
            "message",
            "api",
            "frame",
            "node",
            "client",
        ],
    ),
    ("config", &["types", "ring", "storage", "gossip", "quorum", "antientropy", "net"]),
    ("local", &["net"]),
    (
        "server",
        &[
            "types",
            "version",
            "ring",
            "storage",
            "gossip",
            "quorum",
            "antientropy",
            "message",
            "api",
            "frame",
            "node",
            "net",
            "client",
            "config",
        ],
    ),
    (
        "bin",
        &[
            "types", "version", "ring", "storage", "gossip", "quorum", "api", "frame", "net", "client", "sim",
            "config", "local", "server",
        ],
    ),
];

/// The seeded bugs are planted in every module, and name none.
const ANYWHERE: &str = "mutant";

/// Every use of a module that the table does not allow.
pub fn violations(sources: &[Source]) -> Vec<String> {
    let tests: Vec<Vec<String>> = sources.iter().flat_map(Source::test_modules).collect();
    let is_test = |module: &[String]| tests.iter().any(|test| module.starts_with(test));
    sources.iter().filter(|source| !is_test(&source.module())).flat_map(violations_of).collect()
}

fn violations_of(source: &Source) -> Vec<String> {
    let file = source.module();
    // `lib.rs` declares and re-exports, and belongs to no tier
    let Some(from) = file.first() else { return Vec::new() };
    let Some((_, allowed)) = EDGES.iter().find(|(module, _)| module == from) else {
        return vec![format!("{}: module `{from}` is not in the table of edges", source.path)];
    };
    let mut uses = Uses { here: file.clone(), found: BTreeSet::new() };
    uses.visit_file(&source.tree);
    let refusal = |to: &String| match to.as_str() {
        "*" => format!("{}: a glob or an alias of the crate's root hides what is used", source.path),
        to if EDGES.iter().any(|(module, _)| *module == to) => format!("{}: `{from}` may not know `{to}`", source.path),
        to => format!("{}: `{to}` is not in the table of edges", source.path),
    };
    let is_refused = |to: &&String| *to != from && *to != ANYWHERE && !allowed.contains(&to.as_str());
    uses.found.iter().filter(is_refused).map(refusal).collect()
}

/// Collects the top-level modules of this crate that a file names.
struct Uses {
    /// The module that is being visited.
    here: Vec<String>,
    /// Top-level modules; `*` for the root itself.
    found: BTreeSet<String>,
}

impl Uses {
    /// Follows a path from where it stands to the top-level module it leads to, if it leads into this crate.
    fn follow(&mut self, path: &[String]) {
        let is_bin = self.here.first().is_some_and(|first| first == "bin");
        let mut at = match path.first().map(String::as_str) {
            Some("dynkv") => Vec::new(),
            // a binary is a crate of its own
            Some("crate") if !is_bin => Vec::new(),
            Some("self" | "super") if !is_bin => self.here.clone(),
            _ => return,
        };
        for (index, part) in path.iter().enumerate() {
            match part.as_str() {
                "crate" | "dynkv" | "self" if index == 0 => {}
                "self" => {}
                "super" => {
                    at.pop();
                }
                other => at.push(other.to_owned()),
            }
        }
        match at.first() {
            Some(module) => self.found.insert(module.clone()),
            None => self.found.insert("*".to_owned()),
        };
    }

    fn use_tree(&mut self, tree: &syn::UseTree, prefix: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.use_tree(&path.tree, prefix);
                prefix.pop();
            }
            syn::UseTree::Name(syn::UseName { ident }) | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                prefix.push(ident.to_string());
                self.follow(prefix);
                prefix.pop();
            }
            syn::UseTree::Glob(_) => self.follow(prefix),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, prefix)),
        }
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !modules::is_test_only(modules::attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !modules::is_test_only(&function.attrs) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.here.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.here.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &mut Vec::new());
    }

    /// `pub(crate)` and `pub(in path)` use nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 {
            self.follow(&parts);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(&TokenBuffer::new2(call.tokens.clone()));
        syn::visit::visit_macro(self, call);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(&TokenBuffer::new2(list.tokens.clone()));
        syn::visit::visit_meta_list(self, list);
    }
}

impl Uses {
    fn tokens(&mut self, buffer: &TokenBuffer) {
        let mut flat = Vec::new();
        tokens::flatten(buffer.begin(), &mut flat);
        tokens::paths(&flat).iter().for_each(|path| self.follow(path));
    }
}

#[track_caller]
fn check(path: &str, text: &str, expected: &[&str]) {
    assert_eq!(violations(&[Source::new(path, text.to_owned())]), expected, "{text}");
}

#[test]
fn a_planted_edge_is_found_however_it_is_written() {
    let refused = ["src/gossip/phi.rs: `gossip` may not know `quorum`"];
    for planted in [
        "use crate::quorum::Level;",
        "pub(crate) use crate::{types, quorum as q};",
        "use crate::{types::{Key, Now}, quorum::*};",
        "use super::super::quorum::Level;",
        "use dynkv::quorum;",
        "fn f() -> crate::quorum::Level { todo() }",
        "fn f() { let _ = crate::quorum::Level::One; }",
        "fn f() { g::<crate::quorum::Level>() }",
        "fn f() { println!(\"{}\", [crate::quorum::Level::One]); }",
        "macro_rules! m { () => { $crate::quorum::Level } }",
        "impl crate::quorum::Tally for S {}",
        "mod inner { use super::super::super::quorum::Level; }",
        "#[cfg(any(test, unix))] use crate::quorum::Level;",
        "#[derive(D)] #[d(crate::quorum::Level)] struct S;",
    ] {
        check("src/gossip/phi.rs", planted, &refused);
    }
}

#[test]
fn the_seeded_bugs_know_nothing() {
    check(
        "src/mutant/catalogue.rs",
        "use crate::types::Key;",
        &["src/mutant/catalogue.rs: `mutant` may not know `types`"],
    );
}

#[test]
fn what_the_table_allows_passes() {
    check("src/quorum/get.rs", "use crate::{ring::Layout, version::Object, types::Key, quorum::Level};", &[]);
    check("src/quorum/get.rs", "use super::tally::Tally; use self::x::Y; use std::net; pub(crate) fn f() {}", &[]);
    check("src/gossip/phi.rs", "#[cfg(test)] mod tests { use crate::quorum::Level; use super::*; }", &[]);
    check("src/gossip/phi.rs", "impl S { #[cfg(test)] fn f() { crate::quorum::f() } }", &[]);
    check("src/gossip/phi.rs", "/// See [`crate::quorum`].\nfn f() { g(\"crate::quorum::Level\") }", &[]);
    check("src/lib.rs", "pub mod quorum; pub use quorum::Level;", &[]);
    check("src/types.rs", "use crate::mutant::Mutant; fn f() -> bool { mutant!(TwinsShown) }", &[]);
    check("src/bin/dynkv.rs", "mod dev; use crate::dev::run; use dynkv::{config, server};", &[]);
}

#[test]
fn other_ways_around_the_table_are_found() {
    check(
        "src/gossip/phi.rs",
        "use crate::*;",
        &["src/gossip/phi.rs: a glob or an alias of the crate's root hides what is used"],
    );
    check(
        "src/types.rs",
        "use super::*;",
        &["src/types.rs: a glob or an alias of the crate's root hides what is used"],
    );
    check("src/gossip/phi.rs", "use crate::extra::X;", &["src/gossip/phi.rs: `extra` is not in the table of edges"]);
    check("src/extra.rs", "", &["src/extra.rs: module `extra` is not in the table of edges"]);
    check(
        "src/bin/dynkv-cli/get.rs",
        "use dynkv::node::Shard;",
        &["src/bin/dynkv-cli/get.rs: `bin` may not know `node`"],
    );
}

#[test]
fn a_file_of_tests_is_exempt_by_its_declaration() {
    let parent = |text: &str| Source::new("src/gossip/mod.rs", text.to_owned());
    let child = || Source::new("src/gossip/tests.rs", "use crate::quorum::Level;".to_owned());
    assert_eq!(violations(&[parent("#[cfg(test)] mod tests;"), child()]), Vec::<String>::new());
    assert_eq!(violations(&[parent("mod tests;"), child()]).len(), 1);
}

#[test]
fn the_table_has_no_cycle() {
    for (at, (module, allowed)) in EDGES.iter().enumerate() {
        for to in *allowed {
            let earlier = EDGES[..at].iter().any(|(module, _)| module == to);
            assert!(earlier, "`{module}` lists `{to}`, which is not above it in the table");
        }
    }
}
