//! Dependencies between the files of a crate, and circles among them.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Token, tokens};

/// A module's path from the root of its crate; empty for the root.
pub(super) type Module = Vec<String>;

/// A name that a `use` declares in a module, and its target.
#[derive(Debug)]
struct Import {
    name: String,
    path: Vec<String>,
    /// True for `pub use`.
    is_public: bool,
}

/// A file as a module.
#[derive(Debug, Default)]
struct Source {
    children: BTreeSet<String>,
    imports: Vec<Import>,
    /// Paths in the code, except those of imports.
    paths: Vec<Vec<String>>,
    /// All words in the code, except those of imports.
    words: BTreeSet<String>,
    /// Its macros with `#[macro_export]`.
    exported_macros: BTreeSet<String>,
}

/// The modules of a crate that are files.
#[derive(Debug, Default)]
pub(super) struct Crate {
    modules: BTreeMap<Module, Source>,
    /// The file of each module.
    files: BTreeMap<Module, String>,
}

/// The use of an item by a file that does not define it.
#[derive(Clone, Debug)]
struct Use {
    from: Module,
    to: Module,
    item: String,
}

impl Crate {
    /// Reads a crate from its root file on; `files` are those of its folder by relative path.
    pub(super) fn read(root: &str, files: &BTreeMap<String, String>) -> Crate {
        let mut all = Crate::default();
        all.add(Vec::new(), root, files);
        all
    }

    fn add(&mut self, module: Module, file: &str, files: &BTreeMap<String, String>) {
        let source = Source::read(&files[file]);
        for child in &source.children {
            let path = [module.as_slice(), std::slice::from_ref(child)].concat();
            let plain = format!("{}.rs", path.join("/"));
            let folder = format!("{}/mod.rs", path.join("/"));
            let found = [plain, folder].into_iter().find(|f| files.contains_key(f));
            self.add(path, &found.unwrap_or_else(|| panic!("{file}: no file of mod {child}")), files);
        }
        self.files.insert(module.clone(), file.to_owned());
        self.modules.insert(module, source);
    }

    /// The module whose file defines the item that a path in `from` names; `None` if it is outside the crate.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<Module> {
        let (mut module, rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => {
                let up = path.iter().take_while(|p| *p == "super").count();
                (from[..from.len().saturating_sub(up)].to_vec(), &path[up..])
            }
            first if self.modules[from].children.contains(first) => (from.clone(), path),
            _ => return None,
        };
        for (i, name) in rest.iter().enumerate() {
            let source = &self.modules[&module];
            if source.children.contains(name) {
                module.push(name.clone());
                continue;
            }
            if let Some(import) = source.imports.iter().find(|import| import.name == *name) {
                let path = [import.path.as_slice(), &rest[i + 1..]].concat();
                return self.resolve(&module, &path);
            }
            // An exported macro is at the root, whichever file defines it.
            if module.is_empty()
                && let Some((home, _)) = self.modules.iter().find(|(_, s)| s.exported_macros.contains(name))
            {
                return Some(home.clone());
            }
            break;
        }
        Some(module)
    }

    /// The uses of other files by each file. A re-export counts only if the file uses the name in its own code.
    fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (from, source) in &self.modules {
            let imports = source.imports.iter().filter(|i| !i.is_public || source.words.contains(&i.name));
            for path in imports.map(|i| &i.path).chain(&source.paths) {
                if let Some(to) = self.resolve(from, path).filter(|to| to != from) {
                    uses.push(Use { from: from.clone(), to, item: path.last().cloned().unwrap_or_default() });
                }
            }
        }
        uses
    }

    /// The folder of each circle, and the uses that form it.
    pub(super) fn circles(&self) -> Vec<(Module, String)> {
        // For each folder the dependencies between its parts, each with the first use found.
        let mut folders = BTreeMap::<Module, BTreeMap<Module, BTreeMap<Module, Use>>>::new();
        for found in self.uses() {
            let common = found.from.iter().zip(&found.to).take_while(|(a, b)| a == b).count();
            let part = |m: &Module| m[..m.len().min(common + 1)].to_vec();
            let (from, to) = (part(&found.from), part(&found.to));
            // The folder's own file.
            if from.len() == common || to.len() == common {
                continue;
            }
            let parts = folders.entry(found.from[..common].to_vec()).or_default();
            parts.entry(from).or_default().entry(to).or_insert(found);
        }
        let mut all = Vec::new();
        for (folder, parts) in &folders {
            let mut told = BTreeSet::new();
            for start in parts.keys() {
                let Some(circle) = shortest_circle(parts, start) else { continue };
                if circle.iter().any(|part| told.contains(part)) {
                    continue;
                }
                let uses = circle.iter().enumerate().map(|(i, part)| {
                    let found = &parts[part][&circle[(i + 1) % circle.len()]];
                    format!("{} uses {} of {}", self.files[&found.from], found.item, self.files[&found.to])
                });
                all.push((folder.clone(), uses.collect::<Vec<String>>().join(", ")));
                told.extend(circle);
            }
        }
        all
    }
}

