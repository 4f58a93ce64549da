//! Tokens of macros and attributes, which `syn` leaves unparsed.

use syn::buffer::Cursor;

/// One token, as far as the checks need to tell them apart. Literals are not looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    Word(String),
    Mark(char),
    Other,
}

/// The tokens from a cursor on, groups opened, their delimiters gone.
pub fn flatten(mut cursor: Cursor<'_>, into: &mut Vec<Token>) {
    while !cursor.eof() {
        if let Some((inner, _, _, rest)) = cursor.any_group() {
            flatten(inner, into);
            into.push(Token::Other);
            cursor = rest;
        } else if let Some((word, rest)) = cursor.ident() {
            into.push(Token::Word(word.to_string()));
            cursor = rest;
        } else if let Some((mark, rest)) = cursor.punct() {
            into.push(Token::Mark(mark.as_char()));
            cursor = rest;
        } else {
            into.push(Token::Other);
            let Some((_, rest)) = cursor.token_tree() else { return };
            cursor = rest;
        }
    }
}

/// The paths of at least two parts: `crate::ring::Layout` is `crate`, `ring`, `Layout`.
pub fn paths(tokens: &[Token]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut path = Vec::new();
        while let Some(Token::Word(word)) = tokens.get(at) {
            path.push(word.clone());
            at += 1;
            if tokens[at..].starts_with(&[Token::Mark(':'), Token::Mark(':')]) {
                at += 2;
            } else {
                break;
            }
        }
        match path.len() {
            0 => at += 1,
            1 => {}
            _ => paths.push(path),
        }
    }
    paths
}

#[test]
fn paths_are_found_among_other_tokens() {
    let tree: syn::Macro = syn::parse_str("m!(a, crate::ring::B { x: [super::c::d; 2] }, \"crate::no\")").unwrap();
    let mut tokens = Vec::new();
    flatten(syn::buffer::TokenBuffer::new2(tree.tokens).begin(), &mut tokens);
    let found: Vec<String> = paths(&tokens).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::ring::B", "super::c::d"]);
}
