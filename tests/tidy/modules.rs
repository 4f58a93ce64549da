//! Files as modules: where one stands in the tree, which parts of it are tests.

use syn::parse::Parser as _;
use syn::visit::Visit;

/// One file of the package.
pub struct Source {
    /// Relative to the package: `src/storage/rocks.rs`.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Its text, parsed.
    pub tree: syn::File,
}

impl Source {
    pub fn new(path: &str, text: String) -> Source {
        let tree = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        Source { path: path.to_owned(), text, tree }
    }

    /// The path of its module within its crate: `storage`, `rocks`. For a binary, `bin` and its file's path.
    /// Empty for `lib.rs`.
    pub fn module(&self) -> Vec<String> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let inner = inner.strip_suffix(".rs").unwrap_or(inner);
        let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
        if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
            parts.pop();
        }
        parts
    }

    /// The modules of other files that it declares for tests only: `#[cfg(test)] mod tests;`.
    pub fn test_modules(&self) -> Vec<Vec<String>> {
        let mut declared = Vec::new();
        for item in &self.tree.items {
            if let syn::Item::Mod(module) = item
                && module.content.is_none()
                && is_test_only(&module.attrs)
            {
                let mut path = self.module();
                path.push(module.ident.to_string());
                declared.push(path);
            }
        }
        declared
    }
}

/// The names of a file's module, of its directories, and of the modules in it.
pub fn names(source: &Source) -> Vec<String> {
    struct Names(Vec<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
            self.0.push(module.ident.to_string());
            syn::visit::visit_item_mod(self, module);
        }
    }
    let mut names = Names(source.module());
    names.visit_file(&source.tree);
    names.0
}

/// `#[cfg(test)]` or `#[cfg(all(test, ..))]`; under `any` and `not` code is more than tests.
pub fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        syn::parse2::<syn::Meta>(list.tokens.clone()).is_ok_and(|meta| implies_test(&meta))
    })
}

fn implies_test(meta: &syn::Meta) -> bool {
    match meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("all") => {
            let several = syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated;
            several.parse2(list.tokens.clone()).is_ok_and(|metas| metas.iter().any(implies_test))
        }
        _ => false,
    }
}

/// The attributes of an item.
pub fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item;
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[test]
fn tests_are_told_from_code() {
    let attributes = |text: &str| match syn::parse_str::<syn::Item>(&format!("{text} fn f() {{}}")).unwrap() {
        syn::Item::Fn(item) => item.attrs,
        _ => Vec::new(),
    };
    for test in ["#[cfg(test)]", "#[cfg(all(unix, test))]", "#[inline] #[cfg(all(all(test)))]"] {
        assert!(is_test_only(&attributes(test)), "{test}");
    }
    for code in ["", "#[cfg(unix)]", "#[cfg(not(test))]", "#[cfg(any(test, unix))]", "#[cfg_attr(test, inline)]"] {
        assert!(!is_test_only(&attributes(code)), "{code}");
    }
}

#[test]
fn a_file_knows_its_module() {
    for (path, module) in [
        ("src/lib.rs", ""),
        ("src/types.rs", "types"),
        ("src/storage/mod.rs", "storage"),
        ("src/storage/config/size.rs", "storage::config::size"),
        ("src/bin/dynkv/dev.rs", "bin::dynkv::dev"),
    ] {
        assert_eq!(Source::new(path, String::new()).module().join("::"), module);
    }
}