/// The parts of a shortest circle through `start`.
fn shortest_circle(parts: &BTreeMap<Module, BTreeMap<Module, Use>>, start: &Module) -> Option<Vec<Module>> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in way.last().and_then(|last| parts.get(last)).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push([way.as_slice(), std::slice::from_ref(next)].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

impl Source {
    fn read(text: &str) -> Source {
        let tokens = tokens(text);
        let mut source = Source::default();
        // For each open brace whether it belongs to an inline module.
        let mut inline: Vec<bool> = Vec::new();
        let mut i = 0;
        while let Some(token) = tokens.get(i) {
            let rest = &tokens[i + 1..];
            match (token.word(), rest.first()) {
                // `use<..>` in a type is not an import.
                (Some("use"), next) if next.is_some_and(|next| !next.is('<')) => {
                    let end = i + rest.iter().position(|t| t.is(';')).unwrap_or(rest.len());
                    let is_public = i > 0 && is_visibility(&tokens[..i]);
                    let depth = inline.iter().filter(|m| **m).count();
                    let mut paths = Vec::new();
                    tree(&mut rest[..end - i].iter().peekable(), &mut Vec::new(), &mut paths);
                    for (path, name) in paths {
                        match outside(path, depth) {
                            // Imports of an inline module are not names of the file.
                            Some(path) if depth > 0 => source.paths.push(path),
                            Some(path) => source.imports.push(Import { name, path, is_public }),
                            None => {}
                        }
                    }
                    i = end + 1;
                    continue;
                }
                (Some("mod"), Some(Token::Word(name))) if rest.get(1).is_some_and(|t| t.is(';')) => {
                    source.children.insert(name.clone());
                }
                (Some("mod"), Some(Token::Word(_))) => {
                    inline.push(true);
                    i += 3;
                    continue;
                }
                (Some("macro_rules"), _) if is_exported(&tokens[..i]) => {
                    source.exported_macros.extend(rest.get(1).and_then(Token::word).map(str::to_owned));
                }
                (Some(word), Some(Token::Path)) if i == 0 || tokens[i - 1] != Token::Path => {
                    let mut path = vec![word.to_owned()];
                    for pair in rest.chunks(2) {
                        let [Token::Path, Token::Word(next)] = pair else { break };
                        path.push(next.clone());
                    }
                    let depth = inline.iter().filter(|m| **m).count();
                    source.paths.extend(outside(path, depth));
                }
                _ if token.is('{') => inline.push(false),
                _ if token.is('}') => _ = inline.pop(),
                _ => {}
            }
            source.words.extend(token.word().map(str::to_owned));
            i += 1;
        }
        source
    }
}

/// True if these tokens end with `pub` or `pub(..)`.
fn is_visibility(before: &[Token]) -> bool {
    let last = match before {
        [rest @ .., Token::Mark('('), Token::Word(_), Token::Mark(')')] => rest.last(),
        _ => before.last(),
    };
    last.and_then(Token::word) == Some("pub")
}

/// True if these tokens end with `#[macro_export]`.
fn is_exported(before: &[Token]) -> bool {
    matches!(before, [.., Token::Word(word), Token::Mark(']')] if word == "macro_export")
}

/// A path relative to the file, given its form `depth` inline modules deep; `None` if it does not leave these.
fn outside(path: Vec<String>, depth: usize) -> Option<Vec<String>> {
    let up = path.iter().take_while(|p| *p == "super").count();
    match path[0].as_str() {
        "super" if up < depth => None,
        "super" if up == depth => Some([vec!["self".to_owned()], path[up..].to_vec()].concat()),
        "super" => Some(path[depth..].to_vec()),
        "self" if depth > 0 => None,
        _ => Some(path),
    }
}

/// The paths of a `use`, each with the name that it declares.
fn tree<'t>(
    tokens: &mut std::iter::Peekable<impl Iterator<Item = &'t Token>>,
    before: &mut Vec<String>,
    found: &mut Vec<(Vec<String>, String)>,
) {
    let start = before.len();
    let mut renamed = None;
    let mut ended = false;
    loop {
        match tokens.next() {
            Some(Token::Word(word)) if word == "as" => renamed = tokens.next().and_then(Token::word).map(str::to_owned),
            Some(Token::Word(word)) => before.push(word.clone()),
            Some(Token::Mark('*')) => before.push("*".into()),
            Some(Token::Mark('{')) => {
                tree(tokens, before, found);
                ended = true;
            }
            Some(Token::Path) => {}
            other => {
                if !ended && before.len() > start {
                    // `a::{self}` names `a`.
                    let is_self = before.len() > 1 && before.last().is_some_and(|last| last == "self");
                    let path = &before[..before.len() - usize::from(is_self)];
                    let name = renamed.take().or_else(|| path.last().cloned()).unwrap_or_default();
                    found.push((path.to_vec(), name));
                }
                before.truncate(start);
                (renamed, ended) = (None, false);
                if !matches!(other, Some(Token::Mark(','))) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> String {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Crate::read("lib.rs", &files).circles().into_iter().map(|(_, circle)| circle + "\n").collect()
    }

    #[test]
    fn circles_of_files_are_told() {
        let told = circles(&[
            ("lib.rs", "mod a; mod b; mod c; pub use a::A;"),
            ("a.rs", "use crate::b::{self, B as Other};"),
            ("b.rs", "pub struct B; fn f() { crate::c::g() }"),
            ("c.rs", "fn h() -> impl Fn() + use<> { || {} } fn g(_: super::A) {}"),
        ]);
        assert_eq!(told, "a.rs uses b of b.rs, b.rs uses g of c.rs, c.rs uses A of a.rs\n");
    }

    #[test]
    fn circles_of_folders_are_told() {
        let told = circles(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod first; mod second;"),
            ("a/first.rs", "use crate::b::third::T;"),
            ("a/second.rs", "pub struct S;"),
            ("b/mod.rs", "pub mod third; mod fourth;"),
            ("b/third.rs", "pub struct T;"),
            ("b/fourth.rs", "use super::super::a::second::S;"),
        ]);
        assert_eq!(told, "a/first.rs uses T of b/third.rs, b/fourth.rs uses S of a/second.rs\n");
    }

    /// A folder's own file and the files in it may use each other.
    #[test]
    fn a_folder_and_its_parts_are_no_circle() {
        let own = ("a/mod.rs", "mod child; use child::Child; pub struct Own(Child);");
        assert_eq!(circles(&[("lib.rs", "mod a;"), own, ("a/child.rs", "use super::Own; pub struct Child;")]), "");
    }

    /// A name resolves to the file that defines the item, and test modules are ignored.
    #[test]
    fn names_lead_to_where_items_are_defined() {
        let told = circles(&[
            ("lib.rs", "mod a; mod b; pub use a::A;"),
            ("a/mod.rs", "mod low; mod high; pub use low::Low; pub use high::A;"),
            ("a/low.rs", "pub struct Low; #[cfg(test)] mod tests { use crate::b::B; use super::super::A; }"),
            ("a/high.rs", "use super::Low; /* use crate::b::B; */ pub struct A(Low, std::fmt::Error);"),
            ("b.rs", "use crate::A; mod inside { use super::B; use super::super::A as Again; } pub struct B;"),
        ]);
        assert_eq!(told, "");
    }
}
