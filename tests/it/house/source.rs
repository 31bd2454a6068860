//! Rust source as tokens without comments and test code; strings are single tokens.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A word, `::` or another character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    /// The content of a string literal.
    Text(String),
    Path,
    Mark(char),
}

impl Token {
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(super) fn is(&self, mark: char) -> bool {
        *self == Token::Mark(mark)
    }
}

/// The files in a folder with this extension, by relative path.
pub(super) fn files(folder: &Path, extension: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/");
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// The tokens of a file, without test code.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    without_tests(&all_tokens(text))
}

fn all_tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { chars: text.chars().collect(), place: 0 };
    let mut tokens = Vec::new();
    while reader.place < reader.chars.len() {
        tokens.extend(reader.token());
    }
    tokens
}

struct Reader {
    chars: Vec<char>,
    place: usize,
}

impl Reader {
    fn at(&self, ahead: usize) -> char {
        self.chars.get(self.place + ahead).copied().unwrap_or('\0')
    }

    /// Advances while `more` holds and the file has not ended.
    fn take_while(&mut self, more: impl Fn(&Self) -> bool) -> String {
        let start = self.place;
        while self.place < self.chars.len() && more(self) {
            self.place += 1;
        }
        self.chars[start..self.place].iter().collect()
    }

    /// The next token, if one begins here.
    fn token(&mut self) -> Option<Token> {
        match (self.at(0), self.at(1)) {
            ('/', '/') => {
                self.take_while(|r| r.at(0) != '\n');
                None
            }
            ('/', '*') => {
                self.block_comment();
                None
            }
            ('"', _) => Some(self.text(0)),
            ('\'', _) => {
                self.character();
                None
            }
            (':', ':') => {
                self.place += 2;
                Some(Token::Path)
            }
            (c, _) if is_word(c) => self.word(),
            (c, _) => {
                self.place += 1;
                (!c.is_whitespace()).then_some(Token::Mark(c))
            }
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.at(0), self.at(1)) {
                ('/', '*') => (depth, self.place) = (depth + 1, self.place + 2),
                ('*', '/') => (depth, self.place) = (depth - 1, self.place + 2),
                _ => self.place += 1,
            }
            if depth == 0 || self.place >= self.chars.len() {
                return;
            }
        }
    }

    /// A character literal, or the quote of a lifetime.
    fn character(&mut self) {
        if self.at(1) == '\\' {
            self.place += 3;
            self.take_while(|r| r.at(0) != '\'');
            self.place += 1;
        } else {
            self.place += if self.at(2) == '\'' { 3 } else { 1 };
        }
    }

    /// A string literal that begins here, after so many `#`.
    fn text(&mut self, hashes: usize) -> Token {
        self.place += 1;
        let mut text = String::new();
        while self.place < self.chars.len() {
            match self.at(0) {
                '"' if (1..=hashes).all(|i| self.at(i) == '#') => break,
                '\\' if hashes == 0 => self.place += 2,
                c => {
                    text.push(c);
                    self.place += 1;
                }
            }
        }
        self.place += 1 + hashes;
        Token::Text(text)
    }

    /// A word, or the string literal of which it is the prefix.
    fn word(&mut self) -> Option<Token> {
        let word = self.take_while(|r| is_word(r.at(0)));
        let hashes = (0..).take_while(|&i| self.at(i) == '#').count();
        match (word.as_str(), self.at(hashes)) {
            ("r" | "br", '"') if hashes > 0 => {
                self.place += hashes;
                Some(self.text(hashes))
            }
            // A raw string such as `r"..\"` would be misread; the sources have none.
            ("r" | "br" | "b", '"') | ("b", '\'') if hashes == 0 => None,
            // A raw identifier.
            ("r", c) if hashes == 1 && is_word(c) => {
                self.place += 1;
                None
            }
            _ => Some(Token::Word(word)),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The tokens without items below `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let (mut kept, mut rest) = (Vec::new(), tokens);
    while let Some(first) = rest.first() {
        match after_test(rest) {
            Some(after) => rest = after,
            None => {
                kept.push(first.clone());
                rest = &rest[1..];
            }
        }
    }
    kept
}

/// The tokens after the item, if `#[cfg(test)]` begins here.
fn after_test(tokens: &[Token]) -> Option<&[Token]> {
    let attribute = all_tokens("#[cfg(test)]");
    let rest = tokens.strip_prefix(attribute.as_slice())?;
    let mut depth = 0;
    for (i, token) in rest.iter().enumerate() {
        match token {
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark(c @ ('}' | ')' | ']')) => {
                depth -= 1;
                if depth == 0 && *c == '}' {
                    return Some(&rest[i + 1..]);
                }
            }
            Token::Mark(';') if depth == 0 => return Some(&rest[i + 1..]),
            _ => {}
        }
    }
    Some(&[])
}

#[test]
fn code_is_read_without_comments_and_tests() {
    let text = r##"
        /* a /* nested */ one */ use a::b; // crate::comment
        const C: &str = r#"crate::raw "text""#;
        const Q: [char; 3] = ['"', '\'', '\u{41}'];
        #[cfg(test)]
        #[derive(Debug)]
        mod tests { use crate::only; fn f() { if true {} } }
        #[cfg(test)]
        use crate::here;
        fn g<'a>(r: &'a str, r#type: u8) { b"bytes"; "esc\"aped" }"##;
    let shown: Vec<String> = tokens(text)
        .into_iter()
        .map(|t| match t {
            Token::Word(word) => word,
            Token::Text(text) => format!("{text:?}"),
            Token::Path => "::".into(),
            Token::Mark(c) => c.into(),
        })
        .collect();
    let expected = r##"use a :: b ; const C : & str = "crate::raw \"text\"" ; const Q : [ char ; 3 ] = [ , , ] ;
        fn g < a > ( r : & a str , type : u8 ) { "bytes" ; "escaped" }"##;
    assert_eq!(shown.join(" "), expected.split_whitespace().collect::<Vec<_>>().join(" "));
}
